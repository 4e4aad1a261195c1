"""Copying a folder of the host by rsync, with what its links lead to as far as their makers may read it.

Alfresco's account may put a link to a root-only file into its keystore. With root's rights its content would
be in the set, and in the hands of whoever restores it. So rsync keeps links as links, and what one leads to
is copied afterwards: with the rights of the account that made it, where that is not root.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alfresco_backup.contentstore.rsync import other_account
from alfresco_backup.contentstore.volumes import leads_out
from alfresco_backup.errors import BackupUnsound, ToolFailed
from alfresco_backup.settings.commands import own_links
from alfresco_backup.system.accounts import Account, acting_as, known_account
from alfresco_backup.system.folders import open_folder, trace, unlink, untrusted_link
from alfresco_backup.system.processes import Command, run

VANISHED: Mapping[int, str] = {24: "files vanished meanwhile: Solr removes its old backups itself"}
DEEPEST = 8
"""Links that lead to folders with links that lead to folders, and so on; a circle ends there."""


@dataclass
class TreeCopy:
    """Copies folders within one time limit each. `unread`: links to what their makers may not read."""

    log: Path
    limit_seconds: float
    hint: str
    unread: list[Path] = field(default_factory=list)

    def copy(self, source: Path, target: Path, earlier: Path | None) -> None:
        """Copy `source` to `target`, whose parent belongs to this process's account alone.

        What is unchanged since `earlier` shares its inodes, never the host's. Raises ToolFailed, and
        BackupUnsound where links of several accounts lead to the folder.
        """
        try:
            found = trace(str(source))
        except OSError as error:
            raise BackupUnsound(f"{source} cannot be read: {error.strerror}", self.hint) from error
        if len(found.makers) > 1:
            raise BackupUnsound(
                f"links of several accounts lead to {source}: root does not follow them",
                own_links(untrusted_link(source) or source),
            )
        self._folder(Path(found.real), target, earlier, next(iter(found.makers), None), 0)

    def _folder(
        self, source: Path, target: Path, earlier: Path | None, account: Account | None, depth: int
    ) -> None:
        reading, here = other_account(account)
        known = (f"--link-dest={earlier}",) if earlier and earlier.is_dir() else ()
        with open_folder(source) as folder:
            argv = ("rsync", "-a", "--stats", *known, *reading, f"{here}./", f"{target}/")
            self._run(argv, folder)
        for link in list(_links(target)):
            relative = link.relative_to(target)
            if leads_out(os.fspath(link.readlink()), os.fspath(relative)):
                kept = earlier / relative if earlier else None
                self._linked(source / relative, link, kept, account, depth)

    def _linked(
        self, link: Path, copy: Path, earlier: Path | None, account: Account | None, depth: int
    ) -> None:
        """Put what a link leads to in the place of its copy."""
        status = copy.lstat()
        if status.st_uid not in (0, os.geteuid()):
            account = account or known_account(status.st_uid, status.st_gid)
        if account is not None and not _may_read(link, account):
            self.unread.append(link)
            return
        if depth >= DEEPEST:
            raise ToolFailed("rsync", 23, f"{link}: too many links", self.hint)
        with acting_as(account):
            real = Path(os.path.realpath(link))
            is_folder = real.is_dir()
        unlink(copy)
        if is_folder:
            self._folder(real, copy, earlier, account, depth + 1)
            return
        reading, here = other_account(account)
        with open_folder(real.parent) as folder:
            self._run(("rsync", "-a", *reading, f"{here}./{real.name}", str(copy)), folder)

    def _run(self, argv: tuple[str, ...], folder: int) -> None:
        command = Command(argv, self.limit_seconds, tolerated=VANISHED, hint=self.hint, directory=folder)
        run(command, log=self.log)


def _may_read(link: Path, account: Account) -> bool:
    """Whether an account can open what a link leads to."""
    try:
        with acting_as(account):
            os.close(os.open(link, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _links(tree: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                yield path
