"""The repository on disk (BACKUP_DIR): the one module that knows its names.

The layout is an interface: readable with `ls`, restorable with `cp`, `tar` and `pg_ctl` alone.
"""

import stat
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import HostNotReady
from alfresco_backup.system.files import PARTIAL

BASE_PREFIX = "base-"
SNAPSHOT_PREFIX = "contentstore-"
CONFIGURATION_PREFIX = "configuration-"
DAYS = "days"
LATEST = "latest"
PREDECESSOR_LATEST = "last"
ACCEPTED = "accept-missing-days"
MANIFEST = "backup_manifest"
BASE_METADATA = "backup.json"
CHECKSUMS = ".checksums"
COPIED = ".copied"
DIGESTED_PARTS = ("keystore", "shared-classes")


def partial_of(path: Path) -> Path:
    """The name a tree bears until it is whole."""
    return path.with_name(path.name + PARTIAL)


def metadata_of(tree: Path) -> Path:
    """The metadata file of a snapshot or configuration tree: beside it, never inside."""
    return tree.with_name(tree.name + ".json")


def beside_tree(tree: Path, kind: str) -> Path:
    """What belongs to a run's day trees and lies beside them: `CHECKSUMS`, or `COPIED` while it copies."""
    ending = PARTIAL if tree.name.endswith(PARTIAL) else ""
    return tree.with_name(f"{tree.name.removesuffix(PARTIAL)}{kind}{ending}")


def is_there(folder: Path) -> bool:
    """Whether a folder exists. Unlike `is_dir`, raises OSError when that cannot be told."""
    try:
        return stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class StoreRepository:
    """The snapshots of one content store: `root/contentstore-STAMP/`, `root/days/STAMP/`, `root/latest`."""

    root: Path

    @property
    def days(self) -> Path:
        return self.root / DAYS

    @property
    def latest(self) -> Path:
        return self.root / LATEST

    @property
    def accepted(self) -> Path:
        """Made by people: the next snapshot may lack what the one before it held. It removes the file."""
        return self.root / ACCEPTED

    def snapshot(self, stamp: str) -> Path:
        return self.root / f"{SNAPSHOT_PREFIX}{stamp}"

    def day_trees(self, stamp: str) -> Path:
        return self.days / stamp

    def checksums(self, stamp: str) -> Path:
        """The lists of checksums of what a run copied; those of a predecessor's whole tree lie there too."""
        return self.days / f"{stamp}{CHECKSUMS}"


@dataclass(frozen=True)
class Repository:
    """BACKUP_DIR."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def wal(self) -> Path:
        return self.root / "pg_wal"

    @property
    def configurations(self) -> Path:
        return self.root / "configuration"

    @property
    def logs(self) -> Path:
        """Raw output of the tools, one file a run."""
        return self.root / "logs"

    @property
    def pins(self) -> Path:
        """Which sets retention must not remove, one file a set."""
        return self.root / "pins"

    @property
    def configures(self) -> Path:
        """What `configure` changed on the host, with copies to take it back, one folder a time."""
        return self.root / "configure"

    def require(self) -> None:
        """Raise HostNotReady where it is not there, rather than make one on the wrong disk."""
        try:
            there = is_there(self.root)
        except OSError as error:
            raise HostNotReady(
                f"BACKUP_DIR={self.root} cannot be looked at: {error.strerror}", f"ls -ld {self.root}"
            ) from error
        if not there:
            raise HostNotReady(
                f"BACKUP_DIR={self.root} does not exist; is the disk mounted?", f"ls -ld {self.root}"
            )

    def restores(self, host: str) -> Path:
        """Journals and reports of the restores done on `host`."""
        return self.root / "restores" / host

    @property
    def contentstore(self) -> StoreRepository:
        """The main content store's snapshots."""
        return StoreRepository(self.root / "contentstore")

    def store(self, name: str) -> StoreRepository:
        """A content store's snapshots; `contentstore` is the main one, others lie in `stores/`."""
        return self.contentstore if name == "contentstore" else StoreRepository(self.root / "stores" / name)

    def base(self, stamp: str) -> Path:
        return self.postgres / f"{BASE_PREFIX}{stamp}"

    def configuration(self, stamp: str) -> Path:
        return self.configurations / f"{CONFIGURATION_PREFIX}{stamp}"
