"""What a restore does to a host, as its journal notes it before it is done: all that undoing needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Service = Literal["alfresco", "postgresql"]


@dataclass(frozen=True)
class Stopped:
    """A service was stopped, or was down already (`running` false). Undo stops it again first of all."""

    service: Service
    running: bool


@dataclass(frozen=True)
class Renamed:
    """`source` became `target`, on one file system. Device and inode are those of what was renamed."""

    source: Path
    target: Path
    device: int
    inode: int


@dataclass(frozen=True)
class Created:
    """A new file or tree that only this restore can have made: its name bears the restore's stamp."""

    path: Path


@dataclass(frozen=True)
class MadeDirectory:
    """A directory that was missing on the way to a place. Undo removes it when it is empty."""

    path: Path


@dataclass(frozen=True)
class Filled:
    """Files were added to a store. `folder` holds the lists of them and the files that were replaced."""

    store: Path
    folder: Path


@dataclass(frozen=True)
class Touched:
    """A folder in which names change; its time before that, in nanoseconds."""

    path: Path
    time_ns: int


Act = Stopped | Renamed | Created | MadeDirectory | Filled | Touched
ACTS: Mapping[str, type[Act]] = {
    kind.__name__: kind for kind in (Stopped, Renamed, Created, MadeDirectory, Filled, Touched)
}
