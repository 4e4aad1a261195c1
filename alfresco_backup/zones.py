"""Time zones: the machine's, and whether another one shows the same times."""

import os
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
