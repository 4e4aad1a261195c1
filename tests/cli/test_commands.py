"""`python -m alfresco_backup`: status, pin and unpin as people, cron and monitoring run them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from alfresco_backup.backup.proof import Proof, write_proof
from alfresco_backup.cli.commands import env_file_of, parse
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.times import make_stamp, utc_now
from demo.host import DemoHost
from tests.support.catalogues import age
from tests.support.repository_on_disk import DiskRepository
from tests.support.restorable_repositories import (
    HOUR,
    copy_of,
    mark_verified,
    restorable_repository,
    segment_at,
)

pytestmark = pytest.mark.slow

WITHOUT_PREFECT = "import sys; sys.modules['prefect'] = None; "
RUN = "from alfresco_backup.__main__ import main; "
NOBODY = 65534


def command(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run it with next to nothing in the environment; whoever imports Prefect fails."""
    code = f"{WITHOUT_PREFECT}{RUN}\n{before}sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=PROJECT_DIRECTORY,
        env={"PATH": "/usr/bin:/bin", "HOME": "/"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> DiskRepository:
    return restorable_repository(
        tmp_path_factory.mktemp("template") / "backup", utc_now(), ("2d", "1d", "3h")
    )


@pytest.fixture
def disk(template: DiskRepository, reachable_path: Path) -> DiskRepository:
    return copy_of(template, reachable_path / "backup")


@pytest.fixture
def env_file(disk: DiskRepository) -> Path:
    return settings_file(disk.repository.root)


def settings_file(root: Path) -> Path:
    file = root.parent / "host.env"
    file.write_text(
        f"PGHOST=localhost\nPGUSER=alfresco\nBACKUP_DIR={root}\nALF_BASE_DIR={root}\nALF_HOST_NAME=alf1\n"
    )
    file.chmod(0o600)
    return file


def test_status_needs_no_prefect_and_ends_with_0_when_all_is_well(disk, env_file):
    mark_verified(disk)
    done = command("status", env_file)
    assert (done.returncode, done.stderr) == (0, "")
    first, _, problems, *_ = done.stdout.splitlines()
    assert first.startswith("alf1: restorable from ") and first.endswith(" (no gaps)")
    assert problems == "No problems."


def test_the_module_is_a_program(disk, env_file):
    done = subprocess.run(
        [sys.executable, "-m", "alfresco_backup", "status", env_file],
        cwd=PROJECT_DIRECTORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.startswith("alf1: restorable from ")


def test_exit_codes_tell_attention_from_nothing_restorable(disk, env_file):
    segment_at(disk.repository, disk.now - HOUR).unlink()
    attention = command("status", env_file)
    assert attention.returncode == 5 and "ERROR: WAL gap: " in attention.stdout
    for path in disk.repository.wal.glob("*.zst"):
        path.unlink()
    nothing = command("status", env_file)
    assert nothing.returncode == 6 and nothing.stdout.startswith("alf1: nothing can be restored: ")


def test_a_missing_backup_dir_is_a_clear_error(tmp_path):
    env_file = settings_file(tmp_path / "not-mounted")
    told = f"BACKUP_DIR={tmp_path}/not-mounted does not exist; its disk may not be mounted"
    for arguments in (
        ("status",),
        ("pin", "20261122T020000Z", "--reason", "x", "--env"),
        ("unpin", "20261122T020000Z", "--env"),
    ):
        done = command(*arguments, env_file)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"HostNotReady: {told}\nHINT: namei -l {tmp_path}/not-mounted\n"
    as_json = command("status", "--json", env_file)
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout) == {
        "schema": 2,
        "state": "error",
        "exit_code": 1,
        "error": {"kind": "HostNotReady", "message": told, "fix": f"namei -l {tmp_path}/not-mounted"},
    }


def test_wrong_settings_and_arguments_end_with_2(tmp_path):
    missing = command("status", "--json", tmp_path / "none.env")
    assert missing.returncode == 2
    assert json.loads(missing.stdout)["error"]["kind"] == "SettingsError"
    for wrong in (("frobnicate",), (), ("status", "--jso"), ("pin",)):
        done = command(*wrong)
        assert done.returncode == 2 and "usage: python -m alfresco_backup" in done.stderr
        told = command(*wrong, "--json")
        error = json.loads(told.stdout)["error"]
        assert (told.returncode, error["kind"], told.stderr) == (2, "SettingsError", done.stderr)
        assert error["message"].startswith("1 argument is missing or wrong:")
        assert error["fix"].endswith(" --help")


def test_the_settings_are_named_by_an_argument_or_an_option_but_not_twice(
    env_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def named(*words: str) -> Path | None:
        return env_file_of(parse(["status", *words])[1])

    file = str(env_file)
    assert named("--json", file) == named("--env", file, "--json") == env_file
    assert named("--json") is None
    with pytest.raises(SystemExit):
        named("--env", file, file)
    assert "not allowed with argument --env" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["backup.py", "drill.py", "restore.py --mode full"])
def test_every_program_knows_the_same_option_for_its_settings(typed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *typed.split(), "--env", tmp_path / "none.env"],
        cwd=PROJECT_DIRECTORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 2 and f"{tmp_path}/none.env" in done.stderr


def test_the_json_document_has_the_documented_fields_and_no_others(disk, env_file):
    stamp = make_stamp(disk.now - age("2d"))
    write_proof(disk.repository.base(stamp), Proof(stamp, disk.now, None, 60.0, 12, 0))
    assert command("pin", stamp, "--env", env_file, "--reason", "why not").returncode == 0
    segment_at(disk.repository, disk.now - HOUR).unlink()
    done = command("status", "--json", env_file)
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"], document["state"]) == (5, 5, "attention")
    assert document["schema"] == 2 and document["host"] == "alf1"
    documented = documented_fields()
    assert set(document) | {"error"} >= documented[""] - {"error"}
    assert set(document) == documented[""]
    for name in ("gaps", "sets", "runs", "problems"):
        assert {tuple(sorted(item)) for item in document[name]} == {tuple(sorted(documented[f"{name}[]"]))}
    assert set(document["space"]) == documented["space"]
    pinned = next(item for item in document["sets"] if item["backup_id"] == stamp)
    assert pinned["pin"]["reason"] == "why not" and pinned["restore_drill"]["sound"] is True
    assert [part["name"] for part in pinned["parts"]] == ["database", "contentstore", "configuration"]


def documented_fields() -> dict[str, set[str]]:
    """The names in the first column of the tables of the reference, by heading."""
    fields: dict[str, set[str]] = {"": set()}
    heading = ""
    for line in (PROJECT_DIRECTORY / "docs/reference/status-json.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
            fields[heading] = set()
        elif line.startswith("| `"):
            names = re.findall(r"`([a-z_]+)(?:\[\])?`", line.split("|")[1])
            fields[heading].update(names)
    return fields


def test_pins_come_and_go_and_show_in_the_status(disk, env_file):
    stamp = make_stamp(disk.now - age("2d"))
    pinned = command("pin", stamp, "--env", env_file, "--reason", "before the upgrade")
    assert (pinned.returncode, pinned.stdout) == (0, f"set {stamp} is pinned: before the upgrade\n")
    assert "    pinned  before the upgrade (since " in command("status", env_file).stdout
    unpinned = command("unpin", stamp, "--env", env_file)
    told = f"set {stamp} is no longer pinned (it was: before the upgrade)\n"
    assert (unpinned.returncode, unpinned.stdout) == (0, told)
    assert "pinned " not in command("status", env_file).stdout


def test_what_cannot_be_pinned_is_refused_with_3(disk, env_file):
    stamp = make_stamp(disk.now - age("2d"))
    newest = make_stamp(disk.now - age("3h"))
    absent = command("pin", "20200101T000000Z", "--env", env_file, "--reason", "why not")
    assert absent.returncode == 3
    assert f"Refused: there is no set '20200101T000000Z'; there are: {newest}, " in absent.stderr
    reasonless = command("pin", stamp, "--env", env_file)
    assert reasonless.returncode == 3 and "pin needs a reason: --reason" in reasonless.stderr
    assert f"-m alfresco_backup pin {stamp} --reason 'before the upgrade'" in reasonless.stderr
    unpinned = command("unpin", stamp, "--env", env_file)
    assert unpinned.returncode == 3 and "nothing is pinned" in unpinned.stderr
    assert not disk.repository.pins.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_an_ordinary_user_sees_what_he_may_read(disk, env_file):
    """Root goes through it once, so that everything of Python is loaded that the user may not reach."""
    quietly = "import contextlib, io, os\nwith contextlib.redirect_stdout(io.StringIO()): "
    rehearse = f"{quietly}main(['status', '{env_file}'])\n"
    become = f"{rehearse}os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
    env_file.chmod(0o644)
    whole = command("status", env_file, before=become)
    assert whole.returncode == 0, whole.stderr
    refused = command(
        "pin", make_stamp(disk.now - age("2d")), "--env", env_file, "--reason", "x", before=become
    )
    assert refused.returncode == 1
    assert "cannot be changed: Permission denied; only root and the owner of BACKUP_DIR may" in refused.stderr
    closed = disk.repository.base(make_stamp(disk.now - age("1d")))
    closed.chmod(0o700)
    disk.repository.logs.chmod(0o700)
    part = command("status", env_file, before=become)
    assert part.returncode == 5
    assert f"ERROR: postgres/{closed.name}: cannot be read: Permission denied: {closed}" in part.stdout
    assert f"ERROR: logs: cannot be read: Permission denied: {disk.repository.logs}" in part.stdout
    assert part.stdout.startswith("alf1: restorable from ")


@pytest.mark.usefixtures("prefect_server")
def test_a_demo_host_that_was_backed_up_is_well(demo_host: DemoHost, tmp_path: Path):
    server = {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    backup = subprocess.run(
        [sys.executable, PROJECT_DIRECTORY / "backup.py", demo_host.env_file],
        cwd="/",
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **server},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert backup.returncode == 0, backup.stderr
    done = command("status", "--json", demo_host.env_file)
    document: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, document["problems"]) == (0, [])
    (only,) = document["sets"]
    assert only["complete"] and only["kept"] and only["restore_drill"] is None
    assert only["why"] == "ended within the recovery window of 7 days"
    assert document["window"]["from"] == only["restorable"][0]["from"]
    assert [run["state"] for run in document["runs"]] == ["published"]
    assert document["space"]["trend"].startswith("too little history for a trend: 0.0 of 3 days")
