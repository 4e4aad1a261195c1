"""Where the records of real segments end: finished, being written, and cut off by a crash."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from alfresco_backup.postgres.database import last_checkpoint
from alfresco_backup.postgres.wal_files import Lsn, read_segment_header
from alfresco_backup.postgres.wal_records import RecordsEnd, checksum_is_right, open_segment
from demo.cluster import Cluster
from tests.support.common import every_version, wait_until

FILL = "INSERT INTO t SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 400000) i"


def segments(cluster: Cluster) -> Iterator[Path]:
    """The files of the server's folder that contain the WAL that their names say."""
    for path in sorted((cluster.directory / cluster.facts.wal_directory).iterdir()):
        with suppress(ValueError, IsADirectoryError):
            header = read_segment_header(path)
            if int(path.name[8:16], 16) * 256 + int(path.name[16:], 16) == int(header.address) >> 24:
                yield path


def end_of(path: Path) -> RecordsEnd:
    with open_segment(path) as records:
        found = records.records_end()
        if found.kind == "complete":
            assert records.last_records_end() == found
        return found


@every_version
def test_finished_segments_end_whole_and_the_one_being_written_with_the_last_checkpoint(
    cluster: Cluster,
) -> None:
    cluster.sql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 200000) i")
    switched = cluster.switch_segment()
    ends = [end_of(path).kind for path in segments(cluster) if path.name <= switched]
    assert len(ends) > 1 and set(ends) <= {"complete", "crossing"}
    cluster.stop()
    *_, last = segments(cluster)
    end = end_of(last)
    assert end.kind == "unfinished"
    checkpoint = last_checkpoint(cluster.directory)
    assert checkpoint is not None
    timeline, position = checkpoint
    with open_segment(last) as records:
        record = records.record_at(position)
        assert not isinstance(record, RecordsEnd)
        assert (timeline, record.end, record.at) == (1, end.at, position)
        if cluster.version >= 90500:
            body = records.body(position)
            assert checksum_is_right(body, records.header) is True
            assert checksum_is_right(body[:-1] + b"?", records.header) is False
        else:
            assert checksum_is_right(records.body(position), records.header) is None


SWITCH_ACROSS_PAGES = """
DO $$ DECLARE place int8; BEGIN
  LOOP
    place := mod(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'), 8192);
    EXIT WHEN place IN (8176, 8184);
    PERFORM pg_logical_emit_message(false, 'x', repeat('y', (random() * 200)::int));
  END LOOP;
  PERFORM pg_switch_wal();
END $$
"""


def test_a_segment_whose_switch_goes_over_two_pages_ends_whole(cluster: Cluster) -> None:
    """Behind it there are pages of zeros only: the last page on which a record begins is the one before."""
    for _ in range(3):
        cluster.sql("SELECT pg_logical_emit_message(false, 'x', 'the segment is begun')")
        name = cluster.current_segment()
        cluster.sql(SWITCH_ACROSS_PAGES)
        with open_segment(cluster.directory / cluster.facts.wal_directory / name) as records:
            assert records.last_records_end() == records.records_end() == RecordsEnd("complete", records.end)


@pytest.mark.parametrize("attempt", range(3))
def test_what_a_crash_cut_off_is_unfinished_and_not_damaged(cluster: Cluster, attempt: int) -> None:
    """WAL writers write whole pages: the last record may lack its end."""
    cluster.sql("CREATE TABLE t (i int, words text)")
    before = Lsn.parse(cluster.sql(f"SELECT {cluster.facts.current_lsn}()")[0][0])

    def fill() -> None:
        with suppress(ToolFailed):
            cluster.sql(FILL)

    writer = threading.Thread(target=fill)
    writer.start()
    wanted = before + (attempt + 1) * (5 << 20)
    query = f"SELECT {cluster.facts.current_lsn}()"
    wait_until(lambda: Lsn.parse(cluster.sql(query)[0][0]) > wanted, "there is WAL")
    pid = (cluster.directory / "postmaster.pid").read_text().split()[0]
    subprocess.run(["kill", "-KILL", pid], check=True)
    writer.join()
    wait_until(lambda: not cluster.running, "the server is gone")
    *finished, last = segments(cluster)
    assert {end_of(path).kind for path in finished} <= {"complete", "crossing"}
    assert end_of(last).kind in ("unfinished", "cut off", "crossing")
    (cluster.directory / "postmaster.pid").unlink()
