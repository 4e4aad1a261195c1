"""What is asked of a restore, and whether it is a valid request. Whether it is possible, the planner says."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from alfresco_backup.errors import Refused
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import LEGACY_PATTERN, STAMP_PATTERN

RestoreKind = Literal["full", "pitr", "postgres", "contentstore"]
Strategy = Literal["fill", "replace"]
RunMode = Literal["plan", "execute"]
Source = Literal["local", "offsite"]
Latest = Literal["latest"]
LATEST: Latest = "latest"
YEARS = (1970, 9998)
"""Of a target time."""
_CHOICES = {"kind": RestoreKind, "contentstore": Strategy, "mode": RunMode, "source": Source}


@dataclass(frozen=True)
class RestoreRequest:
    """What an operator asks for. Raises Refused when it is made and contradicts itself.

    `backup` is a backup ID or `latest`; `target_time` an aware time or `latest` (the end of all WAL), and
    kept in UTC. `timeline` overrides the choice of timeline for a target time. None: not given. `source`:
    whether it is planned from BACKUP_DIR or from the off-site copy, which is fetched first.
    """

    kind: RestoreKind
    backup: str = LATEST
    target_time: datetime | Latest | None = None
    contentstore: Strategy = "fill"
    timeline: int | None = None
    start_alfresco: bool = True
    mode: RunMode = "plan"
    confirm: str = ""
    source: Source = "local"

    def __post_init__(self) -> None:
        for name, choice in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(choice):
                raise Refused(f"{name} {value!r} is not valid; expected {' or '.join(get_args(choice))}")
        if self.backup != LATEST and not _is_backup_id(self.backup):
            raise Refused(
                f"backup ID {self.backup!r} is not valid; expected one like 20261122T020000Z, or {LATEST}",
                program_command("status"),
            )
        if isinstance(self.target_time, datetime):
            object.__setattr__(self, "target_time", aware_target(self.target_time))
        _check_target(self)

    @property
    def exact_time(self) -> datetime | None:
        """The target time where it is a time; None when there is none, or it is `latest`."""
        return self.target_time if isinstance(self.target_time, datetime) else None


def require_confirmed(what: str, confirm: str, host: str) -> None:
    """Raise Refused unless the host's name was repeated; `what`: a restore, an undo."""
    if confirm != host:
        given = f"is {confirm!r}" if confirm else "is missing"
        raise Refused(f"confirm {given}; to execute {what} it must be the host's name, {host}")


def command_of(request: RestoreRequest) -> str:
    """The command that shows the plan of a request."""
    return program_command("restore", *words_of(request))


def words_of(request: RestoreRequest) -> list[str]:
    """What to type for a request after `restore`; neither execution nor confirmation is among it."""
    target = request.target_time
    options = {
        "--backup": request.backup if request.backup != LATEST else None,
        "--target-time": target.isoformat() if isinstance(target, datetime) else target,
        "--timeline": request.timeline,
        "--contentstore": request.contentstore if request.contentstore != "fill" else None,
        "--source": request.source if request.source != "local" else None,
    }
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return ["--mode", request.kind, *words, *([] if request.start_alfresco else ["--no-start"])]


def parse_target_time(text: str, *, local: bool = False) -> datetime | Latest:
    """A target time as typed: ISO 8601 with a UTC offset, or `latest`.

    Raises Refused for one without an offset, naming the accepted forms of that very time. With `local` it is
    a time of this host's zone, refused only in the hours that daylight saving skips and repeats.
    """
    if text.strip().lower() == LATEST:
        return LATEST
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        example = forms_with_offset(datetime.now().replace(microsecond=0))  # noqa: DTZ005 - made aware there
        raise Refused(
            f"target time {text!r} is not a date and time in ISO 8601: {error}",
            f"type {example}, or {LATEST}",
        ) from error
    return aware_target(_in_host_zone(time) if local else time)


def _in_host_zone(time: datetime) -> datetime:
    """A time without offset as one of this host's zone, if its clocks show it exactly once."""
    if time.utcoffset() is not None or not YEARS[0] <= time.year <= YEARS[1]:
        return time
    first, second = (time.replace(fold=fold).astimezone() for fold in (0, 1))
    return first if first.utcoffset() == second.utcoffset() else time


def aware_target(time: datetime) -> datetime:
    """The same time in UTC. Raises Refused for a naive one, naming the forms that are accepted.

    The first and the last years that a computer can count are refused: in UTC, or in this host's time zone,
    such a time may be in a year that it cannot.
    """
    if not YEARS[0] <= time.year <= YEARS[1]:
        raise Refused(
            f"target time {time.isoformat()} is not possible: expected a year from {YEARS[0]} to {YEARS[1]}",
            program_command("status"),
        )
    if time.utcoffset() is None:
        raise Refused(
            f"target time {time} has no time zone; add a UTC offset such as +01:00",
            f"type {forms_with_offset(time)}",
        )
    return time.astimezone(UTC)


def forms_with_offset(naive: datetime) -> str:
    """How a time without offset could have been meant: in this host's time zone and in UTC.

    In the hour that daylight saving repeats both offsets are named.
    """
    zones = dict.fromkeys(naive.replace(fold=fold).astimezone().isoformat() for fold in (0, 1))
    local = " or ".join(text for text in zones if text[:19] == naive.isoformat()[:19]) or next(iter(zones))
    return f"{local} (this host's time zone) or {naive.isoformat()}Z (UTC)"


def _check_target(request: RestoreRequest) -> None:
    target = request.target_time
    if request.kind == "pitr" and target is None:
        raise Refused(
            f"a pitr restore needs a target time: one with its UTC offset, or {LATEST} for the end of all "
            "WAL",
            command_of(replace(request, target_time=LATEST)),
        )
    if request.kind in ("full", "contentstore") and target is not None:
        raise Refused(
            f"a {request.kind} restore takes no target time: it restores the state of a backup",
            command_of(replace(request, kind="pitr")),
        )
    if request.timeline is not None:
        if target is None:
            raise Refused(
                "a timeline needs a target time; the end of a backup is on the backup's own timeline"
            )
        if request.timeline < 1:
            raise Refused(f"timeline {request.timeline} is not valid; expected a whole number from 1 on")


def _is_backup_id(text: str) -> bool:
    return bool(STAMP_PATTERN.fullmatch(text) or LEGACY_PATTERN.fullmatch(text))
