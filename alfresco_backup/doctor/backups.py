"""Doctor's checks of the backups that are there: age, restore drills, archive, disk, restores."""

from collections.abc import Iterator
from datetime import timedelta

from alfresco_backup.backup.proof import Proof
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.findings import Finding, ok, warning
from alfresco_backup.restore.journal.journal_record import OVER, PENDING, Record
from alfresco_backup.restore.undo.undo_plan import set_aside_by
from alfresco_backup.settings.commands import discard_command, edit_setting, program_command
from alfresco_backup.status.assess import newest_complete
from alfresco_backup.status.facts import StatusFacts
from alfresco_backup.status.report import StatusReport
from alfresco_backup.times import for_people, size_for_people

DRILL_AGE = timedelta(days=15)
"""The drill is weekly; one that was missed is no reason yet."""
SET_ASIDE_AGE = timedelta(days=30)
SETTINGS = ("archive_mode", "archive_command", "archive_timeout")
"""What the audit says of these the preflight says too."""


def check_backups(context: CheckContext) -> list[Finding]:
    """What `status` finds wrong, and what it does not look for. Raises HostNotReady without BACKUP_DIR."""
    report, facts = context.status, context.facts
    found = [*report.problems, *_good(report, facts)]
    return [
        *(item for item in found if not context.server_view or item.subject not in SETTINGS),
        *_judge_drills(report, context),
        *_judge_keystore(report, context),
        *_judge_set_aside(context),
    ]


def _good(report: StatusReport, facts: StatusFacts) -> Iterator[Finding]:
    subjects = {item.subject for item in report.problems}
    if "newest backup" not in subjects:
        yield ok("newest backup", facts.freshness.sentence)
    if report.intervals:
        yield ok("restorable", report.headline)
    if report.space and "disk" not in subjects:
        free = f"{size_for_people(report.space.disk.free)} free"
        yield ok("disk", f"{free}; {report.space.trend.sentence}")
    if not any(record.state in PENDING for record in facts.restores):
        yield ok("restores", "none is unfinished")
    yield from (item for item in (facts.audit.findings if facts.audit else ()) if item.level == "ok")


def _judge_drills(report: StatusReport, context: CheckContext) -> Iterator[Finding]:
    """The newest restore drill, of whichever set. A set that it found damaged is named by the status."""
    drill = program_command("drill")
    proofs = [item.proof for item in report.sets if item.proof]
    newest: Proof | None = max(proofs, key=lambda proof: proof.proven_at, default=None)
    if newest is None:
        if newest_complete(report):
            yield warning("restore drill", "no restore drill has been run yet", drill)
    elif context.now - newest.proven_at > DRILL_AGE:
        what = f"the last one was {for_people(newest.proven_at)}, of set {newest.stamp}"
        yield warning("restore drill", f"{what}; one in {DRILL_AGE.days} days is expected", drill)
    elif newest.sound:
        yield ok("restore drill", f"set {newest.stamp}: {newest.sentence}")


def _judge_keystore(report: StatusReport, context: CheckContext) -> Iterator[Finding]:
    """Whether the newest set contains the host's keystore: encrypted content cannot be read without it."""
    newest, keystore = newest_complete(report), context.host.installation.keystore
    if newest is None or newest.configuration is None:
        return
    held = [name for name in newest.configuration.digests if name.startswith("keystore/")]
    if not held:
        what = f"set {newest.stamp} contains no keystore"
        edit = [] if keystore else [edit_setting("KEYSTORE_DIR")]
        yield warning("keystore in the set", what, "\n".join([*edit, program_command("backup")]))
    else:
        yield ok("keystore in the set", f"set {newest.stamp} contains {len(held)} files of it")


def _judge_set_aside(context: CheckContext) -> Iterator[Finding]:
    for record in context.facts.restores:
        places = _still_there(record)
        if places and context.now - record.started_at > SET_ASIDE_AGE:
            what = f"data that restore {record.restore_id} set aside is still on disk: {', '.join(places)}"
            yield warning("set aside", what, discard_command(record.restore_id, context.host.name))


def _still_there(record: Record) -> list[str]:
    if record.state in OVER | PENDING:
        return []
    return [str(act.target) for act in set_aside_by(record) if act.target.exists()]
