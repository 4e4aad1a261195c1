"""The rsync commands that copy content into a store. Pure."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from alfresco_backup.contentstore.rsync import CHECKSUMS_WANTED, other_account, unescape
from alfresco_backup.errors import BackupError
from alfresco_backup.system.accounts import Account
from alfresco_backup.system.processes import Command

_COPIED = re.compile(r"[<>]f\S{9} (\d+)")
_CHECKED = re.compile(r"[<>]f\S{9} \d+ ([0-9a-f]{32}|[0-9a-f]{40}) (.*)", re.DOTALL)
HOUR = 3600.0


@dataclass(frozen=True)
class CopyOptions:
    """What every copy into one store has in common.

    `owner` is the owner that files and folders get; None: as recorded in the backup, where root copies.
    """

    owner: Account | None
    limit_hours: float
    bandwidth_limit_mib: float
    hint: str

    def ownership(self) -> tuple[str, ...]:
        """rsync's options for the owner; an ordinary user's files can only be its own."""
        if os.geteuid() != 0:
            return ()
        chown = (f"--chown={self.owner.uid}:{self.owner.gid}",) if self.owner else ()
        return ("--owner", "--group", "--numeric-ids", *chown)

    def command(self, options: Sequence[str], names: Path, ends: "Ends", target: int) -> Command:
        """Copy what `names` lists into the folder `target`. Links are copied as links; nothing is deleted."""
        limit = self.bandwidth_limit_mib
        bandwidth = (f"--bwlimit={limit:g}m",) if limit else ()
        common = ("--links", "--perms", "--times", "--whole-file", "--from0", "--out-format=%i %l %C %n")
        owners = () if ends.writer else self.ownership()
        more = (*owners, *bandwidth, f"--files-from={names}", *ends.arguments())
        return Command(
            ("rsync", *options, *common, *more),
            self.limit_hours * HOUR,
            CHECKSUMS_WANTED,
            account=ends.account,
            hint=self.hint,
            directory=target,
        )


@dataclass(frozen=True)
class Ends:
    """Where a rsync copies from, and with whose rights it reads and writes; None: this process's."""

    base: str
    reader: Account | None = None
    writer: Account | None = None

    @property
    def account(self) -> Account | None:
        """Whose rights the whole rsync has. Raises BackupError where both ends have those of two accounts."""
        if self.reader is None or self.writer is None:
            return None
        if self.reader.uid != self.writer.uid:
            names = " and ".join(str(account.name or account.uid) for account in (self.reader, self.writer))
            raise BackupError(f"{self.base} is to be read, and the store written, by two accounts: {names}")
        return self.writer

    def arguments(self) -> tuple[str, ...]:
        """Source and target of rsync, which works in the target."""
        if self.account is not None:
            return (f"{self.base}/", "./")
        options, here = other_account(self.reader or self.writer)
        source, target = (here, "") if self.reader else ("", here)
        return (*options, f"{source}{self.base}/", f"{target}./")


def whole_trees() -> tuple[str, ...]:
    """Options for copying whole trees into a new store, whose folders above them exist."""
    return ("--recursive", "--no-implied-dirs")


def single_files(temporary: Path, kept: Path) -> tuple[str, ...]:
    """Options for copying files into a store that is in use: folders stay as they are.

    A file that is replaced is kept below `kept`. A file is written below `temporary` and then renamed, so
    that a killed rsync leaves nothing under a wrong name.
    """
    return (
        *("--no-implied-dirs", "--omit-dir-times", f"--temp-dir={temporary}"),
        *("--backup", f"--backup-dir={kept}"),
    )


def copied_bytes(line: str) -> int | None:
    """The size of the file that a line of rsync's output says it copied; None for other lines."""
    found = _COPIED.match(line)
    return int(found[1]) if found else None


def copied_file(line: str) -> tuple[str, bytes] | None:
    """Name and checksum of the file that a line of rsync's output says it copied; None for other lines."""
    found = _CHECKED.fullmatch(line)
    return (unescape(found[2]), bytes.fromhex(found[1])) if found else None


def deal(items: Sequence[str], hands: int, smallest: int = 1) -> list[list[str]]:
    """Divide items into at most `hands` shares of about the same number, none smaller than `smallest`."""
    count = max(1, min(hands, len(items) // smallest))
    return [share for number in range(count) if (share := list(items[number::count]))]


def batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Items by so many at a time, in their order; the last ones may be fewer."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
