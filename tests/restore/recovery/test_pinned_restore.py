"""A pinned set restores a real host after retention has removed everything around it."""

from datetime import timedelta

import pytest

from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.pins import pin_set
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_full import restore_full
from tests.support.common import temporary_demo_host
from tests.support.restoring import loaded

LATER = timedelta(days=30)


def live_on(host: DemoHost) -> None:
    """Work and archived WAL that only the sets of this time hold."""
    for _ in range(3):
        host.writer.add()
        host.writer.delete()
        host.cluster.sql(f"SELECT {facts_of(host.cluster.version).switch_wal}()")
    host.writer.close()


@pytest.mark.usefixtures("prefect_server")
def test_a_pinned_set_restores_a_host_after_a_month_of_retention(monkeypatch: pytest.MonkeyPatch):
    with temporary_demo_host(documents=100) as demo:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(demo.env_file))
        backup()
        in_set = demo.writer.state.copy()
        host = loaded(demo)
        pinned = read_catalogue(host.repository).sets[0]
        pin_set(host.repository, pinned.stamp, "before the upgrade", utc_now())
        live_on(demo)
        backup()
        live_on(demo)
        backup()
        settings = host.settings.model_copy(update={"minimum_redundancy": 1})
        carry_out(make_retention_plan(settings, now=utc_now() + LATER))

        left = read_catalogue(host.repository)
        assert left.sets[0].stamp == pinned.stamp and len(left.sets) == 2
        report = read_status(settings, utc_now() + LATER)
        assert [item.subject for item in report.problems if item.subject == "WAL gap"] == []
        assert report.gaps == () and [item.end_only for item in report.sets] == [False, True]
        assert report.headline.endswith(" (no gaps), and the end of 1 older base backup")

        restore_full(backup=pinned.stamp, mode="execute", confirm="demo")
        assert demo.read_state().difference(in_set) == []
        assert demo.missing_documents(in_set) == []
