"""Judging whether the documents of a database are there: URLs, paths, rows, findings. Looks at no file.

A URL is live when a row of alf_content_data refers to it, whatever its orphan_time says (Alfresco may
refer to an orphan again). Only `store://` URLs have files here; an empty content has the literal URL `empty`,
`spoof` URLs are generated content. Those of other protocols are in places that this host does not hold: they
are counted as not checked, never as good.
Sources: FileContentStore, AbstractContentDataDAOImpl of alfresco-community-repo.
"""

import posixpath
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from alfresco_backup.errors import DocumentsMissing, NotVerified
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.times import duration_for_people

FILE_PROTOCOL = "store"
SCHEME = "store://"
EMPTY_URL = "empty"
NO_PROTOCOL = "(no protocol)"
WITHOUT_FILE = frozenset({EMPTY_URL, "spoof"})
PLACES_NAMED = 3
FIXES_NAMED = 3
EXAMPLES = 100


class Problem(StrEnum):
    """What is wrong with a row's file. The values are the words shown."""

    MISSING = "missing"
    WRONG_SIZE = "wrong size"
    SIZE_NOT_RECORDED = "size not recorded"
    OUTSIDE_STORE = "path outside the store"
    ONLY_DELETED = "only among deleted content"

    @property
    def is_loss(self) -> bool:
        """Whether the document cannot be read as it was; else it is worth a look only."""
        return self is not Problem.SIZE_NOT_RECORDED


@dataclass(frozen=True, slots=True)
class ContentRow:
    """A live URL of the database. `size` in bytes, 0 when it was never recorded."""

    url_id: str
    url: str
    size: int
    encrypted: bool


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that a URL leads to: the store's name and its size in bytes. `error` when it cannot be read."""

    store: str
    size: int
    error: str = ""


@dataclass(frozen=True)
class DeletedContent:
    """The store that is `dir.contentstore.deleted`, into which Alfresco moves what it cleans away.

    It never reads it: a file that is there alone is a document that cannot be opened. `folder` and `main` are
    the places on the host of this store and of the main one, whatever folders are looked into. `main` is None
    where nothing is to be brought back, as in a drill: its files are those of snapshots.
    """

    store: str
    folder: Path
    main: Path | None

    def is_place(self, name: str) -> bool:
        """Whether a folder that is looked into, such as `deleted 20261122T023000Z`, is of this store."""
        return name.partition(" ")[0] == self.store

    def fix(self, path: str) -> str:
        """The command that brings a file back, with its owner and its folders'; empty without `main`."""
        if self.main is None:
            return ""
        copy = shlex.join(["cp", "-p", "--parents", "--", path, f"{self.main}/"])
        return f"cd {shlex.quote(str(self.folder))} && {copy}"


@dataclass(frozen=True)
class Places:
    """The folders in which files are looked for, by store; `deleted` is the one that Alfresco never reads."""

    folders: Mapping[str, Path]
    deleted: DeletedContent | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A row whose file is not as it should be, with the node it belongs to once that has been looked up.

    `node` is a reference such as `workspace://SpacesStore/UUID`, `nodes` how many nodes share the file,
    `path` the node's path or name. They stay empty for content that no node refers to any more. `fix` is the
    command that helps, where one is known.
    """

    problem: Problem
    row: ContentRow
    file: str
    on_disk: str = ""
    node: str = ""
    nodes: int = 0
    path: str = ""
    fix: str = ""

    def for_people(self) -> dict[str, str]:
        """The row of a table or CSV."""
        return {
            "problem": self.problem.value,
            "document": self.path,
            "node": self.node,
            "nodes": str(self.nodes),
            "file": self.file,
            "recorded size": str(self.row.size),
            "size on disk": self.on_disk,
            "url": self.row.url,
            "fix": self.fix,
        }


COLUMNS = tuple(Finding(Problem.MISSING, ContentRow("", "", 0, False), "").for_people())


@dataclass
class Tally:
    """Counts of a part of the rows; parts are added up."""

    checked: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    elsewhere: Counter[str] = field(default_factory=Counter)
    found_in: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class ContentCheckResult:
    """What a content check saw. `checked` counts live `store://` URLs, `found_in` their files by store.

    `outside` counts those that lead out of their store, `only_deleted` those whose file is in the store of
    deleted content alone. `skipped` counts all other URLs by protocol, `elsewhere` those of them that have a
    file in a place that was not looked into. `removed_meanwhile` are documents that were deleted while the
    check ran. `csv` lists every finding and is None when there are none; `examples` are the first.
    """

    checked: int
    missing: int
    wrong_size: int
    warnings: int
    removed_meanwhile: int
    skipped: Mapping[str, int]
    found_in: Mapping[str, int]
    seconds: float
    csv: Path | None
    examples: tuple[Finding, ...]

    outside: int = 0
    only_deleted: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Documents that cannot be read as they were."""
        return self.missing + self.wrong_size + self.outside + self.only_deleted

    @property
    def not_checked(self) -> int:
        """Documents with a file of which nothing is known."""
        return sum(self.elsewhere.values())

    def sentence(self) -> str:
        """The outcome in one sentence: what was checked, of how many, and what was not."""
        of_all = f" of {self.checked + self.not_checked:,}" if self.not_checked else ""
        head = f"{self.checked:,}{of_all} documents checked in {duration_for_people(self.seconds)}"
        parts = [f"{self.missing:,} missing"] if self.missing else []
        parts += [f"{self.wrong_size:,} with the wrong size"] if self.wrong_size else []
        parts += [f"{self.outside:,} whose URL leads out of the store"] if self.outside else []
        deleted = f"{self.only_deleted:,} only among deleted content, which Alfresco does not read"
        parts += [deleted] if self.only_deleted else []
        verdict = " and ".join(parts) or self._nothing_lost()
        warned = f"; {self.warnings:,} warning{'s' if self.warnings != 1 else ''}" if self.warnings else ""
        return f"{head}: {verdict}{warned}{self._not_checked_words()}"

    def _nothing_lost(self) -> str:
        if not self.checked:
            return "nothing is known of any document"
        if self.not_checked:
            return "those that were checked are there"
        return "all are there" if self.warnings else "all are there, with their size"  # bytes are not read

    def _not_checked_words(self) -> str:
        words = places_in_words(self.elsewhere)
        return f"; {self.not_checked:,} not checked ({words})" if self.elsewhere else ""

    def require_complete(self) -> None:
        """Raise DocumentsMissing, which says how many and where the list is, unless all are there.

        Raises NotVerified where nothing was checked. What is not checked beside others is told, no error.
        """
        if self.lost:
            what = "document" if self.lost == 1 else "documents"
            fixes = [finding.fix for finding in self.examples if finding.fix][:FIXES_NAMED]
            hint = "\n".join([f"less {self.csv}", *fixes])
            raise DocumentsMissing(f"{self.lost:,} {what} missing ({self.sentence()})", hint)
        if not self.checked:
            raise self.nothing_checked()

    def nothing_checked(self) -> NotVerified:
        """The error for a check that could look at no document at all."""
        return NotVerified(f"no document was checked ({self.sentence()})", edit_setting("EXTRA_CONTENT_DIRS"))


def places_in_words(places: Mapping[str, int]) -> str:
    """`301 in s3v2://bucket/`: the places with most documents, and how many more there are."""
    most = Counter(places).most_common()
    words = [f"{count:,} in {place}" for place, count in most[:PLACES_NAMED]]
    rest = most[PLACES_NAMED:]
    words += [f"{sum(count for _, count in rest):,} in {len(rest):,} other places"] if rest else []
    return ", ".join(words)


def place_of(url: str) -> str:
    """The place a URL points to: protocol and first folder, such as `s3v2://bucket/`."""
    protocol, separator, rest = url.partition("://")
    if not separator:
        return protocol_of(url)
    first, slash, _ = rest.partition("/")
    return f"{protocol}://{first}/" if first and slash else f"{protocol}://"


def protocol_of(url: str) -> str:
    """The protocol of a content URL; `empty` for the literal, `(no protocol)` for what is no URL."""
    protocol, separator, _ = url.partition("://")
    if separator:
        return protocol
    return EMPTY_URL if url in ("", EMPTY_URL) else NO_PROTOCOL


def relative_path(url: str) -> str | None:
    """Where the file of a `store://` URL lies below its store; None when that leads out of the store.

    Alfresco joins the part after `store://` to the store's root and refuses what leaves it (MNT-12301).
    """
    path = url[len(SCHEME) :].lstrip("/")
    if ".." in path or "//" in path or "./" in path:
        path = posixpath.normpath(path)
    return None if path in ("", ".", "..") or path.startswith("../") else path


def judge(row: ContentRow, path: str | None, found: Sequence[FoundFile]) -> Finding | None:
    """What is wrong with a row, given its path below the store and the files found in any store, or None.

    An encrypted file is larger than its content, so only its presence can be judged. A recorded size of 0
    may mean that Alfresco never recorded one: then a file that is not empty is a warning only.
    """
    if path is None:
        return Finding(Problem.OUTSIDE_STORE, row, "")
    readable = [file for file in found if not file.error]
    if not readable:
        return Finding(Problem.MISSING, row, path, found[0].error if found else "")
    if row.encrypted or any(file.size == row.size for file in readable):
        return None
    problem = Problem.SIZE_NOT_RECORDED if row.size <= 0 else Problem.WRONG_SIZE
    return Finding(problem, row, path, str(readable[0].size))
