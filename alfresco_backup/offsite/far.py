"""What the off-site repository contains, by backup ID. Pure, but for `read_far`, which asks restic."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from alfresco_backup.errors import Refused
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.repository.sending import WAL, SendingNote
from alfresco_backup.repository.sets import BackupSet
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import for_people

PROGRAM_TAG = "alfresco-backup"
Kind = Literal["set", "wal"]


@dataclass(frozen=True)
class FarSnapshot:
    """A backup ID, or the WAL archive, in a restic snapshot that this software made.

    Backup IDs that were sent together are in one restic snapshot, one FarSnapshot each. `repository`:
    identity of the BACKUP_DIR it is of. `stamp` is the backup ID, empty of the WAL archive. Of that,
    `first_wal` is the position of its first segment, without the timeline, and `wal_files` the number of its
    files; `older_wal` names all segments but those after the first of its newest unbroken run, in short.
    `machine` is the one that sent it. Both are empty of those that were sent before they were noted.
    """

    snapshot: str
    taken_at: datetime
    host: str
    kind: str
    stamp: str
    repository: str
    first_wal: str = ""
    wal_files: int = 0
    machine: str = ""
    older_wal: str = ""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "tuple[FarSnapshot, ...]":
        """From what `restic snapshots --json` says of one; none of one that another program made."""
        named = [str(tag).partition("=")[::2] for tag in document.get("tags") or ()]
        tags = dict(named)
        if PROGRAM_TAG not in tags:
            return ()
        one = cls(
            str(document["id"]),
            datetime.fromisoformat(str(document["time"])),
            str(document["hostname"]),
            tags.get("kind", ""),
            "",
            tags.get("repository", ""),
            tags.get("first-wal", ""),
            int(tags.get("wal-files") or 0),
            tags.get("machine", ""),
            tags.get("older-wal", ""),
        )
        stamps = sorted({value for name, value in named if name == "id"})
        return tuple(replace(one, stamp=stamp) for stamp in stamps or ("",))


@dataclass(frozen=True)
class FarSet:
    """A backup ID there: the IDs whose days it refers to, itself included; whether it is a complete set."""

    stamp: str
    needs: frozenset[str]
    complete: bool


def tags_of(kind: Kind, repository: str, stamps: Iterable[str] = (), **more: str) -> str:
    """The tags of a snapshot, one for each backup ID in it, as `restic backup --tag` takes them."""
    named = (f"{name.replace('_', '-')}={value}" for name, value in more.items())
    stamped = (f"id={stamp}" for stamp in stamps)
    return ",".join((PROGRAM_TAG, f"kind={kind}", f"repository={repository}", *stamped, *named))


@dataclass(frozen=True)
class FarSide:
    """One host's backup IDs and copies of the WAL archive in the off-site repository, oldest first."""

    host: str
    snapshots: tuple[FarSnapshot, ...]

    @cached_property
    def sets(self) -> dict[str, FarSnapshot]:
        """The newest snapshot of each backup ID."""
        return {item.stamp: item for item in self.snapshots if item.kind == "set"}

    @property
    def newest_wal(self) -> FarSnapshot | None:
        return next((item for item in reversed(self.snapshots) if item.kind == "wal"), None)

    @property
    def identities(self) -> set[str]:
        """The repositories these snapshots are of; more than one is more than one machine."""
        return {item.repository for item in self.snapshots}

    @property
    def machines(self) -> set[str]:
        """The machines that sent them, as far as they are known."""
        return {item.machine for item in self.snapshots if item.machine}

    def sent_with(self, stamp: str) -> frozenset[str]:
        """The IDs whose newest restic snapshot is also that of this one, itself included."""
        return self._together[self.sets[stamp].snapshot]

    @cached_property
    def _together(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for item in self.sets.values():
            found.setdefault(item.snapshot, set()).add(item.stamp)
        return {snapshot: frozenset(stamps) for snapshot, stamps in found.items()}

    def has(self, item: BackupSet) -> bool:
        """Whether a set is there, with all day trees that it refers to."""
        return versions_of(item) <= self.sets.keys()


def versions_of(item: BackupSet) -> set[str]:
    """The backup IDs whose snapshots a set needs: its own, and those that copied its days."""
    days = (day.version for snapshot in item.snapshots.values() for day in snapshot.days.values())
    loose = (day.version for snapshot in item.snapshots.values() for day in snapshot.loose.values())
    return {item.stamp, *(part.stamp for part in item.parts), *days, *loose}


def far_side(documents: Iterable[Mapping[str, Any]], host: str) -> FarSide:
    """One host's part of what `restic snapshots --json` says."""
    own = (item for document in documents for item in FarSnapshot.read(document) if item.host == host)
    return FarSide(host, tuple(sorted(own, key=lambda item: item.taken_at)))


def read_far(engine: Engine, host: str) -> FarSide:
    """Ask the off-site repository. Raises what Engine.run raises."""
    return far_side(engine.ask("snapshots") or (), host)


def without_unfinished(far: FarSide, notes: Iterable[SendingNote], *, left_only: bool = False) -> FarSide:
    """Without the snapshots whose sending was not seen to end: something in them may be missing.

    `left_only`: what is being sent just now is left in.
    """
    began = {note.name: note.began_at for note in notes if not (left_only and note.live)}

    def counts(item: FarSnapshot) -> bool:
        name = item.stamp or WAL
        return name not in began or item.taken_at < began[name]

    return FarSide(far.host, tuple(filter(counts, far.snapshots)))


def require_own(far: FarSide, own: Sequence[str], machines: Sequence[str]) -> None:
    """Raise Refused where another machine sends its copies under this host's name.

    `own`: this BACKUP_DIR's identity, which may be empty, and those that it has taken over; `machines` the
    same of machines: one that fetched BACKUP_DIR has the identity of the one whose it was.
    """
    others = far.identities - set(own)
    identity, machine = own[0], machines[0]
    strangers = far.machines - set(machines) if machine else set()
    if strangers and not others:
        newest = max(item.taken_at for item in far.snapshots if item.machine in strangers)
        raise Refused(
            f"the off-site repository contains copies of a host {far.host} that machine "
            f"{', '.join(sorted(strangers))} sent, the last one {for_people(newest)}; this is machine "
            f"{machine}. Two machines that send under one name would prune what the other needs",
            f"{program_command('offsite', 'list')}\n"
            f"{program_command('offsite', 'init', '--take-over')}  # where that machine is no more",
        )
    if others:
        raise Refused(
            f"the off-site repository contains copies of a host {far.host} whose BACKUP_DIR is repository "
            f"{', '.join(sorted(others))}; this one is {identity or 'not marked yet'}",
            f"{program_command('offsite', 'list')}\n"
            f"{program_command('offsite', 'fetch')}  # where BACKUP_DIR was lost: brings it back\n"
            f"{program_command('offsite', 'init', '--take-over')}  # where that machine is no more",
        )
