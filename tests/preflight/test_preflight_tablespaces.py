"""What lies beside PostgreSQL's own folder in a tablespace is none of a backup's business."""

import os
from pathlib import Path

from alfresco_backup.preflight.database import check_tablespaces
from alfresco_backup.preflight.files import check_data_directory
from alfresco_backup.system.accounts import account_for_people
from demo.host import DemoHost
from demo.places import give_to
from tests.support.common import run_on
from tests.support.places import reachable_directory


def closed(folder: Path) -> Path:
    """A folder that PostgreSQL's account cannot enter: root's, as `lost+found`, or without any permission."""
    folder.mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    return folder


def test_a_tablespace_may_be_a_mount_point_with_its_lost_and_found(demo_host: DemoHost) -> None:
    with reachable_directory() as place:
        give_to(place, demo_host.cluster.account)
        demo_host.cluster.sql(f"CREATE TABLESPACE aside LOCATION '{place}'")
        host = run_on(demo_host).host
        stray = closed(place / "lost+found")
        assert check_data_directory(host).level == "ok"
        (own,) = place.glob("PG_*")
        inside = closed(own / "made by root")
        finding = check_data_directory(host)
        assert finding.level == "error" and f"/{own.name}/{inside.name}" in finding.sentence
        for folder in (stray, inside):
            folder.rmdir()
        demo_host.cluster.sql("DROP TABLESPACE aside")


def test_a_tablespace_that_postgresql_may_not_enter_is_found(demo_host: DemoHost) -> None:
    """As after a `chown` of the disk it is on: its account does not even get to what it keeps there."""
    with reachable_directory() as place:
        give_to(place, demo_host.cluster.account)
        demo_host.cluster.sql(f"CREATE TABLESPACE aside LOCATION '{place}'")
        host = run_on(demo_host).host
        if os.geteuid() == 0:
            os.chown(place, 0, 0)
        place.chmod(0o700 if os.geteuid() == 0 else 0)
        finding = check_data_directory(host)
        assert finding.level == "error"
        assert finding.sentence == f"1 file cannot be read by {account_for_people(host.account)}: {place}"
        place.chmod(0o700)
        give_to(place, demo_host.cluster.account)
        assert check_data_directory(host).level == "ok"
        demo_host.cluster.sql("DROP TABLESPACE aside")


def test_a_tablespace_whose_files_are_gone_is_an_error(demo_host: DemoHost) -> None:
    """As where its disk is not mounted: pg_basebackup would copy it as an empty one, without an error."""
    with reachable_directory() as place:
        give_to(place, demo_host.cluster.account)
        demo_host.cluster.sql(f"CREATE TABLESPACE aside LOCATION '{place}'")
        host = run_on(demo_host).host
        assert check_tablespaces(host) == []
        (own,) = place.glob("PG_*")
        away = own.rename(place / "away")
        (finding,) = check_tablespaces(host)
        assert (finding.subject, finding.level) == ("tablespace aside", "error")
        assert f"its files are not in {place}" in finding.sentence
        assert f"mount {place}" in finding.fix
        away.rename(own)
        demo_host.cluster.sql("DROP TABLESPACE aside")
