"""Sets that are pinned or kept for a year restore after retention has removed everything around them."""

import json
import os
import re
from datetime import UTC, datetime, timedelta

import pytest

from alfresco_backup.backup.proof import read_proof
from alfresco_backup.errors import Refused
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.pins import pin_set
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.status.assess import read_status
from alfresco_backup.system.json_fields import time_text
from alfresco_backup.times import utc_now
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_drill import restore_drill
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from tests.support.common import temporary_demo_host
from tests.support.restoring import loaded

LATER = timedelta(days=30)
TABLES = ("alf_node", "alf_content_url", "alf_content_data", "alf_transaction")


def live_on(host: DemoHost) -> None:
    """Work and archived WAL that only the sets of this time hold."""
    for _ in range(3):
        host.writer.add()
        host.writer.delete()
        host.cluster.sql(f"SELECT {facts_of(host.cluster.version).switch_wal}()")
    host.writer.close()


def date_back(host: DemoHost, base: BaseBackup, ended: datetime) -> None:
    """Let a base backup and its WAL have ended at another time; its ID and all that it is made of stay."""
    file = base.path / "backup.json"
    document = json.loads(file.read_text())
    document |= {"started_at": time_text(ended - timedelta(minutes=1)), "stopped_at": time_text(ended)}
    file.write_text(json.dumps(document))
    for segment in host.wal_archive.iterdir():
        if base.start_wal <= segment.name[:24] <= base.stop_wal:
            os.utime(segment, (ended.timestamp(), ended.timestamp()))


@pytest.mark.usefixtures("prefect_server")
def test_pinned_sets_and_those_of_years_restore_after_a_month_of_retention(monkeypatch: pytest.MonkeyPatch):
    """Five sets: a pinned one, two of a year, of which the last stays, one of the next, and the newest."""
    with temporary_demo_host(documents=60) as demo:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(demo.env_file))
        states = []
        for _ in range(5):
            backup()
            states.append(demo.writer.state.copy())
            live_on(demo)
        host = loaded(demo)
        sets = read_catalogue(host.repository).sets
        pin_set(host.repository, sets[0].stamp, "before the upgrade", utc_now())
        year = utc_now().year
        for item, ended in zip(
            sets, [(year - 2, 3, 1), (year - 2, 3, 3), (year - 2, 3, 5), (year - 1, 6, 7)], strict=False
        ):
            assert item.base
            date_back(demo, item.base, datetime(*ended, tzinfo=UTC))
        settings = host.settings.model_copy(update={"minimum_redundancy": 1, "keep_yearly": 3})
        carry_out(make_retention_plan(settings, now=utc_now() + LATER))

        left = read_catalogue(host.repository)
        assert [item.stamp for item in left.sets] == [sets[number].stamp for number in (0, 2, 3, 4)]
        report = read_status(settings, utc_now() + LATER)
        assert [item.subject for item in report.problems if item.subject == "WAL gap"] == []
        assert report.gaps == () and [item.end_only for item in report.sets] == [False, True, True, True]
        assert report.headline.endswith(" (no gaps), and the ends of 3 older base backups")

        for number in (2, 3):  # beside the host
            stamp = sets[number].stamp
            said = restore_drill(backup=stamp, target_time="end")
            assert "all are there" in said
            for table in TABLES:
                rows = len(states[number].tables[table])
                assert re.search(rf"^\| `{table}` +\| {rows:,} +\|$", said, re.MULTILINE)
            proof = read_proof(sets[number].base.path, stamp)
            assert proof.sound and proof.reached is None and proof.documents > 30
        with pytest.raises(
            Refused, match=f"base backup {sets[2].stamp} is kept without later WAL; the nearest"
        ):
            restore_pitr(target_time=datetime(year - 2, 12, 31, tzinfo=UTC))
        restore_full(backup=sets[0].stamp, mode="execute", confirm="demo")
        assert demo.read_state().difference(states[0]) == []
        assert demo.missing_documents(states[0]) == []
