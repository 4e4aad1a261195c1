"""Doctor's look at the backups that are there: age, proof, archive, disk, restores."""

from collections.abc import Iterator
from datetime import timedelta

from alfresco_backup.backup.proof import Proof
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.findings import Finding, ok, warning
from alfresco_backup.restore.journal.journal_record import OVER, PENDING, Record
from alfresco_backup.restore.undo.undo_plan import set_aside_by
from alfresco_backup.settings.commands import discard_command
from alfresco_backup.status.assess import newest_complete
from alfresco_backup.status.facts import StatusFacts
from alfresco_backup.status.problems import BACKUP
from alfresco_backup.status.report import StatusReport
from alfresco_backup.times import for_people, size_for_people

PROOF_AGE = timedelta(days=15)
"""The drill is weekly; one that was missed is no reason yet."""
ASIDE_AGE = timedelta(days=30)
SETTINGS = ("archive_mode", "archive_command", "archive_timeout")
"""What the audit says of these is left to the preflight, which knows the command that mends it."""


def check_backups(context: CheckContext) -> list[Finding]:
    """What `status` finds wrong, and what it does not look for. Raises HostNotReady without BACKUP_DIR."""
    report, facts = context.status, context.facts
    found = [*report.problems, *_good(report, facts)]
    return [
        *(item for item in found if not context.server_view or item.subject not in SETTINGS),
        *_judge_proofs(report, context),
        *_judge_keystore(report, context),
        *_judge_aside(context),
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


def _judge_proofs(report: StatusReport, context: CheckContext) -> Iterator[Finding]:
    """The newest proof, whichever set it is of. One that proves the opposite is named by the status."""
    drill = "python drill.py"
    proofs = [item.proof for item in report.sets if item.proof]
    newest: Proof | None = max(proofs, key=lambda proof: proof.proven_at, default=None)
    if newest is None:
        if newest_complete(report):
            yield warning("proof", "no set was ever restored for a trial", drill)
    elif context.now - newest.proven_at > PROOF_AGE:
        what = f"the last restore drill was {for_people(newest.proven_at)}, of set {newest.stamp}"
        yield warning("proof", f"{what}; one in {PROOF_AGE.days} days is expected", drill)
    elif newest.sound:
        yield ok("proof", f"set {newest.stamp}: {newest.sentence}")


def _judge_keystore(report: StatusReport, context: CheckContext) -> Iterator[Finding]:
    """Whether the newest set holds the host's keystore: encrypted content cannot be read without."""
    newest, keystore = newest_complete(report), context.host.installation.keystore
    if newest is None or newest.configuration is None:
        return
    held = [name for name in newest.configuration.digests if name.startswith("keystore/")]
    if not held:
        what = f"set {newest.stamp} holds no keystore"
        fix = BACKUP if keystore else f"set KEYSTORE_DIR in the .env; then {BACKUP}"
        yield warning("keystore in the set", what, fix)
    else:
        yield ok("keystore in the set", f"set {newest.stamp} holds {len(held)} files of it")


def _judge_aside(context: CheckContext) -> Iterator[Finding]:
    for record in context.facts.restores:
        places = _still_aside(record)
        if places and context.now - record.started_at > ASIDE_AGE:
            what = f"the restore {record.restore_id} set aside what is still there: {', '.join(places)}"
            yield warning("set aside", what, discard_command(record.restore_id, context.host.name))


def _still_aside(record: Record) -> list[str]:
    if record.state in OVER | PENDING:
        return []
    return [str(act.target) for act in set_aside_by(record) if act.target.exists()]
