"""How the receiver is started: by `make serve` where it is wanted, by a unit, and refused where it is not."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from alfresco_backup.cli.commands import parse
from alfresco_backup.errors import Refused
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.streaming.receiver import cause_of, receive
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
    assert not [line for line in unit.splitlines() if line.startswith(("ProtectHome=", "ProtectSystem="))], (
        "BACKUP_DIR may be anywhere"
    )


BEGUN = 'pg_receivewal: error: could not send replication command "START_REPLICATION": '
STREAMED = "pg_receivewal: error: unexpected termination of replication stream: "


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            STREAMED + "ERROR:  requested WAL segment 000000010000000000000003 has already been removed",
            "removed",
        ),
        (
            STREAMED + "FEHLER:  das angeforderte WAL-Segment 000000010000000A000000F3 wurde schon entfernt",
            "removed",
        ),
        (
            BEGUN + "FEHLER:  angeforderter Startpunkt 0/9000000 auf Zeitleiste 1 ist nicht in der History "
            "dieses Servers\nDETAIL:  Die History dieses Servers zweigte von Zeitleiste 1 bei 0/70000A0 ab.",
            "other way",
        ),
        (
            BEGUN
            + "FEHLER:  angeforderter Startpunkt 0/A000000 ist vor der WAL-Flush-Position dieses Servers "
            "0/7000148",
            "other way",
        ),
        ("pg_receivewal: error: starting timeline 2 is not present in the server", "other way"),
        (BEGUN + "FEHLER:  Replikations-Slot »alfresco_backup_alf1« ist aktiv für PID 4711", ""),
        (STREAMED + "FATAL:  Verbindung wird abgebrochen aufgrund von Anweisung des Administrators", ""),
        (
            'pg_receivewal: error: could not open write-ahead log file "000000010000000000000003": '
            "No space left on device",
            "",
        ),
    ],
)
def test_where_to_go_on_is_told_from_what_the_server_names_in_any_language(said: str, cause: str) -> None:
    assert cause_of(said) == cause


def test_a_receiver_that_is_not_wanted_is_refused_with_the_setting_to_edit(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        receive(lambda: host_with(tmp_path, "no"), print)
    assert refused.value.message == "WAL streaming is not set up"
    assert refused.value.hint.endswith("WAL_STREAMING=yes")
