"""How the receiver is started: by `make serve` where it is wanted, by a unit, and refused where it is not."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from alfresco_backup.cli.commands import parse
from alfresco_backup.errors import Refused
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.streaming.receiver import receive
from deployments import serve

NEEDED = "PGHOST=localhost\nPGUSER=alfresco\nBACKUP_DIR=/backup\nALF_BASE_DIR=/opt/alfresco\n"


def host_with(folder: Path, streaming: str) -> Host:
    env_file = folder / ".env"
    env_file.write_text(f"{NEEDED}WAL_STREAMING={streaming}\n")
    env_file.chmod(0o600)
    return load_host(env_file)


def test_serve_runs_a_receiver_only_where_wal_is_to_be_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(serve, "running", lambda *words: started.append(words) or nullcontext())
    with serve.receiving(host_with(tmp_path, "no").settings, tmp_path / ".env"):
        assert started == []
    with serve.receiving(host_with(tmp_path, "yes").settings, tmp_path / ".env"):
        ((_, _, module, program, *words),) = started
    assert (module, program) == ("-m", "alfresco_backup")
    verb, typed = parse(words)
    assert (verb.name, typed.env) == ("wal-receiver", tmp_path / ".env")


def test_the_unit_runs_the_verb_and_is_not_started_again_where_that_changes_nothing() -> None:
    unit = (PROJECT_DIRECTORY / "deployments/systemd/wal-receiver@.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    verb, typed = parse(line.partition(" -m alfresco_backup ")[2].split())
    assert (verb.name, str(typed.env)) == ("wal-receiver", "/etc/alfresco-backup/%i.env")
    assert "\nRestartPreventExitStatus=2 3\n" in unit
    assert Refused.exit_code == 3


def test_a_receiver_that_is_not_wanted_is_refused_with_the_setting_to_edit(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        receive(lambda: host_with(tmp_path, "no"), print)
    assert refused.value.message == "WAL streaming is not set up"
    assert refused.value.hint.endswith("WAL_STREAMING=yes")
