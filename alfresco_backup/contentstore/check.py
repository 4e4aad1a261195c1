"""Judging whether the documents of a database are there: URLs, paths, rows, findings. Looks at no file.

A URL is live when a row of alf_content_data refers to it, whatever its orphan_time says (Alfresco may
refer to an orphan again). Only `store://` URLs have files; an empty content has the literal URL `empty`.
Sources: FileContentStore, AbstractContentDataDAOImpl of alfresco-community-repo.
"""

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from alfresco_backup.errors import DocumentsMissing
from alfresco_backup.times import duration_for_people

FILE_PROTOCOL = "store"
SCHEME = "store://"
EMPTY_URL = "empty"
NO_PROTOCOL = "(no protocol)"
EXAMPLES = 100


class Problem(StrEnum):
    """What is wrong with a row's file. The values are the words shown."""

    MISSING = "missing"
    WRONG_SIZE = "wrong size"
    SIZE_NOT_RECORDED = "size not recorded"
    OUTSIDE_STORE = "path outside the store"

    @property
    def is_loss(self) -> bool:
        """Whether the document cannot be read as it was; else it is worth a look only."""
        return self in (Problem.MISSING, Problem.WRONG_SIZE)


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


@dataclass(frozen=True, slots=True)
class Finding:
    """A row whose file is not as it should be, with the node it belongs to once that has been looked up.

    `node` is a reference such as `workspace://SpacesStore/UUID`, `nodes` how many nodes share the file,
    `path` the node's path or name. They stay empty for content that no node refers to any more.
    """

    problem: Problem
    row: ContentRow
    file: str
    on_disk: str = ""
    node: str = ""
    nodes: int = 0
    path: str = ""

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
        }


COLUMNS = tuple(Finding(Problem.MISSING, ContentRow("", "", 0, False), "").for_people())


@dataclass
class Tally:
    """Counts of a part of the rows; parts are added up."""

    checked: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    found_in: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class ContentCheckResult:
    """What a content check saw. `checked` counts live `store://` URLs, `found_in` their files by store.

    `skipped` counts URLs without files by protocol, `removed_meanwhile` documents that were deleted while
    the check ran. `csv` lists every finding and is None when there are none; `examples` are the first.
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

    @property
    def lost(self) -> int:
        """Documents that cannot be read as they were."""
        return self.missing + self.wrong_size

    def sentence(self) -> str:
        """The outcome in one sentence."""
        head = f"{self.checked:,} documents checked in {duration_for_people(self.seconds)}"
        parts = [f"{self.missing:,} missing"] if self.missing else []
        parts += [f"{self.wrong_size:,} with the wrong size"] if self.wrong_size else []
        verdict = " and ".join(parts) or "all are there"
        warned = f"; {self.warnings:,} warning{'s' if self.warnings != 1 else ''}" if self.warnings else ""
        return f"{head}: {verdict}{warned}"

    def require_complete(self) -> None:
        """Raise DocumentsMissing, which says how many and where the list is, unless all are there."""
        if self.lost:
            what = "document" if self.lost == 1 else "documents"
            raise DocumentsMissing(f"{self.lost:,} {what} missing ({self.sentence()})", f"less {self.csv}")


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
