"""The records of retention: its policy, the verdict on one thing, the plan. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from alfresco_backup.retention.holds import Hold
from alfresco_backup.settings.model import Settings
from alfresco_backup.times import for_people, size_for_people

Kind = Literal["partial", "snapshot", "configuration", "days", "base", "wal", "log", "problem"]
ORDER: tuple[Kind, ...] = ("partial", "snapshot", "configuration", "days", "base", "wal", "log", "problem")
"""The order of removal. What refers goes before what it refers to; a base goes before its WAL."""

LOG_AGE = timedelta(days=90)


@dataclass(frozen=True)
class RetentionPolicy:
    """How long what is kept. `running`: the backup ID of the run in progress, whose parts are not touched.

    `keep_weekly`, `keep_monthly`, `keep_yearly`: of so many periods one set is kept, see periods.py.
    """

    window: timedelta
    minimum_redundancy: int
    thin_after: timedelta
    log_age: timedelta = LOG_AGE
    running: str = ""
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0

    @classmethod
    def of(cls, settings: Settings, running: str = "") -> "RetentionPolicy":
        window = timedelta(days=settings.retention_days)
        return cls(
            window,
            settings.minimum_redundancy,
            timedelta(days=settings.snapshot_thin_days),
            max(LOG_AGE, window),
            running,
            settings.keep_weekly,
            settings.keep_monthly,
            settings.keep_yearly,
        )

    @property
    def ages(self) -> tuple[timedelta, ...]:
        """Ages of a part at which the answer of a rule may change."""
        return self.window, self.thin_after

    @property
    def window_text(self) -> str:
        return f"the recovery window of {self.window.days} day{'s' if self.window.days != 1 else ''}"


@dataclass(frozen=True)
class Verdict:
    """Keep or remove, and why. `own_wal_only`: a base backup that is kept without the WAL after its end."""

    keep: bool
    reason: str
    own_wal_only: bool = False

    def kept_for(self, reason: str) -> "Verdict":
        """The verdict to keep it, with one more reason."""
        return Verdict(True, f"{self.reason}; {reason}" if self.keep else reason)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in the repository and what becomes of it. `bytes` is 0 where only its removal will tell."""

    kind: Kind
    path: Path
    keep: bool
    reason: str
    bytes: int = 0


@dataclass(frozen=True)
class RetentionPlan:
    """An item for everything in the repository, in the order of removal.

    `must_remain` are the parts of the newest complete set: without them the plan is void.
    `pinned` are the sets that were pinned when it was made, `sending` the IDs being sent off-site then. With
    `holds` it may be shown, but not done.
    """

    root: Path
    now: datetime
    window_start: datetime
    items: tuple[Item, ...]
    must_remain: tuple[Path, ...] = ()
    pinned: frozenset[str] = frozenset()
    holds: tuple[Hold, ...] = ()
    sending: frozenset[str] = frozenset()

    @property
    def removals(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if not item.keep)

    @property
    def kept(self) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.keep)

    @property
    def known_bytes(self) -> int:
        """Bytes that removal frees at least; shared files of snapshots are not counted."""
        return sum(item.bytes for item in self.removals)

    def summary(self) -> str:
        """One sentence for reports."""
        start = for_people(self.window_start)
        if self.holds:
            told = "; ".join(hold.said for hold in self.holds)
            return f"{told[0].upper()}{told[1:]}\nHINT: {self.holds[0].fix}"
        if not self.removals:
            return f"Nothing to remove: the recovery window begins {start}."
        size = f", at least {size_for_people(self.known_bytes)}" if self.known_bytes else ""
        what = in_words(Counter(item.kind for item in self.removals))
        return f"To remove: {what}{size}. The recovery window begins {start}."

    def text(self) -> str:
        """The plan for a terminal: what goes, what is kept, each with the reason."""
        return verdict_text(self.summary(), self.rows())

    def rows(self) -> list[dict[str, str]]:
        """The plan as a table for people. Things of one kind with the same reason share a row."""
        groups: dict[tuple[Kind, bool, str], list[Item]] = {}
        for item in self.items:
            groups.setdefault((item.kind, item.keep, item.reason), []).append(item)
        return [
            {
                "what": NAMES[kind][0],
                "which": _which([item.path for item in items], self.root),
                "verdict": "keep" if keep else "remove",
                "why": reason,
                "size": size_for_people(total) if (total := sum(item.bytes for item in items)) else "",
            }
            for (kind, keep, reason), items in groups.items()
        ]


def verdict_text(summary: str, rows: Sequence[Mapping[str, str]]) -> str:
    """A plan's rows for a terminal: what goes, what is kept, each with the reason."""
    lines = [summary]
    for verdict in ("remove", "keep"):
        of_verdict = [row for row in rows if row["verdict"] == verdict]
        lines += ["", f"{verdict}:"] if of_verdict else []
        for row in of_verdict:
            lines += [f"  {row['which']}  {row.get('size', '')}".rstrip(), f"      {row['why']}"]
    return "\n".join(lines)


NAMES: dict[Kind, tuple[str, str]] = {
    "partial": ("leftover", "leftovers"),
    "snapshot": ("snapshot", "snapshots"),
    "configuration": ("configuration", "configurations"),
    "days": ("day tree", "day trees"),
    "base": ("base backup", "base backups"),
    "wal": ("WAL file", "WAL files"),
    "log": ("log", "logs"),
    "problem": ("problem", "problems"),
}
"""What people read for a kind: one, and several."""


def in_words(counts: Mapping[Kind, int]) -> str:
    """`2 snapshots, 1 base backup`, in the order of removal."""
    return ", ".join(
        f"{counts[kind]:,} {NAMES[kind][counts[kind] != 1]}" for kind in ORDER if counts.get(kind)
    )


def _which(paths: list[Path], root: Path) -> str:
    first, last = (str(path.relative_to(root)) for path in (paths[0], paths[-1]))
    return first if len(paths) == 1 else f"{first} … {last} ({len(paths):,})"
