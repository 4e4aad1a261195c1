"""Which day trees a snapshot copies, which it compares first and which it keeps, and why. Pure."""

import heapq
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from alfresco_backup.contentstore.scan import SECOND_NS, Scan, Seen
from alfresco_backup.errors import Refused
from alfresco_backup.repository.days import DayVersion
from alfresco_backup.repository.layout import StoreRepository
from alfresco_backup.settings.model import Settings
from alfresco_backup.times import parse_stamp

Mode = Literal["quick", "full", "checksum"]
MODES: tuple[Mode, ...] = ("quick", "full", "checksum")
HOUR_NS = 3600 * SECOND_NS
SMALLEST_SHARE = 200
"""Directories below which another rsync costs more than it saves."""
MANY_DAYS = 10
MANY_SHARE = 0.1
"""So many days, and more than that share of all, are not lost from one snapshot to the next."""


@dataclass(frozen=True)
class SnapshotOptions:
    """How a snapshot is taken. `tick_seconds`: the coarsest clock to expect of the store's file system."""

    hot_window_hours: float = 48
    parallel_copies: int = 2
    limit_hours: float = 168
    bandwidth_limit_mib: float = 0
    tick_seconds: float = 2.0

    @classmethod
    def of(cls, settings: Settings) -> "SnapshotOptions":
        return cls(
            settings.hot_window_hours,
            settings.parallel_copies,
            settings.contentstore_limit_hours,
            settings.bandwidth_limit_mib,
        )


@dataclass(frozen=True)
class SnapshotRequest:
    """A snapshot to take of `source`. `log` gets what rsync prints, its list of copied files excepted.

    `accepted`: the run that was refused for missing content, which somebody has accepted since.
    """

    store: str
    source: Path
    repository: StoreRepository
    stamp: str
    log: Path
    mode: Mode = "quick"
    options: SnapshotOptions = field(default_factory=SnapshotOptions)
    accepted: str = ""


@dataclass(frozen=True)
class Previous:
    """The newest snapshot, as link target and for its fingerprints.

    `days` and `loose` hold only what is really there. They are empty for a predecessor's snapshot and where
    the metadata is damaged; `held` are then the paths of the days in its tree, `held_loose` those of files
    above them. `links`: entries and folders in which the predecessor kept a link, or that are one: it may
    lead into the live store. `outside`: links in our own that lead out of the store. `deletions`: see
    Snapshot.
    """

    stamp: str
    path: Path
    started_ns: int = 0
    days: Mapping[str, DayVersion] = field(default_factory=dict, repr=False)
    loose: Mapping[str, DayVersion] = field(default_factory=dict, repr=False)
    held: frozenset[str] = field(default=frozenset(), repr=False)
    held_loose: frozenset[str] = field(default=frozenset(), repr=False)
    deletions: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    links: frozenset[str] = field(default=frozenset(), repr=False)
    outside: tuple[str, ...] = ()

    def leads_elsewhere(self, path: str) -> bool:
        """Whether an entry, or something in it, lies behind a link: never to be linked to."""
        return not self.links.isdisjoint([path, *folders_above(path)])


@dataclass(frozen=True)
class Decisions:
    """What to do with each entry: path → reason, or → the version that is kept.

    `gone`: in the previous snapshot, no longer in the store.
    """

    copy: Mapping[str, str]
    compare: Mapping[str, str]
    keep: Mapping[str, DayVersion] = field(repr=False)
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class SnapshotPlan:
    """What a snapshot copies, compares first and keeps, of the day trees and of the loose entries."""

    days: Decisions
    loose: Decisions


def plan_snapshot(
    scan: Scan, previous: Previous | None, options: SnapshotOptions, mode: Mode
) -> SnapshotPlan:
    """Decide for every day tree and loose entry.

    What changed or is unknown is copied. What is hot, and in a `full` run everything, is compared file by
    file first, so that an unchanged day makes no new version. Hot is what changed (by mtime) within the hot
    window before the *previous* snapshot: a file still growing then was copied short, however long ago.
    """
    started = previous.started_ns if previous else scan.started_ns
    hot_from = started - int(options.hot_window_hours * HOUR_NS)

    def decide(seen_now: Mapping[str, Seen], known: Mapping[str, DayVersion]) -> Decisions:
        copy: dict[str, str] = {}
        compare: dict[str, str] = {}
        keep: dict[str, DayVersion] = {}
        for path, seen in seen_now.items():
            before = known.get(path)
            if before is None:
                copy[path] = "not in the previous snapshot"
            elif mode != "quick":
                compare[path] = f"{mode} run"
            elif before.fingerprint is None:
                copy[path] = "changed while the previous snapshot began"
            elif before.fingerprint != seen.fingerprint:
                copy[path] = "changed"
            elif seen.modified_ns >= hot_from:
                compare[path] = "within the hot window"
            else:
                keep[path] = replace(before, fingerprint=trusted_fingerprint(seen, scan, options))
        return Decisions(copy, compare, keep, tuple(path for path in known if path not in seen_now))

    days = decide(scan.days, previous.days if previous else {})
    return SnapshotPlan(days, decide(scan.loose, previous.loose if previous else {}))


def trusted_fingerprint(seen: Seen, scan: Scan, options: SnapshotOptions) -> str | None:
    """The fingerprint, or None when something changed in the clock tick in which the scan began, or later.

    A second change within the same tick would leave the same times, so only a new copy can tell.
    """
    clearly_before = scan.started_ns - int(options.tick_seconds * SECOND_NS)
    return seen.fingerprint if seen.changed_ns < clearly_before else None


def check_request(request: SnapshotRequest, newest: str | None) -> None:
    """Raise Refused for a request that cannot be carried out; nothing has been touched."""
    if request.mode not in MODES:
        raise Refused(f"mode={request.mode!r}: one of {', '.join(MODES)} is expected")
    if newest is not None and parse_stamp(request.stamp) <= parse_stamp(newest):
        raise Refused(
            f"{request.stamp} is not later than the newest snapshot in {request.repository.root}, "
            f"{newest}; backup IDs must increase",
            "check the clock: timedatectl status",
        )
    source, target = request.source.resolve(), request.repository.root.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise Refused(
            f"the content store {source} and its backup {target} are inside each other",
            "set BACKUP_DIR in the .env to a folder outside the content store",
        )


def missing_content(scan: Scan, previous: Previous | None) -> str:
    """What makes a store look unmounted, as a sentence; empty when nothing does.

    So looks a folder in which nothing is left that the previous snapshot holds: Alfresco removes folders that
    become empty, so that it is most likely a mount point, perhaps one into which Alfresco has written since.
    So does a store that lost a large share of its days at once. In every mode: a weekly run must not accept
    what the others refuse.
    """
    if previous is None:
        return ""
    held = previous.days.keys() | previous.held
    gone = held - scan.days.keys() - scan.loose.keys()
    signs = _emptied(scan, held, held - gone, previous)
    if not signs and len(gone) >= MANY_DAYS and len(gone) > len(held) * MANY_SHARE:
        signs = [f"{len(gone)} of the {len(held)} days that snapshot {previous.stamp} holds are gone"]
    return f"{scan.source}: {'; '.join(signs)}" if signs else ""


def _emptied(scan: Scan, held: Set[str], still: Set[str], previous: Previous) -> list[str]:
    """A sentence for each folder that lost all it held; what lies within it is not named again.

    A single day may go while another comes. Files above the days count where nothing else is there: a store
    may have no day folders at all.
    """
    before = Counter(folder for path in held for folder in folders_above(path))
    loose = previous.loose.keys() | previous.held_loose
    with_files = {folder for path in loose for folder in folders_above(path)}
    kept = {folder for path in still for folder in folders_above(path)}
    filled = {folder for path in (*scan.days, *scan.loose) for folder in folders_above(path)}
    named: dict[str, str] = {}
    for folder in scan.containers:
        had = before[folder] or folder in with_files
        if not had or folder in kept or not named.keys().isdisjoint(folders_above(folder)):
            continue
        name = folder or "the store"
        if folder not in filled:
            named[folder] = f"{name} held content in snapshot {previous.stamp} and is empty now"
        elif before[folder] > 1:
            named[folder] = (
                f"none of the {before[folder]} days that snapshot {previous.stamp} holds of {name} is there "
                "now"
            )
    return list(named.values())


def folders_above(path: str) -> list[str]:
    """The folders that hold a path, outermost first; the store itself is ``""``."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts))] if path else []


def split_shares(weights: Mapping[str, int], parallel: int) -> list[list[str]]:
    """Divide paths into at most `parallel` shares of about the same weight, none of them trifling."""
    count = max(1, min(parallel, sum(weights.values()) // SMALLEST_SHARE))
    shares: list[tuple[int, int, list[str]]] = [(0, number, []) for number in range(count)]
    for path, weight in sorted(weights.items(), key=lambda item: (-item[1], item[0])):
        total, number, paths = heapq.heappop(shares)
        paths.append(path)
        heapq.heappush(shares, (total + weight, number, paths))
    return [sorted(paths) for _, _, paths in sorted(shares, key=lambda share: share[1]) if paths]
