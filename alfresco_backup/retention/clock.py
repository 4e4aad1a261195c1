"""Whether retention's clock agrees with other evidence of the time. Pure but for `file_system_time`.

A clock that is ahead makes every backup look old. Removing goes by it only where the newest part from before
this run, the WAL since, the database server's clock and that of the file system tell the same.
"""

import itertools
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.times import duration_for_people, for_people

CLOCK_SKEW = timedelta(hours=1)
"""How far two clocks that are read at the same time may differ."""


@dataclass(frozen=True)
class Witnesses:
    """What else tells the time. None or empty: it could not be asked, which is no disagreement.

    `newest_part` is the end of the newest backup from before this run, `wal` when segments were written.
    """

    newest_part: datetime | None = None
    wal: tuple[datetime, ...] = ()
    server: datetime | None = None
    file_system: datetime | None = None


def clock_disagreement(now: datetime, witnesses: Witnesses, gap: timedelta) -> str:
    """What disagrees with the clock, as a sentence; empty when nothing does.

    Backups and WAL lead from the past to now without a step longer than `gap`. A longer one is a clock that
    was put forward, or a host that was off: a person can tell which, the evidence cannot.
    """
    for name, time in (("the database server", witnesses.server), ("the file system", witnesses.file_system)):
        if time is not None and abs(now - time) > CLOCK_SKEW:
            apart = duration_for_people(abs(now - time).total_seconds())
            here, there = for_people(now), for_people(time)
            return f"this machine's clock says {here}, that of {name} {there}: {apart} apart"
    if witnesses.newest_part is None:
        return ""
    newest = witnesses.newest_part
    chain = sorted([newest, *(time for time in witnesses.wal if newest < time < now), now])
    before, after = max(itertools.pairwise(chain), key=lambda step: step[1] - step[0], default=(now, now))
    if after - before <= gap:
        return ""
    step = duration_for_people((after - before).total_seconds())
    return (
        f"there is neither backup nor WAL between {for_people(before)} and {for_people(after)}, {step}: "
        "the clock was put forward, or the host was off"
    )


def newest_end(ends: Iterable[datetime], now: datetime) -> datetime | None:
    """The newest of the ends of parts that is not in the future."""
    return max((end for end in ends if end <= now), default=None)


def file_system_time(folder: Path) -> datetime:
    """The time that a new file in a folder gets; a file server has its own clock. Raises OSError."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        return datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, UTC)
