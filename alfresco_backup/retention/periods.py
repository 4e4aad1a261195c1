"""The sets that are kept for a week, a month or a year: of each period the last complete one. Pure.

A set counts for the period in which its base backup ended, since that is the state it restores to; weeks are
those of ISO 8601, and all are in UTC, as backup IDs are: no daylight saving, and the same on every machine.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from alfresco_backup.backup.proof import Proof
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.retention.policy import RetentionPolicy


@dataclass(frozen=True)
class Period:
    """One kind of period. `name_of` a time's: `2026-W47`; names of one kind are in the order of time."""

    word: str
    setting: str
    name_of: Callable[[datetime], str]
    wanted: Callable[[RetentionPolicy], int]


def _week(time: datetime) -> str:
    """The days around New Year may be in a week of the year before or after."""
    year, week, _ = time.isocalendar()
    return f"{year:04d}-W{week:02d}"


PERIODS = (
    Period("week", "KEEP_WEEKLY", _week, lambda policy: policy.keep_weekly),
    Period("month", "KEEP_MONTHLY", lambda time: f"{time:%Y-%m}", lambda policy: policy.keep_monthly),
    Period("year", "KEEP_YEARLY", lambda time: f"{time:%Y}", lambda policy: policy.keep_yearly),
)


def kept_for_periods(
    complete: Iterable[BaseBackup], drills: Mapping[str, Proof], policy: RetentionPolicy
) -> dict[str, list[str]]:
    """The backup IDs that are kept for periods, each with the reasons. `complete`: bases of complete sets.

    As many of the newest periods with a set as the policy says, the one in progress included. In place of a
    set that its last restore drill found damaged, or could not verify, an earlier one of the period is kept;
    where there is none it stays itself, but a damaged one is not counted.
    """
    oldest_first = sorted(complete, key=lambda base: (base.stopped_at, base.stamp))
    reasons: dict[str, list[str]] = {}
    for period in PERIODS:
        by_name: dict[str, list[BaseBackup]] = {}
        for base in oldest_first:
            by_name.setdefault(period.name_of(base.stopped_at.astimezone(UTC)), []).append(base)
        wanted = period.wanted(policy)
        for name in sorted(by_name, reverse=True):
            if wanted == 0:
                break
            last = by_name[name][-1]
            chosen = max(reversed(by_name[name]), key=lambda base: _worth(drills.get(base.stamp)))
            why = f"the last complete set of {period.word} {name} ({period.setting})"
            why += (
                "" if chosen is last else f" but for those that restore drills did not verify ({last.stamp})"
            )
            reasons.setdefault(chosen.stamp, []).append(why)
            wanted -= _worth(drills.get(chosen.stamp)) > 0
    return reasons


def _worth(drill: Proof | None) -> int:
    """What speaks for a set: 0 found damaged, 1 a drill that could not verify it, 2 nothing against it."""
    if drill is None or drill.sound:
        return 2
    return 0 if drill.damaged else 1
