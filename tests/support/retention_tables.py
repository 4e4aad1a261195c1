"""Retention cases as tables: one line a thing, `what age [option=value…] verdict [part of the reason]`.

    set 9d            remove  whose start a newer base backup reaches
    content 3d2h      keep
    wal 9d            keep    needed from base
    history 2         keep
    partial 2d        remove
    log 91d           remove

A set is database, contentstore and configuration of one run that began that long ago, half an hour of base
backup first; `parts=base,content` leaves some out. All its parts must get the verdict, but where
`snapshot=keep` or `configuration=keep` says otherwise; the reason is its first part's. WAL has one segment
an hour. `drill=verified` or `drill=damaged` is what its last restore drill found.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from alfresco_backup.backup.proof import Proof
from alfresco_backup.postgres.timelines import parse_history
from alfresco_backup.repository.layout import partial_of
from alfresco_backup.repository.sets import Problem
from alfresco_backup.retention.inventory import LogFile
from alfresco_backup.retention.plan import plan_retention
from alfresco_backup.retention.policy import RetentionPlan, RetentionPolicy
from alfresco_backup.times import make_stamp
from tests.support.catalogues import (
    NOW,
    REPOSITORY,
    Parts,
    a_snapshot,
    a_wal_file,
    age,
    position,
    segment_name,
)

VERDICTS = {"keep": True, "remove": False}


@dataclass
class Line:
    text: str
    paths: list[Path]
    keep: dict[str, bool]
    reason: str


@dataclass
class Table:
    parts: Parts = field(default_factory=Parts)
    lines: list[Line] = field(default_factory=list)


def plan_of(table: str, **policy: object) -> tuple[RetentionPlan, list[Line]]:
    read = Table()
    for text in filter(str.strip, table.splitlines()):
        _read_line(read, text.split())
    plan = plan_retention(
        REPOSITORY, read.parts.catalogue(), read.parts.full_inventory(), a_policy(**policy), NOW
    )
    return plan, read.lines


def a_policy(
    window: int = 7,
    redundancy: int = 2,
    thin: int = 2,
    log_days: int = 90,
    running: str = "",
    **keep: int,
) -> RetentionPolicy:
    """`keep`: keep_weekly, keep_monthly, keep_yearly."""
    days = timedelta(days=1)
    return RetentionPolicy(window * days, redundancy, thin * days, log_days * days, running, **keep)


def check(table: str, **policy: object) -> RetentionPlan:
    """Plan what the table describes and compare verdict and reason of every line. Returns the plan."""
    plan, lines = plan_of(table, **policy)
    found = {item.path: item for item in plan.items}
    wrong = []
    for line in lines:
        items = [found[path] for path in line.paths]
        different = [item for item in items if item.keep != line.keep.get(item.kind, line.keep[""])]
        if different or line.reason not in items[0].reason:
            said = "; ".join(
                f"{item.kind} {'keep' if item.keep else 'remove'}: {item.reason}" for item in items
            )
            wrong.append(f"{line.text}\n    got {said}")
    assert not wrong, "\n".join(wrong)
    return plan


def _read_line(table: Table, words: list[str]) -> None:
    what, when, *rest = words
    options = dict(word.split("=") for word in rest if "=" in word)
    tail = [word for word in rest if "=" not in word]
    paths = READERS[what](table.parts, when, options)
    keep = {"": VERDICTS[tail[0]]}
    for kind in ("snapshot", "configuration"):
        if kind in options:
            keep[kind] = VERDICTS[options[kind]]
    table.lines.append(Line(" ".join(words), paths, keep, " ".join(tail[1:])))


def _set(parts: Parts, when: str, options: dict[str, str], *, legacy: bool = False) -> list[Path]:
    chosen = options.get("parts", "base,content,configuration").split(",")
    start = options.get("lsn-of")
    if drill := options.get("drill"):
        drilled = make_stamp(NOW - age(when))
        missing = {"verified": 0, "damaged": 3}[drill]
        proof = Proof(drilled, NOW - age(when), None, 60.0, 10, missing)
        parts.inventory = replace(parts.inventory, drills={**parts.inventory.drills, drilled: proof})
    return parts.add_set(
        NOW - age(when),
        chosen,
        minutes=int(options.get("minutes", 30)),
        timeline=int(options.get("timeline", 1)),
        cluster=options.get("cluster", "A"),
        legacy=legacy,
        start=position(NOW - age(start)) if start else None,
    )


def _legacy(parts: Parts, when: str, options: dict[str, str]) -> list[Path]:
    return _set(parts, when, options, legacy=True)


def _content(parts: Parts, when: str, options: dict[str, str]) -> list[Path]:
    parts.snapshots.append(a_snapshot(NOW - age(when), store=options.get("store", "contentstore")))
    return [parts.snapshots[-1].path]


def _wal(parts: Parts, when: str, options: dict[str, str]) -> list[Path]:
    moment = NOW - age(when)
    at = position(NOW - age(options.get("lsn-of", when)))
    name = segment_name(int(options.get("timeline", 1)), at) + options.get("suffix", "")
    parts.wal.append(a_wal_file(name, moment))
    return [REPOSITORY.wal / name]


def _history(parts: Parts, timeline: str, options: dict[str, str]) -> list[Path]:
    """`left=2d` says how far back on the parent timeline this one forked off."""
    number = int(timeline)
    fork = position(NOW - age(options["left"]))
    path = parse_history(number, f"{options.get('parent', number - 1)}\t{fork}\tbefore something\n")
    parts.inventory = replace(parts.inventory, histories={**parts.inventory.histories, number: path})
    name = f"{number:08X}.history"
    parts.wal.append(a_wal_file(name, NOW - age("100d")))
    return [REPOSITORY.wal / name]


def _named_wal(parts: Parts, name: str, options: dict[str, str]) -> list[Path]:
    parts.wal.append(a_wal_file(name, NOW - age(options.get("age", "100d"))))
    return [REPOSITORY.wal / name]


def _partial(parts: Parts, when: str, options: dict[str, str]) -> list[Path]:
    stamp = make_stamp(NOW - age(when))
    kind = options.get("of", "snapshot")
    days = REPOSITORY.contentstore.day_trees
    place = {
        "snapshot": REPOSITORY.contentstore.snapshot,
        "base": REPOSITORY.base,
        "configuration": REPOSITORY.configuration,
        "days": days,
    }[kind]
    path = partial_of(place(stamp))
    parts.partials.append(path.with_name(place(stamp).name + options.get("ending", ".partial")))
    return [parts.partials[-1]]


def _log(parts: Parts, when: str, options: dict[str, str]) -> list[Path]:
    moment = NOW - age(when)
    path = REPOSITORY.logs / f"backup-{make_stamp(moment)}.log"
    parts.logs.append(LogFile(path, moment, 1000))
    return [path]


def _problem(parts: Parts, when: str, options: dict[str, str]) -> list[Path]:
    path = REPOSITORY.base(make_stamp(NOW - age(when)))
    parts.problems.append(Problem(path, "its metadata backup.json is missing"))
    return [path]


READERS = {
    "set": _set,
    "predecessor": _legacy,
    "content": _content,
    "wal": _wal,
    "walfile": _named_wal,
    "history": _history,
    "partial": _partial,
    "log": _log,
    "problem": _problem,
}
