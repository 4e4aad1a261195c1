"""A content store as Alfresco leaves it after years: many minute folders with few, mostly small files each.

    python -m benchmarks.store DIRECTORY [FILES]

300,000 files lie in about 86,000 minute folders on 2,000 working days of eight years, the newest today. Files
and folders bear the time that their path says. Sizes are skewed: most are small, a few are not; about 8 KiB
on average, so that it fits on a laptop.
"""

import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

FILES = 300_000
FILES_PER_DAY = 150
FILES_PER_MINUTE = 3.49
YEARS = 8
HOURS = (7, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 12, 13, 13, 14, 14, 14, 15, 15, 15, 16, 16, 17, 18)
LARGEST = 4 << 20


@dataclass(frozen=True)
class Generated:
    """What was made."""

    files: int
    minutes: int
    bytes: int


def generate(root: Path, files: int = FILES, seed: int = 1, largest: int = LARGEST) -> Generated:
    """Fill `root`, which must not exist. The same numbers give the same store, relative to today."""
    chance = random.Random(seed)
    noise = chance.randbytes(LARGEST * 2)
    root.mkdir(parents=True)
    made, minutes, size = 0, 0, 0
    for day in _days(max(3, files // FILES_PER_DAY)):
        folders: dict[Path, datetime] = {}
        for moment in _minutes(chance, day):
            if made >= files:
                break
            minute = root.joinpath(*path_of(moment).split("/"))
            minute.mkdir(parents=True, exist_ok=True)
            minutes += minute not in folders
            for folder in (minute, minute.parent, minute.parent.parent):
                folders[folder] = moment
            for _ in range(min(files - made, 1 + int(chance.expovariate(1 / (FILES_PER_MINUTE - 0.5))))):
                size += write_file(chance, noise, minute, moment, largest)
                made += 1
        for folder, moment in folders.items():
            os.utime(folder, (moment.timestamp(), moment.timestamp()))
    return Generated(made, minutes, size)


def path_of(moment: datetime) -> str:
    """Where Alfresco puts content of that minute: no padding."""
    return f"{moment.year}/{moment.month}/{moment.day}/{moment.hour}/{moment.minute}"


def write_file(
    chance: random.Random, noise: bytes, folder: Path, moment: datetime, largest: int = LARGEST
) -> int:
    """Write one content file under a random name; returns its size."""
    size = min(largest, int(chance.lognormvariate(7.6, 1.6)))
    start = chance.randrange(LARGEST)
    path = folder / f"{chance.getrandbits(128):032x}.bin"
    path.write_bytes(noise[start : start + size])
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    return size


def _days(count: int) -> Iterator[datetime]:
    """Days evenly spread over the years, newest first: yesterday, since today's hours may lie ahead."""
    newest = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    step = YEARS * 365 / count
    yield from (newest - timedelta(days=int(step * number)) for number in range(count))


def _minutes(chance: random.Random, day: datetime) -> list[datetime]:
    count = chance.randint(23, 66)
    return sorted(
        {day + timedelta(hours=chance.choice(HOURS), minutes=chance.randrange(60)) for _ in range(count)}
    )


if __name__ == "__main__":
    made = generate(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else FILES)
    print(f"{made.files:,} files in {made.minutes:,} minute folders, {made.bytes / 2**30:.2f} GiB")
