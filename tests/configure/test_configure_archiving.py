"""archive_command is called good only when the server itself finds its program and a segment has arrived."""

from collections.abc import Iterator

import pytest

from alfresco_backup.doctor.archive import check_postgresql
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.findings import Finding
from alfresco_backup.host.host import load_host
from alfresco_backup.times import utc_now
from demo.cluster import default_bindir
from demo.home import ROLE
from tests.support.common import every_version
from tests.support.containers import contained, in_namespaces
from tests.support.unconfigured_hosts import PlainHost, plain_host

QUICKLY = 0.1
"""ARCHIVE_WAIT_MINUTES where no segment can arrive."""


@pytest.fixture(scope="module")
def plain(slow: None) -> Iterator[PlainHost]:
    with plain_host(default_bindir()) as host:
        host.backup_dir.mkdir()
        done = host.configure("--apply", "--restart")
        assert done.returncode == 0, done.stdout + done.stderr
        yield host


def wrong_with(host: PlainHost) -> dict[str, Finding]:
    """The errors of doctor's checks of PostgreSQL, by subject."""
    context = CheckContext(load_host(host.env_file), host.env_file, utc_now(), {})
    return {item.subject: item for item in check_postgresql(context) if item.level == "error"}


@pytest.mark.slow
@every_version
def test_where_nothing_is_to_change_a_segment_is_seen_to_arrive(bindir) -> None:
    with plain_host(bindir) as host:
        host.backup_dir.mkdir()
        done = host.configure("--apply", "--restart")
        assert done.returncode == 0, done.stdout + done.stderr
        before = {path.name for path in (host.backup_dir / "pg_wal").iterdir()}
        done = host.configure()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "nothing to change\nverified: WAL segment " in done.stdout
        assert {path.name for path in (host.backup_dir / "pg_wal").iterdir()} > before
        assert wrong_with(host) == {}


@in_namespaces
def test_a_program_that_the_servers_container_does_not_have_is_an_error_of_configure_and_doctor(
    plain: PlainHost,
) -> None:
    """Doctor looks no further: of a server in a container that no setting names it calls nothing good."""
    program = plain.commands / "archive-wal"
    said = f"archive_command runs {program}, which the server does not find"
    with contained(plain, at_another_path=False, without=plain.commands):
        assert program.exists()
        done = plain.configure()
        assert done.returncode == 5, done.stdout + done.stderr
        assert f"ERROR: WAL commands: {said}" in done.stdout
        found = wrong_with(plain)["PostgreSQL"]
        assert "PG_CONTAINER is not set" in found.sentence and "PG_CONTAINER" in found.fix
    assert wrong_with(plain) == {}


@in_namespaces
def test_a_server_whose_files_have_other_paths_is_not_half_configured(plain: PlainHost) -> None:
    with contained(plain):
        done = plain.configure("--apply")
    assert done.returncode == 1
    assert "pg_hba.conf is " in done.stderr and "which is not on this host" in done.stderr
    assert "done: " not in done.stdout


def test_a_program_that_runs_and_archives_nothing_is_no_success(plain: PlainHost) -> None:
    """Present, executable, found by the server, and of another's making: only the archive tells."""
    program = plain.commands / "archive-wal"
    text = program.read_text()
    program.write_text("#!/bin/sh\nexit 0\n")
    plain.write_env(PGSUPERUSER=ROLE, ARCHIVE_WAIT_MINUTES=QUICKLY)
    try:
        assert "archiving" in wrong_with(plain)
    finally:
        program.write_text(text)
