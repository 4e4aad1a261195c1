"""What is wrong with a host's backups, each with what fixes it. Pure."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from alfresco_backup.findings import Finding, error, warning, worst_first
from alfresco_backup.preflight.rules import more_space
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.sets import Problem
from alfresco_backup.settings.commands import program_command, undo_command
from alfresco_backup.status.facts import StatusFacts
from alfresco_backup.status.report import RunStatus, SetStatus, SpaceStatus
from alfresco_backup.times import for_people, size_for_people

FULL_ERROR = timedelta(days=3)
FULL_WARNING = timedelta(days=14)


def find_problems(
    facts: StatusFacts, sets: Sequence[SetStatus], space: SpaceStatus | None, runs: Sequence[RunStatus]
) -> tuple[Finding, ...]:
    """All of them, errors first."""
    found = [*facts.findings, *_of_age(facts), *_of_archive(facts), *_of_entries(facts), *_of_proofs(sets)]
    found += [warning("retention", hold.said, hold.fix) for hold in facts.holds]
    found += facts.offsite.problems if facts.offsite else ()
    found += facts.streaming.problems if facts.streaming else ()
    found += [*_of_pins(facts), *_of_space(facts, space, sets), *_of_runs(facts, runs)]
    return worst_first(found)


def _of_age(facts: StatusFacts) -> Iterator[Finding]:
    if facts.freshness.overdue:
        yield error("newest backup", facts.freshness.sentence, program_command("backup"))


def _of_archive(facts: StatusFacts) -> Iterable[Finding]:
    return [item for item in facts.audit.findings if item.level != "ok"] if facts.audit else []


def _of_entries(facts: StatusFacts) -> Iterator[Finding]:
    for problem in facts.catalogue.problems:
        name = str(problem.path.relative_to(facts.repository.root))
        yield error(name, problem.reason, _fix(problem, facts.repository))


def _fix(problem: Problem, repository: Repository) -> str:
    place = shlex.quote(str(problem.path))
    if problem.reason.startswith("cannot be read"):
        return f"ls -ld {place}  # run it as root or as an account that may read it"
    if problem.reason.startswith("dated in the future"):
        return "timedatectl status"
    away = shlex.quote(f"{repository.root}-moved")
    move = f"mkdir -p {away} && mv -n {place} {away}/  # where it cannot be repaired"
    return "\n".join((f"ls -la {place}", move, program_command("backup")))


def _of_proofs(sets: Sequence[SetStatus]) -> Iterator[Finding]:
    for item in sets:
        if item.proof and item.proof.damaged:
            what = f"the restore drill failed: {item.proof.sentence}"
            yield error(f"set {item.item.stamp}", what, program_command("backup", "--checksum"))
        elif item.proof and not item.proof.sound:
            what = f"the restore drill could not verify all of it: {item.proof.sentence}"
            yield Finding("unknown", f"set {item.item.stamp}", what, program_command("drill"))
        elif item.proof and item.proof.elsewhere:
            what = f"the restore drill verified it, but not all else: {item.proof.sentence}"
            yield warning(f"set {item.item.stamp}", what, program_command("backup", "--checksum"))
        elif item.proof and item.proof.later:
            what = f"the last restore drill of it had no result: {item.proof.sentence}"
            yield Finding("unknown", f"set {item.item.stamp}", what, program_command("drill"))


def _of_pins(facts: StatusFacts) -> Iterator[Finding]:
    there = {item.stamp for item in facts.catalogue.sets}
    for stamp, pin in facts.inventory.pins.items():
        unpin = program_command("unpin", stamp)
        if pin.defect:
            what = f"{pin.path} cannot be read ({pin.defect}); the set is kept all the same"
            again = f"{unpin} && {program_command('pin', stamp, '--reason', '...')}"
            yield warning(
                f"pin of {stamp}", what, again if stamp in there else f"rm {shlex.quote(str(pin.path))}"
            )
        elif stamp not in there:
            yield warning(f"pin of {stamp}", "there is no such set any more, or it cannot be read", unpin)


def _of_space(facts: StatusFacts, space: SpaceStatus | None, sets: Sequence[SetStatus]) -> Iterator[Finding]:
    if space is None:
        return
    disk, full_on = space.disk, space.trend.full_on
    root = facts.repository.root
    needed = _needed(sets)
    if disk.free < needed:
        free, wrote = size_for_people(disk.free), size_for_people(needed)
        what = f"{free} free on {root}; the last base backup wrote {wrote}"
        yield error("disk", what, more_space("-h", root))
    elif full_on is not None:
        left = full_on - facts.moment
        if left <= FULL_WARNING:
            level = error if left <= FULL_ERROR else warning
            yield level("disk", space.trend.sentence, more_space("-h", root))
    if disk.inodes and disk.free_inodes < disk.inodes // 20:
        what = f"{disk.free_inodes:,} of {disk.inodes:,} inodes free on {root}"
        yield warning("disk", what, more_space("-i", root))


def _needed(sets: Sequence[SetStatus]) -> int:
    """Bytes that the last base backup took."""
    return next((item.item.base.stored_bytes for item in sets if item.item.base), 0)


def _of_runs(facts: StatusFacts, runs: Sequence[RunStatus]) -> Iterator[Finding]:
    for run in runs:
        if run.flow.startswith("restore-") and run.state == "unfinished":
            begun = f"restore {run.stamp}, begun {for_people(run.started_at)}, {run.words}"
            what = f"{begun}; this host is only partly restored"
            yield error(run.flow, what, undo_command(run.stamp, facts.host))
    last = next((run for run in runs if run.flow == "backup"), None)
    if last and last.state == "failed":
        log = shlex.quote(str(facts.repository.logs / f"backup-{last.stamp}.log"))
        fix = f"less {log}\n{program_command('backup')}"
        yield warning("last run", f"{last.stamp}: {last.words}", fix)
