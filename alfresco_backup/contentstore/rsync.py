"""How rsync is told to copy and to compare day trees, and what it says.

What is kept of a file: name (any bytes), content, mtime, mode, and as root its owner; as another user its
group where that user may set it. Not kept: ACLs, extended attributes, hard links between files of the store
(each becomes a file of its own) and holes in sparse files. Alfresco uses none of them. Pipes, sockets and
devices are left out and counted. Directories are always writable for their owner, so that whoever made a
backup can remove it.

Links stay links: which are followed is decided before (volumes.py), and rsync is given real directories. So
it neither follows a link that another account made (before 3.5), nor refuses to (3.5).
"""

import os
import re
import shlex
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import alfresco_backup.contentstore.first_copy
from alfresco_backup.contentstore.plan import SnapshotRequest
from alfresco_backup.contentstore.scan import DAY_DEPTH
from alfresco_backup.contentstore.volumes import Volume
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.folders import creating
from alfresco_backup.system.processes import Command, account_argv

TOLERATED: Mapping[int, str] = {
    24: "files were deleted while they were copied, which is normal in a live store"
}
KEEP = (
    *("--recursive", "--links", "--perms", "--times", "--owner", "--group"),
    *("--numeric-ids", "--chmod=Du+rwx"),
)
CHECKSUMS_WANTED: Mapping[str, str] = {"RSYNC_CHECKSUM_LIST": "sha1 md5"}
"""What it computes while it copies: the first of these that it knows. Before 3.2 it is always MD5."""
LISTED = ("--from0", "--ignore-missing-args")
LINK_TARGETS = 20
"""rsync takes at most so many --link-dest (man rsync)."""
SMALLEST_FIRST_COPY = 300
"""Directories from which on first_copy.py is faster."""
FULL = ("No space left on device", "Disk quota exceeded")
_UNCHANGED = re.compile(r"\.[fdL] {9} ")
_ESCAPED = re.compile(r"\\#(\d{3})")
_ITEM = re.compile(r"(?:[<>ch.][fdLDS]\S{9}|\*deleting  ) (.*)", re.DOTALL)
_COPIED = re.compile(r">f\S{9} ([0-9a-f]{32}|[0-9a-f]{40}) (.*)", re.DOTALL)
_TRANSFERRED = re.compile(r"Number of regular files transferred: ([\d,]+)")
_SIZE = re.compile(r"Total transferred file size: ([\d,]+) bytes")
_VANISHED = re.compile(r'(?:file|directory) has vanished: "?(.*?)"?', re.DOTALL)
_SKIPPED = re.compile(r"skipping non-regular file ")


@dataclass(frozen=True)
class Origin:
    """Where rsync copies from: a volume of the store at `place` in it, held open by its descriptor."""

    place: str
    volume: Volume
    descriptor: int

    def relative(self, path: str) -> str:
        """A path of the store as rsync finds it in the volume."""
        return (path[len(self.place) + 1 :] if self.place else path) or "."


def other_account(account: Account | None) -> tuple[tuple[str, ...], str]:
    """Options, and what goes before a path, for the end of an rsync that works with an account's rights.

    rsync starts that end as it would on another host, by a remote shell; this one only changes the account
    (the `lsh` that comes with rsync does the same). Nothing, for this process's own account.
    """
    change = account_argv(account)
    if not change:
        return (), ""
    shell = shlex.join((*change, "sh", "-c", 'shift; exec "$@"', "sh"))
    return ("--protect-args", f"--rsh={shell}"), "account:"


def copy_command(
    request: SnapshotRequest, origin: Origin, names: Path, target: Path, link_targets: Sequence[Path]
) -> Command:
    """Copy the entries listed in `names` into `target`, which must be new.

    Never into a tree that holds files already: rsync would change the modes of files that are hard links into
    published versions. Files equal to those in a link target become hard links to them.
    """
    options = ["--stats", "--out-format=%i %C %n"]
    options += [f"--link-dest={path}" for path in link_targets[:LINK_TARGETS]]
    command = _command(request, origin, options, names, target)
    return command if request.mode == "checksum" else replace(command, environment=CHECKSUMS_WANTED)


def first_copy_command(request: SnapshotRequest, origin: Origin, names: Path, target: Path) -> Command:
    """The same as copy_command does where there is nothing to link to, in half the time: first_copy.py."""
    program = alfresco_backup.contentstore.first_copy.__file__
    argv = (sys.executable, "-I", program, str(names), str(target))
    rsync = _command(request, origin, (), names, target)
    return replace(rsync, argv=argv)


def first_copy_will_do(request: SnapshotRequest, origin: Origin, entries: Sequence[str], size: int) -> bool:
    """Whether first_copy.py can take the place of an rsync without link targets, and is worth it.

    It keeps to no bandwidth and changes to no other account; of small shares rsync is as fast.
    """
    asks_more = request.mode == "checksum" or request.options.bandwidth_limit_mib
    other = other_account(origin.volume.account) != ((), "")
    return size >= SMALLEST_FIRST_COPY and not asks_more and not other and "." not in entries


def compare_command(request: SnapshotRequest, origin: Origin, names: Path, version: Path) -> Command:
    """Say what differs between the store and a published version, and change nothing.

    Times of directories do not count: a file that came and went leaves no difference.
    """
    options = ["--dry-run", "--delete", "--omit-dir-times", "-ii", "--out-format=%i %n"]
    return _command(request, origin, options, names, version)


def _command(
    request: SnapshotRequest, origin: Origin, options: Sequence[str], names: Path, target: Path
) -> Command:
    checksum = ["--checksum"] if request.mode == "checksum" else []
    limit = request.options.bandwidth_limit_mib
    bandwidth = [f"--bwlimit={limit:g}m"] if limit else []
    reading, here = other_account(origin.volume.account)
    ends = (f"{here}./", f"{target}/")
    return Command(
        ("rsync", *options, *KEEP, *LISTED, *checksum, *bandwidth, *reading, f"--files-from={names}", *ends),
        request.options.limit_hours * 3600,
        tolerated=TOLERATED,
        directory=origin.descriptor,
        hint=f"see {request.log}; run the backup as root or as the owner of {request.source}",
    )


def next_command(said: str, request: SnapshotRequest, otherwise: str) -> str:
    """What to type after an rsync that failed with these words."""
    if not any(words in said for words in FULL):
        return otherwise
    root = shlex.quote(str(request.repository.root))
    return f"free space on that disk: df -h {root}; df -i {root}; the next run continues with what was copied"


def write_names(file: Path, paths: Iterable[str]) -> Path:
    """A new list of names with a NUL after each, so that they may hold anything."""
    with creating(file) as stream:
        stream.writelines(os.fsencode(path) + b"\0" for path in paths)
    return file


def write_entries(file: Path, paths: Iterable[str]) -> Path:
    """The list of entries for --files-from.

    A name that begins with # or ; would be a comment to rsync, which says nothing of it. A leading slash it
    takes off.
    """
    return write_names(file, (f"/{path}" for path in paths))


def unescape(name: str) -> str:
    """A name as rsync prints it in the C locale (`\\#012` for a newline) as Python writes it."""
    return os.fsdecode(_raw(name))


def _raw(name: str) -> bytes:
    if "\\#" in name:
        name = re.sub(_ESCAPED, lambda match: chr(int(match[1], 8)), name)
    return name.encode("latin-1")


@dataclass
class RsyncOutput:
    """Reads what the rsyncs of one snapshot print: counts, differing days, and the words worth keeping.

    `on_copied` gets name and checksum of each file that was copied, in the order in which that was done.
    `short` are the days and loose entries in which something vanished. rsync's names are those of a volume:
    `origin` says whose.
    """

    keep_line: Callable[[str], None]
    origin: Origin | None = None
    on_copied: Callable[[bytes, bytes], None] | None = None
    files: int = 0
    bytes: int = 0
    directories: int = 0
    vanished: int = 0
    skipped: int = 0
    differing: set[str] = field(default_factory=set)
    short: set[str] = field(default_factory=set)
    problems: deque[str] = field(default_factory=lambda: deque(maxlen=25))

    def on_copy_line(self, line: str) -> None:
        """A line of a copying rsync. The list of copied files is only counted: it may be millions long."""
        if line.startswith("cd+"):
            self.directories += 1
        elif copied := _COPIED.fullmatch(line):
            if self.on_copied:
                place = self.origin.place if self.origin else ""
                above = os.fsencode(f"{place}/") if place else b""
                self.on_copied(above + _raw(copied[2]), bytes.fromhex(copied[1]))
        elif not _ITEM.match(line):
            if found := _TRANSFERRED.match(line):
                self.files += _number(found)
            elif found := _SIZE.match(line):
                self.bytes += _number(found)
            self._note(line)

    def on_compare_line(self, line: str) -> None:
        """A line of a comparing rsync: it names every entry, so that progress is seen; few of them differ."""
        self.directories += line.startswith((".d", "cd"))
        if _UNCHANGED.match(line):
            return
        if found := _ITEM.match(line):
            parts = self._path(unescape(found[1])).rstrip("/").split("/")
            if len(parts) >= DAY_DEPTH:
                self.differing.add("/".join(parts[:DAY_DEPTH]))
            self.keep_line(line)
        else:
            self._note(line)

    def _note(self, line: str) -> None:
        self.keep_line(line)
        if found := _VANISHED.fullmatch(line):
            self.vanished += 1
            real = self.origin.volume.real if self.origin else ""
            parts = self._path(unescape(found[1]).removeprefix(f"{real}/")).split("/")
            self.short.add("/".join(parts[:DAY_DEPTH]))
        elif _SKIPPED.match(line):
            self.skipped += 1
        elif line.startswith(("rsync:", "rsync error:", "copy:")):
            self.problems.append(line)

    def _path(self, name: str) -> str:
        """A name of rsync's as a path of the store."""
        place = self.origin.place if self.origin else ""
        return os.path.normpath(f"{place}/{name}") if place else name


def _number(found: re.Match[str]) -> int:
    return int(found[1].replace(",", ""))
