"""The repository on disk (BACKUP_DIR): the one module that knows its names.

The layout is an interface: readable with `ls`, restorable with `cp`, `tar` and `pg_ctl` alone.
"""

import shlex
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alfresco_backup.errors import HostNotReady
from alfresco_backup.system.files import PARTIAL

BASE_PREFIX = "base-"
SNAPSHOT_PREFIX = "contentstore-"
CONFIGURATION_PREFIX = "configuration-"
DAYS = "days"
LATEST = "latest"
PREDECESSOR_LATEST = "last"
MANIFEST = "backup_manifest"
BASE_METADATA = "backup.json"
CHECKSUMS = ".checksums"
COPIED = ".copied"
DIGESTED_PARTS = ("keystore", "shared-classes")

Component = Literal["postgres", "contentstore", "configuration"]
"""A component of a backup, as `--only` and the flow's parameter name it."""


@dataclass(frozen=True)
class ComponentPlace:
    """Where the copies of a component are: a folder of BACKUP_DIR, and what their names begin with.

    `continued`: the next run continues what a failed one left; otherwise it removes it.
    """

    folder: str
    prefix: str
    continued: bool = False


COMPONENTS: Mapping[Component, ComponentPlace] = {
    "postgres": ComponentPlace("postgres", BASE_PREFIX),
    "contentstore": ComponentPlace("contentstore", SNAPSHOT_PREFIX, continued=True),
    "configuration": ComponentPlace("configuration", CONFIGURATION_PREFIX),
}
"""What a complete set is made of, in the order in which a run copies it."""


def is_everything(components: Collection[str]) -> bool:
    """Whether a run of these components makes a complete set."""
    return COMPONENTS.keys() <= set(components)


def partial_of(path: Path) -> Path:
    """The name of a tree until it is complete."""
    return path.with_name(path.name + PARTIAL)


def metadata_of(tree: Path) -> Path:
    """The metadata file of a snapshot or configuration tree: beside it, never inside."""
    return tree.with_name(tree.name + ".json")


def beside_tree(tree: Path, kind: str) -> Path:
    """What belongs to a run's day trees and is beside them: `CHECKSUMS`, or `COPIED` while it copies."""
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

    def snapshot(self, stamp: str) -> Path:
        return self.root / f"{SNAPSHOT_PREFIX}{stamp}"

    def day_trees(self, stamp: str) -> Path:
        return self.days / stamp

    def checksums(self, stamp: str) -> Path:
        """The lists of checksums of what a run copied; those of a predecessor's whole tree are there too."""
        return self.days / f"{stamp}{CHECKSUMS}"


@dataclass(frozen=True)
class Repository:
    """BACKUP_DIR."""

    root: Path

    def folder_of(self, component: Component) -> Path:
        """The folder of a component's copies; for content stores that of the main one."""
        return self.root / COMPONENTS[component].folder

    @property
    def postgres(self) -> Path:
        return self.folder_of("postgres")

    @property
    def wal(self) -> Path:
        return self.root / "pg_wal"

    @property
    def wal_receiver(self) -> Path:
        """Where WAL is streamed to; the finished segments are copied into the archive."""
        return self.root / "wal-receiver"

    @property
    def receiver_state(self) -> Path:
        """What the receiver notes for those who only look."""
        return self.root / "wal-receiver.json"

    @property
    def configurations(self) -> Path:
        return self.folder_of("configuration")

    @property
    def logs(self) -> Path:
        """Raw output of the tools, one file a run."""
        return self.root / "logs"

    @property
    def pins(self) -> Path:
        """Which sets retention must not remove, one file a set."""
        return self.root / "pins"

    @property
    def marker(self) -> Path:
        """What shows that this is the repository, and not the place below a disk that is not mounted."""
        return self.root / "repository.json"

    @property
    def timelines(self) -> Path:
        """The timelines that the host's own server was seen on."""
        return self.root / "timelines.json"

    @property
    def holds(self) -> Path:
        """Why retention removes nothing until somebody accepts it, one file a run."""
        return self.root / "holds"

    @property
    def offsite(self) -> Path:
        """What the off-site copy notes and caches here; no part of the repository, and never sent."""
        return self.root / "offsite"

    @property
    def exports(self) -> Path:
        """Documents that were exported without a folder of their own, one folder a run; never removed."""
        return self.root / "exports"

    @property
    def configures(self) -> Path:
        """What `configure` changed on the host, with copies to undo it, one folder a time."""
        return self.root / "configure"

    def require(self) -> None:
        """Raise HostNotReady where it is not there, rather than make one on the wrong disk."""
        try:
            there = is_there(self.root)
        except OSError as error:
            raise HostNotReady(
                f"BACKUP_DIR={self.root} cannot be read: {error.strerror}",
                f"namei -l {shlex.quote(str(self.root))}",
            ) from error
        if not there:
            raise HostNotReady(
                f"BACKUP_DIR={self.root} does not exist; its disk may not be mounted",
                f"namei -l {shlex.quote(str(self.root))}",
            )

    def restores(self, host: str) -> Path:
        """Journals and reports of the restores done on `host`."""
        return self.root / "restores" / host

    @property
    def contentstore(self) -> StoreRepository:
        """The main content store's snapshots."""
        return StoreRepository(self.folder_of("contentstore"))

    def store(self, name: str) -> StoreRepository:
        """A content store's snapshots; `contentstore` is the main one, others are in `stores/`."""
        return self.contentstore if name == "contentstore" else StoreRepository(self.root / "stores" / name)

    def base(self, stamp: str) -> Path:
        return self.postgres / f"{BASE_PREFIX}{stamp}"

    def configuration(self, stamp: str) -> Path:
        return self.configurations / f"{CONFIGURATION_PREFIX}{stamp}"
