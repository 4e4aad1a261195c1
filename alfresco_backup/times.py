"""Stamps and times: UTC in names, aware everywhere, local time with offset for people."""

import os
import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alfresco_backup.errors import Refused

STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
STAMP_PATTERN = re.compile(r"\d{8}T\d{6}Z")
LEGACY_FORMAT = "%Y-%m-%d_%H-%M-%S"
LEGACY_PATTERN = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")


def utc_now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def make_stamp(moment: datetime) -> str:
    """The name of a moment: `20261122T020000Z`. Whole seconds; the moment must be aware."""
    if moment.tzinfo is None:
        raise ValueError(f"a backup ID needs an aware time, got {moment!r}")
    return moment.astimezone(UTC).strftime(STAMP_FORMAT)


def parse_stamp(stamp: str) -> datetime:
    """The moment a stamp names, aware. Takes the predecessor's local-time stamps too.

    Raises ValueError for anything else. A predecessor's stamp within the hour that daylight saving
    repeats is read as the first of the two.
    """
    if STAMP_PATTERN.fullmatch(stamp):
        try:
            return datetime.fromisoformat(stamp)  # strptime takes ten times as long, and stamps are many
        except ValueError as error:
            raise ValueError(f"{stamp!r} is no backup ID like 20261122T020000Z: {error}") from error
    if LEGACY_PATTERN.fullmatch(stamp):
        return datetime.strptime(stamp, LEGACY_FORMAT).astimezone()
    raise ValueError(f"{stamp!r} is no backup ID like 20261122T020000Z")


def next_stamp(now: datetime, newest: str | None) -> str:
    """The stamp of a run that starts now. Raises Refused when the clock stands before the newest stamp.

    Stamps order the repository, so they must strictly increase; a run in the same second as the
    newest stamp is refused as well rather than given a made-up time.
    """
    stamp = make_stamp(now)
    if newest is not None and parse_stamp(stamp) <= parse_stamp(newest):
        raise Refused(
            f"the clock says {stamp}, but the repository already contains {newest}; backup IDs must increase",
            "timedatectl status; if the clock is right now, it was wrong then: move what has that ID "
            f"out of BACKUP_DIR: find BACKUP_DIR -name '*{newest}*'",
        )
    return stamp


def for_people(moment: datetime) -> str:
    """Local time with its offset, to the second: `2026-11-22 03:00:00 +01:00`."""
    text = moment.astimezone().isoformat(sep=" ", timespec="seconds")
    return f"{text[:19]} {text[19:]}"


def for_people_and_utc(moment: datetime) -> str:
    """Local time with its offset, and the same in UTC: `2026-11-22 03:00:00 +01:00 (02:00:00 UTC)`."""
    local, utc = moment.astimezone(), moment.astimezone(UTC)
    if not local.utcoffset():
        return f"{for_people(moment)} (UTC)"
    day = "" if local.date() == utc.date() else f"{utc:%Y-%m-%d} "
    return f"{for_people(moment)} ({day}{utc:%H:%M:%S} UTC)"


def duration_for_people(seconds: float) -> str:
    """A duration as a person writes it: `0.4 s`, `12 s`, `4 min 05 s`, `3 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size_for_people(size: float) -> str:
    """A number of bytes as a person writes it, in powers of 1024: `512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} TiB"


# Time zones: the machine's, and whether another one shows the same times.

LOCALTIME = Path("/etc/localtime")


def machine_zone(localtime: Path = LOCALTIME) -> str:
    """The name of this process's zone: TZ, else the machine's; UTC where the machine has no name for it."""
    named = os.environ.get("TZ")
    if named:
        return named
    parts = localtime.resolve().parts
    return "/".join(parts[parts.index("zoneinfo") + 1 :]) if "zoneinfo" in parts else "UTC"


def offset_of(zone: str, moment: datetime) -> timedelta | None:
    """What a zone's clocks are ahead of UTC at a moment; None where the zone is not known here."""
    try:
        return moment.astimezone(zoneinfo.ZoneInfo(zone)).utcoffset()
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return None


def local_offset(moment: datetime) -> timedelta:
    """What this process's clock shows ahead of UTC at a moment."""
    return moment.astimezone().utcoffset() or timedelta()


def same_times(zone: str, now: datetime) -> bool | None:
    """Whether a zone shows the local times all through this year; None where it is not known here."""
    moments = [datetime(now.year, month, 15, 12, tzinfo=UTC) for month in range(1, 13)]
    offsets = [offset_of(zone, moment) for moment in moments]
    if None in offsets:
        return None
    return offsets == [local_offset(moment) for moment in moments]
