"""The words of mails about runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alfresco_backup.notify.messages import (
    LastGood,
    Mail,
    RunFacts,
    failure_mail,
    headline,
    overdue_mail,
    recovery_mail,
    scrub,
    success_mail,
)
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import for_people

MOMENT = datetime(2026, 11, 23, 2, 31, 10, tzinfo=UTC)
GOOD = LastGood("20261122T023000Z", datetime(2026, 11, 22, 2, 30, tzinfo=UTC))
FACTS = RunFacts(
    host="alf1",
    customer="ACME",
    flow="backup",
    run="backup 2026-11-23 set 20261123T023000Z",
    outcome="failed",
    moment=MOMENT,
    step="base backup",
    message="Flow run encountered an exception: ToolFailed: pg_basebackup ended with exit code 1; it said:\n"
    "no space left\nHINT: df -h /backup",
    tail=("12345/67890 kB (18%)", "no space left"),
    last_good=GOOD,
    window="restorable from A to B (no gaps)",
    link="http://prefect.example/runs/flow-run/1",
    log="/backup/logs/backup-20261123T023000Z.log",
)


def test_a_failure_says_where_what_and_since_when_in_its_subject() -> None:
    assert failure_mail(FACTS).subject == (
        "[alfresco-backup] alf1 (ACME): backup failed at base backup; "
        f"last good backup {for_people(GOOD.moment)}, 24 h 01 min old"
    )


def test_a_failure_says_all_that_is_needed_in_its_body() -> None:
    body = failure_mail(FACTS).body
    assert body.splitlines()[:6] == [
        "backup on alf1 (ACME) failed at base backup.",
        "",
        "  pg_basebackup ended with exit code 1; it said:",
        "  no space left",
        "  HINT: df -h /backup",
        "",
    ]
    assert "Restorable:       restorable from A to B (no gaps)\n" in body
    assert "http://prefect.example/runs/flow-run/1\n" in body
    assert "Raw output:       /backup/logs/backup-20261123T023000Z.log\n" in body
    assert body.endswith("Last lines of the tools' output:\n  12345/67890 kB (18%)\n  no space left\n")


def test_what_is_not_known_is_left_out_or_said() -> None:
    facts = replace(
        FACTS, customer="", step="", message="", tail=(), last_good=None, window="", link="", log=""
    )
    mail = failure_mail(facts)
    assert mail.subject == "[alfresco-backup] alf1: backup failed; there is no good backup"
    assert "Prefect has no error message of this run." in mail.body
    assert "Last good backup: none\nRestorable:       unknown\n" in mail.body
    assert "http" not in mail.body and "Raw output" not in mail.body


@pytest.mark.parametrize("outcome", ["crashed", "timed out", "was cancelled"])
def test_every_outcome_reads_as_a_sentence(outcome: str) -> None:
    mail = failure_mail(replace(FACTS, outcome=outcome))
    assert f": backup {outcome} at base backup; " in mail.subject
    assert mail.body.startswith(f"backup on alf1 (ACME) {outcome} at base backup.\n")


def test_a_recovery_names_the_failure_it_ends() -> None:
    mail = recovery_mail(replace(FACTS, message="set 1 published"), 'run "backup X" failed')
    assert mail.subject.startswith("[alfresco-backup] alf1 (ACME): backup works again; last good backup ")
    assert 'Before: run "backup X" failed\n' in mail.body
    assert "  set 1 published\n" in mail.body


def test_a_success_says_so() -> None:
    assert ": backup completed; " in success_mail(FACTS).subject


def test_an_overdue_backup_says_where_to_look_first() -> None:
    mail = overdue_mail(replace(FACTS, message="the newest complete set is old"), 26)
    assert ": backup is overdue; last good backup " in mail.subject
    assert "older than 26 hours" in mail.body
    assert f"HINT: systemctl status prefect-server prefect-worker@{FACTS.host}" in mail.body
    assert f"HINT: {program_command('doctor')}\n" in mail.body


def test_every_mail_names_the_command_that_says_what_is_wrong() -> None:
    mails = failure_mail(FACTS), recovery_mail(FACTS, "before"), success_mail(FACTS), overdue_mail(FACTS, 26)
    assert all(f"What is wrong:    {program_command('status')}\n" in mail.body for mail in mails)


def test_a_subject_is_one_line_of_bearable_length() -> None:
    mail = failure_mail(replace(FACTS, customer="two\r\nlines: " + "x" * 500))
    assert "\n" not in mail.subject and "\r" not in mail.subject
    assert len(mail.subject) <= 200


def test_secrets_are_masked_longest_first_and_words_survive() -> None:
    mail = scrub(
        Mail("s3cret-long s3cret", "password=s3cret-long; it is on\n"), ["s3cret", "s3cret-long", "on", ""]
    )
    assert mail == Mail("*** ***", "password=***; it is on\n")


def test_the_same_failure_is_recognised_whatever_its_numbers() -> None:
    first = "Flow run encountered an exception: ArchivingBroken: 3 segments wait since 02:15\nHINT: look"
    later = "Flow run encountered an exception: ArchivingBroken: 17 segments wait since 02:30\nHINT: look"
    other = "Flow run encountered an exception: ToolFailed: psql ended with exit code 2"
    assert headline(first) == headline(later) == "# segments wait since #"
    assert headline(other) != headline(first)


def test_an_age_is_never_negative() -> None:
    facts = replace(FACTS, moment=GOOD.moment - timedelta(hours=1))
    assert "last good backup" in failure_mail(facts).subject and "0.0 s old" in failure_mail(facts).subject
