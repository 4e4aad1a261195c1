"""The recovery settings against a server of every version there is here: each must accept and obey them.

Paths are awkward on purpose, the restored files carry settings of an earlier recovery, and max_connections
was raised after the copy was made, which stops a server that recovers as a hot standby.
"""

import shlex
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from alfresco_backup.postgres.conf_file import AUTO_CONF, CONF, quoted
from alfresco_backup.postgres.timelines import parse_history
from alfresco_backup.postgres.versions import VersionFacts, facts_of
from alfresco_backup.restore.planning.plan import Target
from alfresco_backup.restore.recovery.recovery_settings import (
    Recovery,
    after_promotion,
    recovery_files,
    restore_wal_command,
)
from demo.cluster import Cluster, major_version
from demo.places import give_to, server_account
from tests.support.common import every_version, wait_until

pytestmark = pytest.mark.slow

WAL_COMMANDS = Path(__file__).parents[3] / "deployments/wal"
STALE = "recovery_target_xid = '3'\nrecovery_min_apply_delay = '1h'\narchive_cleanup_command = 'false'\n"
STALE_AUTO = "recovery_target_name = 'earlier'\nprimary_conninfo = 'host=elsewhere'\nwork_mem = '5MB'\n"


@every_version
def test_a_server_stops_exactly_where_it_is_told_and_then_forgets_it(
    bindir: Path, reachable_path: Path
) -> None:
    place = reachable_path / "it's 100% here"
    place.mkdir()
    give_to(place, server_account())
    facts = facts_of(major_version(bindir))
    original = Cluster(bindir, place / "original/data", durable=False).create()
    programs, archive = place / "wal commands", place / "the archive"
    for folder in (programs, archive):
        folder.mkdir()
        give_to(folder, server_account())
    for name in ("archive-wal", "restore-wal"):
        shutil.copy(WAL_COMMANDS / name, programs)
    archive_command = f'{shell(programs / "archive-wal")} "%p" "%f" {shell(archive)}'
    original.configure(
        wal_level=facts.recommended_wal_level, archive_mode="on", archive_command=archive_command
    )
    copy = cold_copy(original, place / "copy/data")
    moment = speak(original, facts)
    command = restore_wal_command(programs / "restore-wal", [archive, place])

    warnings = prepare(copy, facts, Recovery(Target("time", moment), 1, command))
    assert sum("recovery_target_name" in line for line in warnings) == 1
    recover(copy)
    assert copy.sql("SELECT word FROM said ORDER BY id") == [("before",), ("at",)]
    assert copy.sql("SELECT pg_is_in_recovery()") == [("f",)]
    history = parse_history(2, (copy.directory / facts.wal_directory / "00000002.history").read_text())
    reason = history.spans[0].reason
    assert reason.startswith("before ")
    assert datetime.fromisoformat(reason.removeprefix("before ")) > moment
    forget(copy)
    assert copy.sql("SHOW hot_standby") == [("on",)]
    assert copy.sql("SHOW work_mem") == [("5MB",)]
    assert copy.sql("SELECT word FROM said ORDER BY id") == [("before",), ("at",)]
    copy.stop()


def shell(path: Path) -> str:
    return shlex.quote(str(path)).replace("%", "%%")


def cold_copy(original: Cluster, directory: Path) -> Cluster:
    """A copy of the stopped cluster on a port of its own, with settings left from earlier recoveries."""
    copy = Cluster(original.bindir, directory, durable=False)
    directory.parent.mkdir()
    give_to(directory.parent, server_account())
    shutil.copytree(original.directory, directory, symlinks=True)
    for path in (directory, *directory.rglob("*")):
        give_to(path, server_account())
    copy.configure(port=copy.port, unix_socket_directories=str(copy.socket_directory), hot_standby="on")
    copy.configure(timezone="Asia/Kolkata")
    return copy


def speak(cluster: Cluster, facts: VersionFacts) -> datetime:
    """Commit before, at and after a moment, all archived; that moment."""
    cluster.configure(max_connections=60)
    cluster.start()
    cluster.sql("CREATE TABLE said (id serial, word text)")
    cluster.sql("INSERT INTO said (word) VALUES ('before')")
    cluster.sql("INSERT INTO said (word) VALUES ('at')")
    [[moment]] = cluster.sql("SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.USOF')")
    cluster.sql("INSERT INTO said (word) VALUES ('after')")
    cluster.sql(f"SELECT {facts.switch_wal}()")
    cluster.stop()
    return datetime.fromisoformat(moment)


def prepare(cluster: Cluster, facts: VersionFacts, recovery: Recovery) -> tuple[str, ...]:
    """Write the settings into a data directory that holds stale ones; the warnings."""
    settings_are_ordinary = bool(facts.signal_file)
    conf = (cluster.directory / CONF).read_text() + STALE * settings_are_ordinary
    write(cluster, {CONF: conf, AUTO_CONF: STALE_AUTO, "recovery.done": "standby_mode = 'on'\n"})
    files = recovery_files(facts, recovery, conf, STALE_AUTO, cluster.directory)
    for name in files.remove:
        (cluster.directory / name).unlink(missing_ok=True)
    write(cluster, files.write)
    return files.warnings


def write(cluster: Cluster, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (cluster.directory / name).write_text(text)
        give_to(cluster.directory / name, server_account())


def recover(cluster: Cluster) -> None:
    """Start and wait until it lets somebody in: without hot_standby that is after its promotion."""
    cluster.start()

    def let_in() -> bool:
        try:
            assert cluster.sql("SELECT pg_is_in_recovery()") == [("f",)]
        except ToolFailed:
            assert cluster.running, cluster.log.read_text()[-2000:]
            return False
        return True

    wait_until(let_in, lambda: cluster.log.read_text()[-2000:])


def forget(cluster: Cluster) -> None:
    """Clean up twice, as after a kill between the two, and restart."""
    for _ in range(2):
        files = after_promotion((cluster.directory / AUTO_CONF).read_text())
        for name in files.remove:
            (cluster.directory / name).unlink(missing_ok=True)
        write(cluster, files.write)
    assert (cluster.directory / AUTO_CONF).read_text() == f"work_mem = {quoted('5MB')}\n"
    cluster.stop()
    cluster.start()
