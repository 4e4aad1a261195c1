"""Documents as Alfresco keeps them: a URL made of local time and a GUID, and a file written once."""

import os
import random
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

ENCRYPTION_OVERHEAD = 16


@dataclass(frozen=True)
class Document:
    """One content file. `size` is that of the content; an encrypted file is larger on disk."""

    url: str
    size: int
    encrypted: bool = False

    @property
    def path(self) -> str:
        """The file's path below the store; only for `store://` URLs."""
        return self.url.removeprefix("store://")

    def content(self) -> bytes:
        """The file's bytes. They follow from the URL, so that every copy of it can be proven."""
        size = self.size + ENCRYPTION_OVERHEAD if self.encrypted else self.size
        return random.Random(self.url).randbytes(size)


def new_url(moment: datetime, source: random.Random) -> str:
    """A content URL: local time without zero padding, then a GUID (TimeBasedFileContentUrlProvider)."""
    local = moment.astimezone()
    guid = uuid.UUID(int=source.getrandbits(128), version=4)
    return f"store://{local.year}/{local.month}/{local.day}/{local.hour}/{local.minute}/{guid}.bin"


def is_stored(url: str) -> bool:
    """Whether the URL has a file; `spoof://` ones, for example, are made up as they are read."""
    return url.startswith("store://")


def url_key(url: str) -> tuple[str, int]:
    """`content_url_short` and `content_url_crc`: the last 12 characters in lower case, CRC of the whole."""
    return url[-12:].lower(), zlib.crc32(url.encode())


def random_size(source: random.Random) -> int:
    """Skewed as in real stores: most are small, a few are large; at most 200 kB to keep the demo quick."""
    return min(int(source.lognormvariate(7, 1.6)), 200_000) + 1


def random_moments(count: int, now: datetime, years: float, source: random.Random) -> list[datetime]:
    """Moments of upload in order: most spread over the years, one in twenty within the last two days."""
    span = timedelta(days=365 * years).total_seconds()
    recent = timedelta(days=2).total_seconds()
    ages = [source.uniform(60, recent if source.random() < 0.05 else span) for _ in range(count)]
    return [now - timedelta(seconds=age) for age in sorted(ages, reverse=True)]


def write_document(store: Path, document: Document) -> Path:
    """As Alfresco does: an empty file under the final name, then the bytes; no temporary name, no fsync."""
    path = store / document.path
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, document.content())
    finally:
        os.close(descriptor)
    return path


def remove_document(store: Path, document: Document) -> None:
    """Remove the file and the directories it leaves empty, as Alfresco does (deleteEmptyDirs)."""
    path = store / document.path
    path.unlink()
    for parent in list(path.parents)[: len(path.relative_to(store).parents) - 1]:
        try:
            parent.rmdir()
        except OSError:
            return


def date_as_named(store: Path, documents: Iterable[tuple[Document, datetime]]) -> None:
    """Give files and directories the times they would have, had they been written when their paths say.

    A directory's time is that of its newest entry.
    """
    newest: dict[Path, float] = {}
    for document, moment in documents:
        seconds = moment.timestamp()
        path = store / document.path
        newest[path] = seconds
        for parent in list(path.parents)[: len(path.relative_to(store).parents) - 1]:
            newest[parent] = max(newest.get(parent, 0.0), seconds)
    for path, seconds in newest.items():
        os.utime(path, (seconds, seconds))
