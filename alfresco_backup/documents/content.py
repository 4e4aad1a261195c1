"""Where the content file of a document is: in the live store, in a snapshot, off-site only, or nowhere."""

import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Literal

from alfresco_backup.contentstore.check import EMPTY_URL, FILE_PROTOCOL, WITHOUT_FILE, relative_path
from alfresco_backup.documents.nodes import ContentFile
from alfresco_backup.errors import BackupError
from alfresco_backup.host.host import Host
from alfresco_backup.offsite.copy import engine_of
from alfresco_backup.offsite.engine import STILL_SECONDS, FarSideAway, FarSideDamaged
from alfresco_backup.offsite.far import read_far
from alfresco_backup.repository.layout import SNAPSHOT_PREFIX
from alfresco_backup.repository.records import MAIN_STORE, Snapshot
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.processes import Watch

Kind = Literal["live", "snapshot", "off-site", "none", "elsewhere", "lost"]
PATTERNS = 100
"""Paths that restic is asked for at once: each is some 60 bytes of an argument list."""
EMPTY = "empty; is it mounted?"
NOT_ASKED = "not the off-site copy, which did not answer"


@dataclass(frozen=True)
class Place:
    """Where a content file is. `file` is None for `none`, a node without a file, for `lost` and `off-site`.

    `snapshot`: the backup ID of a snapshot, or of the one off-site that has it. `protocol`: of `elsewhere`,
    that of the URL. `looked`: the places that were looked at in vain; one that has a file of another size
    says so. `unread`: one of them could not be looked at, so that `lost` is not proven.
    """

    kind: Kind
    file: Path | None = None
    root: Path | None = None
    snapshot: str = ""
    protocol: str = ""
    looked: tuple[str, ...] = ()
    unread: bool = False

    @property
    def words(self) -> str:
        """For people: `live store`, `snapshot 20261122T020000Z`, `LOST, looked at ...`."""
        if self.kind == "snapshot":
            return f"snapshot {self.snapshot}"
        if self.kind == "off-site":
            return f"off-site, backup ID {self.snapshot}"
        if self.kind == "elsewhere":
            return f"in a store of {self.protocol}://, which this host does not have"
        if self.kind == "lost":
            what = "NOT FOUND" if self.unread else "LOST"
            return f"{what}, looked at: {', '.join(self.looked) or 'nothing, there are no snapshots'}"
        return "live store" if self.kind == "live" else ""


@dataclass(frozen=True)
class Shelves:
    """All places of this host where content files are: the live stores and the snapshots, newest first.

    `doubts`: places that are not to be believed when they have not a file, each with the reason; also such
    that cannot be looked at.
    """

    stores: Mapping[str, Path]
    snapshots: tuple[Snapshot, ...] = ()
    doubts: Mapping[str, str] = field(default_factory=dict)

    def find(self, content: ContentFile | None) -> Place:
        """The first place with a file of the recorded size. Encrypted files are larger than recorded."""
        protocol = content.url.partition("://")[0] if content else EMPTY_URL
        if content is None or protocol in WITHOUT_FILE:
            return Place("none")
        if protocol != FILE_PROTOCOL:
            return Place("elsewhere", protocol=protocol, unread=True)
        return next(self.places(content), None) or self._lost(content)

    def places(self, content: ContentFile) -> Iterator[Place]:
        """All places that have a file of the recorded size, the live stores first."""
        path = relative_path(content.url)
        if path is None:
            return
        for root in self.stores.values():
            if _fits(root / path, content):
                yield Place("live", root / path, root)
        for item in self.snapshots:
            if _fits(item.path / path, content):
                yield Place("snapshot", item.path / path, item.path, item.stamp)

    def _lost(self, content: ContentFile) -> Place:
        path = relative_path(content.url)
        if path is None:
            return Place("lost", looked=("its URL, which leads out of the store",))
        stores = {item.store: False for item in self.snapshots}
        stores |= {item.store: True for item in self.snapshots if item.files or item.legacy}
        seen = {
            _live(store): _seen(root, path, may_be_empty=not stores.get(store, True))
            for store, root in self.stores.items()
        }
        seen |= {
            f"{item.store} {item.stamp}": _seen(item.path, path, may_be_empty=not (item.files or item.legacy))
            for item in self.snapshots
        }
        seen |= {name: (f" ({why})", False) for name, why in self.doubts.items()}
        looked = tuple(f"{name}{words}" for name, (words, _) in seen.items())
        return Place("lost", looked=looked, unread=not all(could for _, could in seen.values()))


@dataclass(frozen=True)
class FarFile:
    """A content file in the off-site copy: the restic snapshot, its path in that, and the backup ID."""

    snapshot: str
    path: str
    stamp: str

    @property
    def place(self) -> Place:
        return Place("off-site", snapshot=self.stamp)


class OffSite:
    """The contents that only the off-site copy has. Asked no more once it did not answer: `away` says why."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[str, FarFile | None] = {}
        self._asking = Lock()
        self.away: BackupError | None = None

    def ask(self, contents: Iterable[ContentFile]) -> None:
        """Look for many at once, which takes restic hardly longer than one."""
        with self._asking:
            wanted = [content for content in contents if content.url not in self._known]
            if self.away is None:
                try:
                    found = find_off_site(self._host, wanted)
                except BackupError as error:
                    self.away = error
                else:
                    self._known |= {content.url: found.get(content.url) for content in wanted}

    def find(self, content: ContentFile) -> FarFile | None:
        """Where it is there; None also where that cannot be asked."""
        self.ask([content])
        return None if self.away else self._known.get(content.url)

    def write(self, far: FarFile, target: int, go_on: Callable[[], None]) -> None:
        """Write a content into an open, empty file. Raises what Engine.run raises, and what `go_on` does.

        Raises FarSideAway, too, where nothing arrives for STILL_SECONDS.
        """
        limit = self._host.settings.contentstore_limit_hours * 3600
        size, since = 0, time.monotonic()

        def look() -> None:
            nonlocal size, since
            go_on()
            now = os.fstat(target).st_size
            if now != size:
                size, since = now, time.monotonic()
            if time.monotonic() - since > STILL_SECONDS:
                raise FarSideAway(
                    f"nothing arrived from the off-site copy for {STILL_SECONDS:g} s",
                    program_command("offsite", "list"),
                )

        try:
            engine_of(self._host).dump(far.snapshot, far.path, target, limit, Watch(1.0, look))
        except BackupError as error:
            if not isinstance(error, FarSideDamaged):
                self.away = error
            raise


def find_off_site(host: Host, wanted: Sequence[ContentFile]) -> dict[str, FarFile]:
    """By content URL the newest backup ID off-site that has a file of it, by the index there.

    Nothing is fetched, and the size is that of the index. Empty without an off-site copy. Raises what
    Engine.run raises.
    """
    if not wanted or not host.settings.offsite_repository:
        return {}
    engine = engine_of(host)
    stamps: dict[str, list[str]] = {}
    for item in read_far(engine, host.name).snapshots:
        stamps.setdefault(item.snapshot, []).append(item.stamp)
    paths = {path: content for content in wanted if (path := relative_path(content.url)) is not None}
    found: dict[str, FarFile] = {}
    for start in range(0, len(paths), PATTERNS):
        asked = {path: paths[path] for path in [*paths][start : start + PATTERNS]}
        patterns = [_escaped(str(path)) for path in asked]
        for snapshot in engine.ask("find", "--host", host.name, *patterns) or ():
            sent = stamps.get(str(snapshot["snapshot"]), [""])
            for match in snapshot["matches"]:
                content = next(
                    (one for path, one in asked.items() if match["path"].endswith(f"/{path}")), None
                )
                if content and content.fits(match.get("size", 0)):
                    stamp = next((name for name in sent if f"/{name}/" in match["path"]), sent[-1])
                    older = found.get(content.url)
                    if stamp and (older is None or older.stamp < stamp):
                        found[content.url] = FarFile(str(snapshot["snapshot"]), match["path"], stamp)
    return found


def _escaped(pattern: str) -> str:
    """A path as restic's patterns (Go's filepath.Match) mean it literally."""
    return re.sub(r"([\\*?\[])", r"\\\1", pattern)


def shelves_of(host: Host, catalogue: Catalogue) -> Shelves:
    """The stores of a host and the snapshots of its catalogue, with what could not be read of either."""
    doubts: dict[str, str] = {}
    if guess := host.installation.store_guessed_for:
        key, named = guess
        place = host.installation.store
        doubts[_live(MAIN_STORE)] = f"{place} is a guess, {key} is {named}, no directory; is it mounted?"
    repository, known = host.repository, {item.path for item in catalogue.snapshots}
    for store in host.installation.stores if catalogue.sets else ():
        root = repository.store(store).root
        if root.is_dir() and _state(root):
            doubts[f"snapshots of {store}"] = f"{root}: {_state(root)}"
    above = (repository.contentstore.root, repository.root / "stores")
    for problem in catalogue.problems:
        path = problem.path
        of_snapshots = path.name.startswith(SNAPSHOT_PREFIX) or path in above or path.parent == above[1]
        if of_snapshots and path not in known:
            doubts[str(path)] = problem.reason
    return replace(make_shelves(host.installation.stores, catalogue.snapshots), doubts=doubts)


def _live(store: str) -> str:
    return f"live {store}"


def make_shelves(stores: Mapping[str, Path], snapshots: Sequence[Snapshot]) -> Shelves:
    return Shelves(stores, tuple(sorted(snapshots, key=lambda item: item.stamp, reverse=True)))


def _fits(file: Path, content: ContentFile) -> bool:
    size = _size(file)
    return size is not None and content.fits(size)


def _size(file: Path) -> int | None:
    with suppress(OSError):
        status = os.stat(file)  # noqa: PTH116 - like the content check
        return status.st_size if stat.S_ISREG(status.st_mode) else None
    return None


def _seen(root: Path, path: str, *, may_be_empty: bool) -> tuple[str, bool]:
    """What is in a place that has not the file, in words, and whether it could be looked at."""
    try:
        status = os.stat(root / path)  # noqa: PTH116 - like the content check
    except (FileNotFoundError, NotADirectoryError):
        why = _state(root)
        believed = not why or (may_be_empty and why == EMPTY)
        return ("", True) if believed else (f" ({why})", False)
    except OSError as error:
        return f" (cannot be read: {error.strerror})", False
    return f" (a file of {status.st_size} bytes)" if stat.S_ISREG(status.st_mode) else "", True


def _state(root: Path) -> str:
    """Why it says nothing that a place has not a file, its disk may not be mounted; empty: it has others."""
    try:
        with os.scandir(root) as entries:
            return "" if any(entries) else EMPTY
    except FileNotFoundError:
        return "not there; is it mounted?"
    except NotADirectoryError:
        return "no directory; is it mounted?"
    except OSError:
        return ""  # it can be passed through, but not be listed
