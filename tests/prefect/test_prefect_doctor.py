"""Doctor on a real host with Prefect server, worker and mail: well by its own fixes, and red without."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.journal_record import Renamed, RestoreState
from alfresco_backup.times import make_stamp, utc_now
from tests.support.clinic import NAME, WRONG_ZONE, ZONE, Clinic, bad_of, open_clinic
from tests.support.common import wait_until
from tests.support.doctor_faults import SERVER_FAULTS, check_fault, cron_beside, schedule_off


@pytest.fixture(scope="module")
def clinic(slow: None) -> Iterator[Clinic]:
    with open_clinic() as opened:
        yield opened


@pytest.mark.parametrize("name", SERVER_FAULTS)
def test_a_fault_of_what_starts_backups_is_named_with_what_fixes_it(name: str, clinic: Clinic) -> None:
    check_fault(clinic, SERVER_FAULTS[name])


def same_disk(clinic: Clinic) -> set[str]:
    """Where this machine has only one file system for data and backups doctor says so, and rightly."""
    one = clinic.host.backup_dir.stat().st_dev == clinic.host.home.stat().st_dev
    return {"BACKUP_DIR's disk"} if one else set()


def test_a_host_is_well_after_all_that_doctor_said_was_typed(clinic: Clinic) -> None:
    at_first = {
        "zone of schedules",
        "timezone",
        "log_timezone",
        "newest backup",
        "base backups",
        "worker",
        "mail",
    }
    assert clinic.before.keys() - same_disk(clinic) == {*at_first, "newest segment"}
    zone, worker = clinic.before["zone of schedules"], clinic.before["worker"]
    assert zone.sentence == f"is {WRONG_ZONE}; this machine's and that of Alfresco's own jobs is {ZONE}"
    assert zone.fix.endswith(f" alfresco_backup deploy --env {clinic.host.env_file}")
    assert worker.sentence == f"none is online for {NAME}; the last heartbeat was never. No run starts"
    missing = "SMTP_HOST and ALERT_EMAIL not set; nobody is told when a backup fails"
    assert clinic.before["mail"].sentence == missing
    wait_until(lambda: clinic.bad().keys() <= same_disk(clinic), lambda: f"all is well: {clinic.bad()}")
    good = {item.subject: item.sentence for item in clinic.run_checks().findings if item.level == "ok"}
    assert good["schedule"] == f"deployment backup/{NAME}: 30 2 {clinic.day} * * {ZONE}"
    assert good["zone of schedules"] == f"is {ZONE}"
    assert good["concurrency limit"] == f"{NAME} is 1"
    drill = good["restore drill"]
    assert drill.endswith("documents missing") and ", 0 of " in drill
    assert "files of it" in good["keystore in the set"]
    assert (
        good["mail server"]
        == f"127.0.0.1:{clinic.mailbox.port} answers (INSECURE); mails go to ops@example.org"
    )


def test_looking_archives_a_segment_changes_nothing_else_and_sends_nothing(
    clinic: Clinic,
) -> None:
    def everything() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
            for path in clinic.host.backup_dir.rglob("*")
            if "pg_wal" not in path.parts
        }

    before, mails = everything(), len(clinic.mailbox.mails)
    report = clinic.run_checks()
    assert everything() == before and len(clinic.mailbox.mails) == mails
    tried = [item for item in report.findings if (item.group, item.subject) == ("PostgreSQL", "archiving")]
    assert [item.level for item in tried] == ["ok"]


def test_a_mail_is_sent_only_when_asked_for(clinic: Clinic) -> None:
    clinic.mailbox.read_all()
    report = clinic.run_checks(send_mail=True)
    good = {
        item.subject: item.sentence
        for item in report.findings
        if item.level == "ok" and item.group != "backups"
    }
    assert clinic.mailbox.mail("test of alerts")["To"] == "ops@example.org"
    assert clinic.mailbox.subjects() == ["[alfresco-backup] demo (Demo): test of alerts"]
    assert good["mail"].endswith("accepted a mail to ops@example.org; check that it arrives")
    assert good["archiving"].startswith("works: segment 00000001")


def test_backups_drills_and_what_was_set_aside_grow_old(clinic: Clinic) -> None:
    later = utc_now() + timedelta(hours=30)
    old = clinic.bad(group="backups", now=later)
    assert "30 h 00 min ago; the limit is 26 h" in old["newest backup"].sentence or (
        "30 h" in old["newest backup"].sentence
    )
    assert (old["newest backup"].level, old["newest backup"].fix) == (
        "error",
        clinic.before["newest backup"].fix,
    )
    assert "restore drill" not in old
    aside = clinic.host.directory / "aside"
    aside.mkdir()
    folder = clinic.host.backup_dir / "restores" / NAME / make_stamp(utc_now())
    folder.mkdir(parents=True)
    journal = Journal.begin(folder, folder.name, NAME, {"kind": "full"})
    journal.act(Renamed(clinic.host.directory / "was", aside, aside.stat().st_dev, aside.stat().st_ino))
    journal.state(RestoreState.COMPLETED)
    try:
        assert "set aside" not in clinic.bad(group="backups")
        older = clinic.bad(group="backups", now=utc_now() + timedelta(days=31))
        told = f"data that restore {folder.name} set aside is still on disk: {aside}"
        assert older["set aside"].sentence == told
        assert f"--backup {folder.name} --discard --execute --confirm {NAME}" in older["set aside"].fix
        assert older["restore drill"].fix.endswith(f"alfresco_backup drill --env {clinic.host.env_file}")
        assert older["restore drill"].sentence.endswith("one in 15 days is expected")
    finally:
        journal.path.unlink()
        folder.rmdir()
        aside.rmdir()


def test_a_worker_that_died_is_named(clinic: Clinic) -> None:
    """One with a sign of life every other second: the usual one counts as alive for a minute and a half."""
    clinic.kill_worker()
    clinic.forget_workers()
    try:
        clinic.start_worker(PREFECT_WORKER_HEARTBEAT_SECONDS="2")
        wait_until(lambda: "worker" not in clinic.bad(group="schedule"), "a worker is online")
        clinic.kill_worker()
        wait_until(lambda: "worker" in clinic.bad(group="schedule"), "the worker counts as dead")
        found = clinic.bad(group="schedule")["worker"]
        assert found.level == "error"
        assert (
            f"none is online for {NAME}; the last heartbeat was " in found.sentence
            and " ago" in found.sentence
        )
        assert found.fix == f"systemctl restart prefect-worker@{NAME}\njournalctl -u prefect-worker@{NAME}"
    finally:
        clinic.start_worker()
        wait_until(lambda: "worker" not in clinic.bad(group="schedule"), "the worker is online again")


def test_where_cron_makes_the_sets_no_worker_is_asked_for(clinic: Clinic) -> None:
    with schedule_off(clinic), cron_beside(clinic):
        report = clinic.run_checks()
        assert bad_of(report).keys() <= same_disk(clinic)
        good = {item.subject: item.sentence for item in report.findings if item.level == "ok"}
        assert good["worker"] == "none is needed: this machine starts its backups itself"
        assert good["schedule"].endswith("/etc/cron.d/alfresco-backup, line 2: 30 2 * * *")
