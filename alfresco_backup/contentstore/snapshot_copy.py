"""The steps of a snapshot that run rsync: compare what may have changed, copy what has."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from alfresco_backup.contentstore.checksums import Recording, digest_of
from alfresco_backup.contentstore.losses import Comparison, Losses
from alfresco_backup.contentstore.plan import (
    Decisions,
    Previous,
    SnapshotPlan,
    SnapshotRequest,
    folders_above,
    split_shares,
    trusted_fingerprint,
)
from alfresco_backup.contentstore.rsync import (
    LINK_TARGETS,
    Origin,
    RsyncOutput,
    compare_command,
    copy_command,
    first_copy_command,
    first_copy_will_do,
    next_command,
    write_entries,
)
from alfresco_backup.contentstore.scan import Scan, Seen, identity_of
from alfresco_backup.contentstore.snapshot_tree import (
    make_containers,
    mark_boot,
    mark_synced,
    reclaim_leftovers,
)
from alfresco_backup.errors import BackupUnsound, ToolFailed, ToolTimedOut
from alfresco_backup.repository.days import Days, DayVersion
from alfresco_backup.repository.layout import partial_of
from alfresco_backup.system.folders import open_folder
from alfresco_backup.system.processes import Command, OnProgress, Watch, run_side_by_side

REPORT_SECONDS = 2.0
SYNC_SECONDS = 300.0
SeenNow = Mapping[str, Seen]
"""Called at most every two seconds with directories done and directories to do."""


@dataclass(frozen=True)
class Settled:
    """What is to be copied, and what the snapshot holds: first what it keeps, after copying all."""

    copy: list[str]
    holds: dict[str, DayVersion]


class Copying:
    """The steps of one snapshot that run rsync."""

    def __init__(
        self,
        request: SnapshotRequest,
        scan: Scan,
        previous: Previous | None,
        output: RsyncOutput,
        on_progress: OnProgress | None,
    ) -> None:
        self.request, self.scan, self.previous, self.output = request, scan, previous, output
        self.on_progress = on_progress
        self.outside: list[str] = []
        self.losses = Losses()
        self.total = 0
        self.reported = time.monotonic()

    def settle(self, plan: SnapshotPlan) -> tuple[Settled, Settled]:
        """Compare what has to be compared; what differs is copied, the rest is kept."""
        assert self.previous is not None or not (plan.days.compare or plan.loose.compare)
        self._require_in_place(self.scan.places)  # what went away during the scan was left out of it
        self._expect([*plan.days.compare, *plan.days.copy])
        self._compare_days(plan.days.compare)
        self._require_in_place(plan.days.compare)  # rsync passes over what is missing, as if unchanged
        differing = {*self.output.differing, *filter(self._loose_differs, plan.loose.compare)}
        self._expect(path for path in plan.days.compare if path in differing)
        known = self.previous
        return (
            self._settled(plan.days, differing, self.scan.days, known.days if known else {}),
            self._settled(plan.loose, differing, self.scan.loose, known.loose if known else {}),
        )

    def _settled(self, decisions: Decisions, differing: set[str], seen: SeenNow, known: Days) -> Settled:
        copy = [*decisions.copy, *(path for path in decisions.compare if path in differing)]
        holds = dict(decisions.keep)
        for path in decisions.compare:
            if path not in differing:
                holds[path] = replace(known[path], fingerprint=self._fingerprint(path, seen))
        return Settled(copy, holds)

    def _compare_days(self, paths: Iterable[str]) -> None:
        by_version: dict[tuple[str, str], dict[str, int]] = {}
        for path in paths:
            assert self.previous is not None
            key = (self.scan.volume_of(path), self.previous.days[path].version)
            by_version.setdefault(key, {})[path] = self.scan.days[path].directories
        for place in sorted({place for place, _ in by_version}):
            with self._volume(place) as origin, TemporaryDirectory(prefix="alfresco-backup-") as folder:
                jobs = [
                    (version, share)
                    for (volume, version), weights in by_version.items()
                    if volume == place
                    for share in split_shares(weights, self.request.options.parallel_copies)
                ]
                commands = []
                for number, (version, share) in enumerate(jobs):
                    names = write_entries(Path(folder, f"compare-{number}"), map(origin.relative, share))
                    kept = self.request.repository.day_trees(version) / place
                    commands.append(compare_command(self.request, origin, names, kept))
                self._run(commands, self._on_compare_line)

    @contextmanager
    def _volume(self, place: str) -> Iterator[Origin]:
        """Hold a volume open, so that it is the one that was looked at whatever its path leads to by now."""
        volume, here = self.scan.volumes[place], self.request.source / place
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(open_folder(Path(volume.real)))
                status = os.fstat(descriptor)
            except OSError as error:
                raise _not_in_place(here) from error
            if (status.st_dev, status.st_ino) != volume.identity:
                raise _not_in_place(here)
            self.output.origin = Origin(place, volume, descriptor)
            yield self.output.origin

    def _on_compare_line(self, line: str) -> None:
        self.output.on_compare_line(line)
        self._report()

    def _on_copy_line(self, line: str) -> None:
        self.output.on_copy_line(line)
        self._report()

    def _loose_differs(self, path: str) -> bool:
        assert self.previous is not None
        live = self.request.source / path
        kept = self.request.repository.day_trees(self.previous.loose[path].version) / path
        try:
            now, then = live.lstat(), kept.lstat()
            if (now.st_size, now.st_mtime_ns, now.st_mode) != (then.st_size, then.st_mtime_ns, then.st_mode):
                return True
            if live.is_symlink():
                return live.readlink() != kept.readlink()
            same = self.request.mode != "checksum" or digest_of(bytes(live)) == digest_of(bytes(kept))
        except OSError:
            return True  # rsync will say what is wrong with it
        return not same

    def copy(self, days: Settled, loose: Settled) -> Path | None:
        """Copy into the day trees of this stamp and enter what arrived. None: there was nothing to copy."""
        request = self.request
        earlier = reclaim_leftovers(request.repository, request.stamp)
        if not days.copy and not loose.copy:
            return None
        partial = partial_of(request.repository.day_trees(request.stamp))
        recording = Recording(request, partial, self.previous, earlier)
        comparison = Comparison(request, partial, self.previous, self.losses)
        recording.on_entered = comparison.compare
        self.output.on_copied = recording.copied
        above = {folder for path in [*days.copy, *loose.copy] for folder in folders_above(path)}
        above |= {place for path in days.copy if (place := self.scan.volume_of(path))}
        make_containers(partial, sorted(above))  # before the rsyncs, which would make them at the same time
        mark_boot(partial)
        weights = {path: self.scan.days[path].directories for path in days.copy}
        weights |= dict.fromkeys(loose.copy, 1)
        try:
            for place in sorted({self.scan.volume_of(path) for path in weights}):
                inside = {path: size for path, size in weights.items() if self.scan.volume_of(path) == place}
                self._copy_from(place, inside, partial, earlier)
        finally:
            recording.end_copying()
        self.output.directories = self.total  # rsync does not name those that are as in an older version
        self._report()
        self._require_in_place([*days.copy, *loose.copy])  # to rsync all that was there has vanished
        self._enter(days, self.scan.days, recording)
        self._enter(loose, self.scan.loose, recording)
        self.outside += recording.outside
        return partial

    def _copy_from(self, place: str, weights: Mapping[str, int], partial: Path, earlier: list[Path]) -> None:
        """Copy entries of one volume; their folders are there already."""
        with self._volume(place) as origin, TemporaryDirectory(prefix="alfresco-backup-") as folder:
            commands = []
            for number, (share, trees) in enumerate(self._shares(weights, earlier)):
                entries = list(map(origin.relative, share))
                names = write_entries(Path(folder, f"copy-{number}"), entries)
                targets = [tree / place for tree in trees if (tree / place).is_dir()]
                size = sum(weights[path] for path in share)
                if not targets and first_copy_will_do(self.request, origin, entries, size):
                    command = first_copy_command(self.request, origin, names, partial / place)
                else:
                    command = copy_command(self.request, origin, names, partial / place, targets)
                commands.append(command)
            flush = Watch(SYNC_SECONDS, lambda: mark_synced(partial, time.time_ns()))
            self._run(commands, self._on_copy_line, flush)

    def _shares(
        self, weights: Mapping[str, int], earlier: list[Path]
    ) -> Iterator[tuple[list[str], list[Path]]]:
        """What each rsync copies, and the trees it may link to: never what may be the live store itself.

        Of our own snapshots they are the trees of the versions, not the snapshot of links to them: rsync 3.5
        follows none that another account made. A rsync takes a limited number of them.
        """
        parallel = self.request.options.parallel_copies
        groups: dict[tuple[Path, ...], dict[str, int]] = {}
        for path, weight in weights.items():
            groups.setdefault(self._targets(path), {})[path] = weight
        most = max(1, LINK_TARGETS - len(earlier))
        alone = groups.pop((), {})
        for first in range(0, len(groups), most):
            some = list(groups)[first : first + most]
            together = {path: weight for group in some for path, weight in groups[group].items()}
            for share in split_shares(together, parallel):
                yield share, [*(tree for group in some for tree in group), *earlier]
        for share in split_shares(alone, parallel):
            yield share, earlier

    def _targets(self, path: str) -> tuple[Path, ...]:
        """The tree of the previous snapshot that holds an entry, if it may be linked to."""
        previous = self.previous
        if previous is None or previous.leads_elsewhere(path):
            return ()
        held = previous.days.get(path) or previous.loose.get(path)
        if held:
            return (self.request.repository.day_trees(held.version),)
        return () if previous.days or previous.loose else (previous.path,)

    def _expect(self, days: Iterable[str]) -> None:
        """Add the directories of these days to what is to be done."""
        self.total += sum(self.scan.days[path].directories for path in days)

    def _report(self) -> None:
        """Say how far it is. rsync names the folders above the days too, hence the upper bound."""
        if self.on_progress and time.monotonic() - self.reported >= REPORT_SECONDS:
            self.reported = time.monotonic()
            self.on_progress(min(self.output.directories, self.total), self.total)

    def _run(
        self, commands: list[Command], on_line: Callable[[str], None], watch: Watch | None = None
    ) -> None:
        parallel = self.request.options.parallel_copies
        try:
            for first in range(0, len(commands), parallel):
                run_side_by_side(commands[first : first + parallel], on_line=on_line, watch=watch)
        except ToolTimedOut:
            raise
        except ToolFailed as error:
            said = "\n".join(self.output.problems) or error.tail
            what = f"snapshot of {self.request.source}"
            hint = next_command(said, self.request, error.hint)
            program = error.program if error.program == "rsync" else "first_copy.py"
            raise ToolFailed(program, error.returncode, said, hint, what) from error

    def _enter(self, settled: Settled, seen: SeenNow, recording: Recording) -> None:
        """Enter what was copied among what the snapshot holds; what is not there vanished meanwhile."""
        for path in settled.copy:
            counts = recording.enter(path)
            if counts is None:
                self.output.vanished += 1
                self.losses.add_vanished(self.previous, path)
                continue
            fingerprint = self._fingerprint(path, seen)
            settled.holds[path] = DayVersion(self.request.stamp, fingerprint, *counts)

    def _fingerprint(self, path: str, seen: SeenNow) -> str | None:
        """None also where something vanished: it may have come back since, with all times as they were."""
        if path in self.output.short:
            return None
        return trusted_fingerprint(seen[path], self.scan, self.request.options)

    def _require_in_place(self, paths: Iterable[str]) -> None:
        """Raise BackupUnsound when the store, or what leads to one of these paths, went away meanwhile."""
        on_the_way = {""}.union(*([path, *folders_above(path)] for path in paths))
        for place, identity in self.scan.places.items():
            here = Path(self.request.source, place)
            if place not in on_the_way or (now := identity_of(str(here))) == identity:
                continue
            if now or not place or here.is_symlink():
                raise _not_in_place(here)


def _not_in_place(here: Path) -> BackupUnsound:
    return BackupUnsound(
        f"{here} is no longer the directory it was when the run started",
        f"was a file system unmounted? findmnt --target {os.path.realpath(here)}",
    )
