"""What a drill could not verify, for want of a program that works, is neither damage nor a proof."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.errors import NotVerified
from alfresco_backup.postgres.programs import program_of_version
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, Settings
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from demo.cluster import available_bindirs, default_bindir, stated_version
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_drill import restore_drill
from tests.support.common import temporary_demo_host
from tests.support.restoring import loaded

MANIFEST_FROM = 13
CRASHES = '#!/bin/sh\n[ "$1" = --version ] && echo "{name} (PostgreSQL) {version}" && exit\n{end}\n'


def crash(host: DemoHost, *names: str, end: str = "kill -SEGV $$") -> None:
    """Let programs of the installation state their version, and then only end."""
    folder = host.home / "postgresql/bin"
    real = folder.resolve()
    folder.unlink()
    folder.mkdir()
    for program in real.iterdir():
        (folder / program.name).symlink_to(program)
    for name in names:
        (folder / name).unlink(missing_ok=True)
        version = stated_version(real)
        text = CRASHES.format(name=name, version=f"{version // 10000}.{version % 10000}", end=end)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def others() -> list[Path]:
    """The newest server before 13 and the newest of all, as far as they are here beside the usual one."""
    found = {stated_version(path) // 10000: path for path in available_bindirs()}
    wanted = {max((major for major in found if major < MANIFEST_FROM), default=0), max(found)}
    return [found[major] for major in sorted(wanted & found.keys()) if found[major] != default_bindir()]


@pytest.fixture
def host(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoHost]:
    if stated_version(default_bindir()) // 10000 < MANIFEST_FROM:
        pytest.skip("pg_verifybackup came with PostgreSQL 13")
    with temporary_demo_host(documents=20) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield host


def test_programs_that_crash_have_verified_nothing_and_found_nothing(
    host: DemoHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup()
    assert "every file agrees with the manifest" in restore_drill(target_time="end")
    monkeypatch.setattr("tasks.drill.drill.has_page_checksums", lambda _: True)
    crash(host, "pg_verifybackup", "pg_checksums")
    with pytest.raises(NotVerified) as told:
        restore_drill(target_time="end")
    major = stated_version(default_bindir()) // 10000
    assert "was restored, but not all of it could be verified: " in told.value.message
    for name in ("pg_verifybackup", "pg_checksums"):
        assert f"{name} was killed by signal 11" in told.value.message
    assert told.value.hint == f"apt install postgresql-{major}"
    (proof,) = (host.backup_dir / "postgres").glob("base-*/proven.json")
    written = json.loads(proof.read_text())
    assert (written["findings"], written["missing"], len(written["unverified"])) == ([], 0, 2)
    status = read_status(loaded(host).settings, utc_now())
    assert "NOT verified: " in status_text(status) and "signal 11" in status_text(status)
    assert [item.level for item in status.problems if "could not verify" in item.sentence] == ["unknown"]


def test_a_program_that_gets_no_memory_has_found_no_damage(host: DemoHost) -> None:
    """It ends with 1 then, as it does where it finds damage."""
    backup()
    crash(host, "pg_verifybackup", end="echo 'out of memory' >&2; exit 1")
    with pytest.raises(NotVerified, match="out of memory"):
        restore_drill(target_time="end")
    (proof,) = (host.backup_dir / "postgres").glob("base-*/proven.json")
    written = json.loads(proof.read_text())
    assert (written["findings"], len(written["unverified"])) == ([], 1)


@pytest.mark.slow
@pytest.mark.parametrize("bindir", others(), ids=lambda bindir: str(stated_version(bindir) // 10000))
def test_the_version_says_whether_a_program_that_crashes_was_needed(
    bindir: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(bindir, documents=20) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        backup()
        crash(host, "pg_verifybackup")
        if stated_version(bindir) // 10000 < MANIFEST_FROM:
            report = restore_drill(target_time="end")
            assert "20 documents checked" in report and "manifest" not in report
        else:
            with pytest.raises(NotVerified, match="pg_verifybackup was killed by signal 11"):
                restore_drill(target_time="end")
        (proof,) = (host.backup_dir / "postgres").glob("base-*/proven.json")
        written = json.loads(proof.read_text())
        assert written["findings"] == []
        assert len(written["unverified"]) == int(stated_version(bindir) // 10000 >= MANIFEST_FROM)


def test_a_program_of_another_version_is_not_used_and_those_found_are_named(tmp_path: Path) -> None:
    for name, version in (("pg_verifybackup", "16.4"), ("psql", "16.4")):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {version}"\n')
        (tmp_path / name).chmod(0o755)
    settings = Settings(  # type: ignore[call-arg]
        pg_bindir=tmp_path,
        alf_base_dir=tmp_path / "alf",
        backup_dir=tmp_path,
        pghost="127.0.0.1",
        pguser="alfresco",
        alf_host_name="demo",
    )
    assert program_of_version(settings, "pg_verifybackup", 160002).directory == tmp_path
    with pytest.raises(NotVerified) as told:
        program_of_version(settings, "pg_verifybackup", 170002)
    words = "there is no pg_verifybackup of PostgreSQL 17 on this host; found: "
    assert told.value.message.startswith(words) and f"{tmp_path} (16.4)" in told.value.message
    assert told.value.hint == "apt install postgresql-17"
