"""How a base backup is recovered to its target on this host: programs, places, sources of WAL. Pure."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from alfresco_backup.backup.base import WAL_TAR
from alfresco_backup.errors import HostNotReady, Refused
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.postgres.versions import facts_of, label_of
from alfresco_backup.postgres.wal_files import Segment
from alfresco_backup.repository.records import BaseBackup, Tablespace
from alfresco_backup.restore.planning.choose_backup import Choice
from alfresco_backup.restore.planning.choose_content import set_aside_path
from alfresco_backup.restore.planning.facts import HostFacts
from alfresco_backup.restore.planning.plan import DatabasePlan, Move, TablespacePlan
from alfresco_backup.settings.commands import (
    edit_setting,
    history_command,
    move_command,
    program_command,
)
from alfresco_backup.wal.chain import WalMap, keeps_own_wal

SAVED_WAL = "wal"
"""The folder of a restore with the WAL it saved."""


def plan_database(
    choice: Choice, facts: HostFacts, stamp: str, bases: Iterable[BaseBackup] = ()
) -> DatabasePlan:
    """The plan of the database. Raises Refused for a missing program or a place that cannot be set aside.

    `bases`: all there are; of later ones the tablespaces are taken where no server tells of its own.
    """
    base = choice.base
    size = base.segment_size
    places = _places_of_segments(choice, facts)
    saved = facts.restores_directory / stamp / SAVED_WAL
    received = tuple(item.name(size) for item, place in places.items() if place == "received")
    _check_mount(facts.data_directory, facts)
    _check_history(choice, facts, taken_from_set="set" in places.values())
    return DatabasePlan(
        base=base,
        programs=choose_programs(base, facts.programs).directory,
        target=choice.target,
        timeline=choice.timeline,
        first_segment=choice.segments[0].name(size),
        last_segment=choice.segments[-1].name(size),
        segments=len(choice.segments),
        live_segments=tuple(item.name(size) for item, place in places.items() if place == "live"),
        set_segments=tuple(item.name(size) for item, place in places.items() if place == "set"),
        wal_sources=_wal_sources(facts, saved, tuple(dict.fromkeys(places.values()))),
        saved_wal=saved,
        data_directory=facts.data_directory,
        set_aside=set_aside_path(facts.data_directory, stamp)
        if facts.data_directory in facts.existing
        else None,
        tablespaces=tuple(_tablespaces(base, _newer_tablespaces(choice, facts, bases), facts, stamp)),
        wal_location=_wal_location(facts, stamp),
        received_segments=received,
        received_folder=facts.received.path if facts.received and received else None,
        unfinished=_unfinished(received, facts),
        skipped_segments=tuple(item.name(size) for item in places if item in facts.archive.damaged),
    )


def _unfinished(received: tuple[str, ...], facts: HostFacts) -> str:
    name = facts.received.unfinished if facts.received else ""
    return name if name in received else ""


def choose_programs(base: BaseBackup, found: tuple[Programs, ...]) -> Programs:
    """The first folder with a server of the base backup's major version. Raises Refused, naming them."""
    major = _major(base.postgresql_version)
    for programs in found:
        if _major(programs.version) == major:
            return programs
    listed = ", ".join(f"{item.directory} ({label_of(item.version)})" for item in found) or "none"
    wanted = _major_label(base.postgresql_version)
    raise Refused(
        f"base backup {base.stamp} is of PostgreSQL {wanted}, whose server programs are not installed here; "
        f"found: {listed}",
        f"install PostgreSQL {wanted}, or {edit_setting('PG_BINDIR', f'/usr/lib/postgresql/{wanted}/bin')}",
    )


def server_warnings(base: BaseBackup, facts: HostFacts) -> list[str]:
    """What is odd about the server now in place, and about a backup that is not of this host."""
    live = facts.live
    warnings = []
    if base.host and base.host != facts.host:
        warnings.append(
            f"the backup is of host {base.host}: the restored server runs with archive_mode = off, so that "
            "no WAL of this host gets into the archive of that one"
        )
    if facts.data_mounts:
        mounted = ", ".join(map(str, facts.data_mounts))
        warnings.append(
            f"{mounted} is mounted in the data directory and moves with it when that is set aside; the "
            "restored data directory has plain folders there. While PostgreSQL is down, move their files "
            "onto the mount, or remove it from /etc/fstab: at the next start of the machine it would hide "
            "them"
        )
    if live is None:
        return warnings
    if live.system_identifier and live.system_identifier != base.system_identifier:
        warnings.append(
            f"system identifier mismatch: server in place {live.system_identifier}, backup "
            f"{base.system_identifier}; the WAL of the server in place is not used"
        )
    if _major(live.version) != _major(base.postgresql_version):
        warnings.append(
            f"the server in place is PostgreSQL {_major_label(live.version)}, the backup is of PostgreSQL "
            f"{_major_label(base.postgresql_version)}: the command that starts PostgreSQL must start that "
            "version"
        )
    if live.wal_location is not None and _wal_location(facts, "") is None:
        present = live.wal_location in facts.existing
        why = "is a mount point and cannot be renamed" if present else "does not exist"
        folder = facts_of(base.postgresql_version).wal_directory
        warnings.append(
            f"{folder} of the server in place links to {live.wal_location}, which {why}: the restored "
            f"{folder} will be a folder inside the data directory; move it afterwards, while PostgreSQL is "
            "down"
        )
    return warnings


def _wal_location(facts: HostFacts, stamp: str) -> Move | None:
    """The WAL outside the data directory to set aside; None where there is none, or it cannot be renamed."""
    location = facts.live.wal_location if facts.live else None
    if location is None or location not in facts.existing or location in facts.mount_points:
        return None
    return Move(location, set_aside_path(location, stamp))


def _places_of_segments(choice: Choice, facts: HostFacts) -> dict[Segment, str | Path]:
    """Where each segment that recovery needs is: `archive`, `live`, a saved folder, `received` or `set`."""
    base = choice.base
    stop = (int(base.stop_lsn) - 1) // base.segment_size
    return {
        segment: _place_of(segment, base, facts, own=keeps_own_wal(base) and segment.number <= stop)
        for segment in choice.segments
    }


def _wal_sources(facts: HostFacts, saved: Path, places: tuple[str | Path, ...]) -> tuple[Path, ...]:
    """restore-wal's folders. The first must contain WAL: restore-wal takes an empty one for not mounted."""
    folders = tuple(place for place in places if isinstance(place, Path))
    if facts.archive_readable and facts.archive_begun:
        return (facts.archive_directory, saved, *folders)
    return (saved, *folders) if {"live", "received", "set"} & set(places) else (*folders, saved)


def _check_history(choice: Choice, facts: HostFacts, *, taken_from_set: bool) -> None:
    """Refuse where the history of the timeline is missing or damaged: PostgreSQL ends without it.

    A base backup of timelines before it could not have been chosen. With WAL from the set comes its history;
    a damaged one in the archive is found first all the same.
    """
    base, timeline, archive = choice.base, choice.timeline, facts.archive
    damaged = timeline in archive.promoted
    others = [facts.live.wal if facts.live else None, *(item.wal for item in facts.saved_wal)]
    others.append(facts.received.wal if facts.received else None)
    elsewhere = taken_from_set or any(timeline in wal.paths for wal in others if wal)
    if timeline == 1 or timeline in archive.paths or (elsewhere and not damaged):
        return
    name = f"{timeline:08X}.history"
    fixes = [move_command(facts.archive_directory, [name])] if damaged else []
    own = keeps_own_wal(base) and not base.legacy and timeline == base.timeline
    fixes.append(
        history_command(base.path / WAL_TAR, name, facts.archive_directory)
        if own
        else program_command("wal-audit")
    )
    raise Refused(
        f"{name} is {'damaged' if damaged else 'missing'} in the WAL archive {facts.archive_directory}: "
        f"PostgreSQL does not recover to timeline {timeline} without it",
        "\n".join(fixes),
    )


def _place_of(segment: Segment, base: BaseBackup, facts: HostFacts, *, own: bool) -> str | Path:
    if facts.archive_readable and _has(facts.archive, segment, base):
        return "archive"
    if facts.live and facts.live.wal and _has(facts.live.wal, segment, base):
        return "live"
    for folder in facts.saved_wal:
        if _has(folder.wal, segment, base):
            return folder.path
    if facts.received and _has(facts.received.wal, segment, base):
        return "received"
    if own:
        return "set"
    raise Refused(
        f"WAL segment {segment.name(base.segment_size)}, which base backup {base.stamp} needs, was found "
        "neither in the WAL archive nor in pg_wal",
        program_command("wal-audit"),
    )


def _has(wal: WalMap, segment: Segment, base: BaseBackup) -> bool:
    own = (wal.owner, wal.segment_size) == (base.system_identifier, base.segment_size)
    return own and wal.time_of(segment) is not None


def _newer_tablespaces(
    choice: Choice, facts: HostFacts, bases: Iterable[BaseBackup]
) -> tuple[Tablespace, ...]:
    """Those the live server has; without one, those of later base backups that recovery may make.

    Replaying its creation removes what is in the place of a tablespace. Later ones than in the first base
    backup that began after the target time were made after it.
    """
    if facts.live:
        return facts.live.tablespaces
    found: list[Tablespace] = []
    if choice.target.kind == "immediate":  # nothing is replayed beyond the base backup's own end
        return ()
    own = (item for item in bases if item.system_identifier == choice.base.system_identifier)
    for item in sorted(own, key=lambda item: item.started_at):
        if item.started_at > choice.base.started_at:
            found += item.tablespaces
            if item.started_at > choice.state_time:
                break
    return tuple(dict.fromkeys(found))


def _tablespaces(
    base: BaseBackup, newer: Iterable[Tablespace], facts: HostFacts, stamp: str
) -> Iterator[TablespacePlan]:
    """Those of the base backup, then the newer ones, which the live server has made since.

    One inside the data directory, which PostgreSQL only warns of, is set aside with it; it is restored beside
    it, since its place does not exist until all files do.
    """
    known = {space.oid for space in base.tablespaces}
    taken: set[Path] = set()
    for space in (*base.tablespaces, *(item for item in newer if item.oid not in known)):
        recorded = location = Path(space.location)
        if recorded.is_relative_to(facts.data_directory):
            location = facts.data_directory.with_name(f"{facts.data_directory.name}-tablespace-{space.oid}")
        if location in taken or (recorded != location and space.oid not in known):
            continue
        taken.add(location)
        _check_mount(location, facts)
        set_aside = set_aside_path(location, stamp) if location in facts.existing else None
        yield TablespacePlan(space.oid, space.name, recorded, location, set_aside, space.oid in known)


def _check_mount(path: Path, facts: HostFacts) -> None:
    if path in facts.mount_points:
        raise Refused(
            f"{path} is a mount point, which cannot be set aside by renaming it; PostgreSQL's files must be "
            "in a folder below it",
            f"move them to {path}/data, then {edit_setting('PG_DATA_DIR', f'{path}/data')}",
        )


def _major(version: int) -> int:
    try:
        return facts_of(version).major
    except HostNotReady as error:
        raise Refused(error.message, error.hint) from error


def _major_label(version: int) -> str:
    major = _major(version)
    return label_of(major).removesuffix(".0")
