"""Doctor asks Alfresco's REST API where an upload is set up, and names what keeps it from being used."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.upload import check_upload
from alfresco_backup.findings import Finding
from alfresco_backup.host.host import Host
from alfresco_backup.settings.model import Settings
from alfresco_backup.times import utc_now
from tests.support.alfresco_api import PASSWORD, USER, fake_alfresco

NEEDED = {"pghost": "/run", "pguser": "backup", "backup_dir": "/backup", "alf_base_dir": "/opt/alfresco"}


def found(address: str, password: str = PASSWORD) -> list[Finding]:
    login = {"alf_api_url": address, "alf_api_user": USER, "alf_api_password": password}
    settings = Settings.model_validate({**NEEDED, **login})
    host = cast(Host, SimpleNamespace(settings=settings))
    return check_upload(CheckContext(host, Path("/etc/alf1.env"), utc_now(), {}))


def test_an_api_that_answers_is_good_and_a_wrong_password_is_named() -> None:
    with fake_alfresco() as site:
        [good] = found(site.address)
        assert (good.level, good.subject) == ("ok", "upload")
        assert good.sentence.startswith(f"{site.address} answers {USER} with Company Home")
        [bad] = found(site.address, "not this one")
    assert bad.level == "warning"
    assert "does not accept ALF_API_USER" in bad.sentence and "not this one" not in str(bad)
    assert "ALF_API_PASSWORD=" in bad.fix


def test_an_alfresco_that_is_down_is_a_warning_for_backups_need_it_not() -> None:
    with fake_alfresco() as site:
        address = site.address
    [down] = found(address)
    assert down.level == "warning" and "cannot be reached" in down.sentence
    assert down.fix.startswith("curl -sS -u restorer ")


def test_a_password_that_would_cross_the_network_unencrypted_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fake_alfresco() as site:
        assert [item.level for item in found(site.address.replace("127.0.0.1", "localhost"))] == ["ok"]
        monkeypatch.setattr("alfresco_backup.doctor.upload._is_here", lambda _: False)
        first, second = found(site.address)
    assert first.level == "warning" and "unencrypted" in first.sentence
    assert second == replace(second, level="ok")


def test_nothing_is_said_where_no_upload_is_set_up() -> None:
    assert found("") == []
