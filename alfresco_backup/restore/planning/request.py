"""What is asked of a restore, and whether it can be understood. Whether it can be done, the planner says."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from alfresco_backup.errors import Refused
from alfresco_backup.times import LEGACY_PATTERN, STAMP_PATTERN

Kind = Literal["full", "pitr", "postgres", "contentstore"]
Strategy = Literal["fill", "replace"]
Mode = Literal["plan", "execute"]
Latest = Literal["latest"]
LATEST: Latest = "latest"
_CHOICES = {"kind": Kind, "contentstore": Strategy, "mode": Mode}


@dataclass(frozen=True)
class RestoreRequest:
    """What an operator asks for.

    `backup` is a stamp or `latest`; `target_time` an aware moment or `latest` (the end of all WAL).
    `timeline` overrides the choice of timeline for a moment. None: not given.
    """

    kind: Kind
    backup: str = LATEST
    target_time: datetime | Latest | None = None
    contentstore: Strategy = "fill"
    timeline: int | None = None
    start_alfresco: bool = True
    mode: Mode = "plan"
    confirm: str = ""

    @property
    def moment(self) -> datetime | None:
        """The target as a moment; None when there is none, or it is `latest`."""
        return self.target_time if isinstance(self.target_time, datetime) else None


def parse_target_time(text: str) -> datetime | Latest:
    """A target time as typed: ISO 8601 with an offset, or `latest`.

    Raises Refused for one without an offset, naming the forms of that very time which are accepted.
    """
    if text.strip().lower() == LATEST:
        return LATEST
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        example = forms_with_offset(datetime.now().replace(microsecond=0))  # noqa: DTZ005 - made aware there
        raise Refused(
            f"target_time {text!r} is not understood: {error}", f"write it like {example}, or {LATEST}"
        ) from error
    return aware_target(moment)


def aware_target(moment: datetime) -> datetime:
    """The same moment in UTC. Raises Refused for a naive one, naming the forms that are accepted."""
    if moment.utcoffset() is None:
        raise Refused(
            f"target_time {moment} has no offset from UTC, so it names no moment",
            f"write {forms_with_offset(moment)}",
        )
    return moment.astimezone(UTC)


def forms_with_offset(naive: datetime) -> str:
    """How a time without offset could have been meant: in this host's zone and in UTC.

    In the hour that daylight saving repeats both offsets are named.
    """
    zones = dict.fromkeys(naive.replace(fold=fold).astimezone().isoformat() for fold in (0, 1))
    local = " or ".join(text for text in zones if text[:19] == naive.isoformat()[:19]) or next(iter(zones))
    return f"{local} (this host's time) or {naive.isoformat()}Z (UTC)"


def check_request(request: RestoreRequest, host: str) -> RestoreRequest:
    """The request with its target in UTC. Raises Refused for what contradicts itself or is not confirmed."""
    for name, choice in _CHOICES.items():
        value = getattr(request, name)
        if value not in get_args(choice):
            raise Refused(f"{name} {value!r}: {' or '.join(get_args(choice))} is expected")
    if request.backup != LATEST and not _is_stamp(request.backup):
        raise Refused(
            f"backup {request.backup!r}: a stamp like 20261122T020000Z or {LATEST} is expected",
            "python restore.py lists the backups",
        )
    _check_target(request)
    if request.mode == "execute" and request.confirm != host:
        said = f"is {request.confirm!r}" if request.confirm else "is missing"
        raise Refused(f"confirm {said}: to execute a restore it must be the host's name, {host}")
    if isinstance(request.target_time, datetime):
        return replace(request, target_time=aware_target(request.target_time))
    return request


def _check_target(request: RestoreRequest) -> None:
    given = request.target_time is not None
    if request.kind == "pitr" and not given:
        raise Refused(
            "target_time is missing: restore-pitr needs the moment to go back to",
            f"give one with its offset, or {LATEST} for the end of all archived WAL",
        )
    if request.kind in ("full", "contentstore") and given:
        raise Refused(
            f"target_time does not go with restore-{request.kind}, which restores what a backup holds",
            "leave it out, or use restore-pitr",
        )
    if request.timeline is not None:
        if not given:
            raise Refused("timeline goes with target_time only; a backup's end lies on its own timeline")
        if request.timeline < 1:
            raise Refused(f"timeline {request.timeline}: a whole number from 1 on is expected")


def _is_stamp(text: str) -> bool:
    return bool(STAMP_PATTERN.fullmatch(text) or LEGACY_PATTERN.fullmatch(text))
