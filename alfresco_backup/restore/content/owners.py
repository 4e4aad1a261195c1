"""With whose rights root works in a content store: those of the account that can change the way there.

That is the first account but root, from the store's own folder down, that owns a folder or a link. It could
put a link in the place of anything below; with its own rights one leads no further than it could go by
itself. Where all folders are root's nobody else can, and what is new there gets the owner it is to have.
"""

import os
from collections.abc import Callable
from pathlib import Path

from alfresco_backup.system.accounts import ROOT, Account, acting_as, known_account
from alfresco_backup.system.mounts import is_mount_point, mount_points

FOLDERS_KNOWN = 100_000
NewOwner = Callable[[str], Account]
"""Whom a new folder is to belong to, by its path in the store."""


class StoreFolders:
    """What is known of the folders of a store: links, mount points, owners.

    `closed`: a store that nobody but root can enter yet, in which root works as it is. A fill that is to give
    the store to `owner` sees it as that account's already.
    """

    def __init__(
        self, store: Path, new_owner: NewOwner, *, closed: bool = False, owner: Account | None = None
    ) -> None:
        self._store, self._new_owner = store, new_owner
        self._closed = closed or os.geteuid() != ROOT
        self.owner = owner
        self._places: dict[str, str] = {"": ""}
        self._accounts: dict[str, Account | None] = {}
        self._mounts = mount_points()
        self._reaching: dict[int, bool] = {}

    def place(self, folder: str) -> str:
        """The lowest link or mount point among a folder and those above it; empty for the store itself.

        rsync (3.5) does not write through links; between mount points a rename becomes a copy.
        """
        if len(self._places) > FOLDERS_KNOWN:
            self._places = {"": ""}
        if folder not in self._places:
            upper = os.path.dirname(folder)  # noqa: PTH120 - many text paths
            path = self._store / folder
            leads_away = path.is_symlink() or is_mount_point(path, self._mounts)
            self._places[folder] = folder if leads_away else self.place(upper)
        return self._places[folder]

    def real(self, place: str) -> Path:
        """Where a place is, without links."""
        return Path(os.path.realpath(self._store / place)) if place else self._store

    def is_elsewhere(self, place: str) -> bool:
        """Whether a place is where a link leads that another account made: it may lead anywhere tomorrow."""
        return bool(place) and self.account(place) is not None and (self._store / place).is_symlink()

    def account(self, folder: str) -> Account | None:
        """With whose rights root works in a folder, be it there yet or not; None: with its own."""
        if self._closed:
            return None
        if len(self._accounts) > FOLDERS_KNOWN:
            self._accounts = {}
        if folder not in self._accounts:
            if folder:
                upper = self.account(os.path.dirname(folder))  # noqa: PTH120
            else:
                upper = self.owner if self.owner and self._reaches(self.owner) else None
            self._accounts[folder] = upper or self._first_owner(folder)
        return self._accounts[folder]

    def forget(self) -> None:
        """Look at folders again, of which one was made meanwhile."""
        self._accounts = {}

    def _first_owner(self, folder: str) -> Account | None:
        """The owner of a folder, or of the link in its place, that is not root."""
        path = self._store / folder
        try:
            found = [path.lstat()]
        except (FileNotFoundError, NotADirectoryError):
            owner = self._new_owner(folder)
            return owner if owner.uid != ROOT and self._reaches(owner) else None
        if path.is_symlink():
            found.append(path.stat())
        owners = (known_account(status.st_uid, status.st_gid) for status in found)
        return next((owner for owner in owners if owner.uid != ROOT and self._reaches(owner)), None)

    def _reaches(self, account: Account) -> bool:
        """Whether an account can get to the store at all; one that cannot changes nothing on the way."""
        if account.uid not in self._reaching:
            with acting_as(account):
                self._reaching[account.uid] = os.path.lexists(f"{self._store}/.")
        return self._reaching[account.uid]
