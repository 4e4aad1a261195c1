"""What prefect.yaml becomes for a host."""

from pathlib import Path

import pytest

from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from deployments.bootstrap import template_variables
from deployments.template import OFFSITE, fill_in, without_tag
from tests.support.all_flows import FLOWS, entrypoint


def test_only_the_flows_of_the_off_site_copy_and_the_drill_are_left_out_where_they_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "host.env"
    file.write_text(f"PGHOST=x\nPGUSER=x\nBACKUP_DIR={tmp_path}\nALF_BASE_DIR={tmp_path}\n")
    file.chmod(0o600)
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(file))
    monkeypatch.setenv("BACKUP_TIMEZONE", "Europe/Berlin")
    text = (PROJECT_DIRECTORY / "prefect.yaml").read_text()
    filled = fill_in(text, template_variables(load_settings(), file))

    def left_out(tag: str) -> set[str]:
        kept = {item["entrypoint"] for item in without_tag(filled, tag)["deployments"]}
        return {item["entrypoint"] for item in filled["deployments"]} - kept

    assert left_out(OFFSITE) == {entrypoint(name) for name in FLOWS if name.startswith("offsite_")}
