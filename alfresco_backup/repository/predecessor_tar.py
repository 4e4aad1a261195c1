"""Reads the tars of a predecessor's base backup once, and keeps what was seen beside it."""

import gzip
import logging
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from alfresco_backup.postgres.wal_files import is_segment_name
from alfresco_backup.repository.layout import metadata_of
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.json_fields import Text, Whole, read_record
from alfresco_backup.times import size_for_people

BASE_TAR = "base.tar.gz"
WAL_TAR = "pg_wal.tar.gz"
WAL_FOLDERS = frozenset({"pg_xlog", "pg_wal"})
BLOCK = 1 << 20
SMALL = 1 << 16
logger = logging.getLogger(__name__)


class NotReadYet(ValueError):
    """The tars are larger than what may be read now, and were never read before."""


@dataclass(frozen=True)
class Contents:
    """What the tars of one base backup contain. `unsound` says why it is no backup; empty when it is one."""

    unsound: Text = ""
    version: Text = ""
    label: Text = ""
    system_identifier: Text = ""
    database_bytes: Whole = 0
    segments: tuple[Text, ...] = ()
    segment_bytes: Whole = 0
    tablespaces: dict[str, str] = field(default_factory=dict)


def read_contents(directory: Path, limit_bytes: int | None) -> Contents:
    """What the tars contain, as noted before or by reading them to their ends.

    Tars of more than `limit_bytes` together are not read (None: no limit): NotReadYet is raised
    unless they were before. What was seen is kept in `<directory>.json`; where that cannot be written,
    they are read again next time. Raises OSError when they cannot be read.
    """
    tars = sorted(path for path in directory.iterdir() if path.name.endswith(".tar.gz"))
    state = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in tars]
    remembered = _recall(metadata_of(directory), state)
    if remembered is not None:
        return remembered
    size = sum(path.stat().st_size for path in tars)
    if limit_bytes is not None and size > limit_bytes:
        raise NotReadYet(
            f"a predecessor's base backup of {size_for_people(size)} that was not read yet: it is not known "
            "whether it can be restored; the next backup reads it"
        )
    logger.info("reading %s of the predecessor's %s", size_for_people(size), directory.name)
    contents = _read_tars(directory, tars)
    _remember(metadata_of(directory), state, contents)
    return contents


def _read_tars(directory: Path, tars: list[Path]) -> Contents:
    if directory / BASE_TAR not in tars:
        return Contents(unsound=f"there is no {BASE_TAR}")
    seen = _Seen()
    for path in tars:
        try:
            with _members(path) as members:
                for member, stream in members:
                    seen.take(path.name, member, stream)
        except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError) as error:
            return Contents(unsound=f"{path.name} is damaged: {error}")
    return seen.contents({path.name for path in tars})


@contextmanager
def _members(path: Path) -> Iterator[Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]]:
    """The members of a tar.gz in order. At the end the rest is read, so that gzip compares its checksum."""
    with gzip.open(path) as plain, tarfile.open(fileobj=plain, mode="r|", bufsize=BLOCK) as tar:
        yield ((member, tar.extractfile(member) if member.isfile() else None) for member in tar)
        while plain.read(BLOCK):
            pass


class _Seen:
    """What has been seen of a base backup while its tars are read."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.system_identifier = ""
        self.database_bytes = 0
        self.segments: list[str] = []
        self.segment_bytes = 0
        self.tablespaces: dict[str, str] = {}

    def take(self, tar: str, member: tarfile.TarInfo, stream: IO[bytes] | None) -> None:
        folder, _, name = member.name.removeprefix("./").rpartition("/")
        if is_segment_name(name) and (folder in WAL_FOLDERS or (tar == WAL_TAR and not folder)):
            self.segments.append(name)
            self.segment_bytes = max(self.segment_bytes, member.size)
        elif tar != WAL_TAR:
            self.database_bytes += member.size
        if folder == "pg_tblspc" and member.issym():
            self.tablespaces[name] = member.linkname
        if tar != BASE_TAR or stream is None:
            return
        if not folder and name in {"backup_label", "PG_VERSION", "tablespace_map"}:
            self.texts[name] = stream.read(SMALL).decode("utf-8", "surrogateescape")
        elif (folder, name) == ("global", "pg_control") and member.size >= 8:
            self.system_identifier = str(int.from_bytes(stream.read(8), "little"))

    def contents(self, tars: set[str]) -> Contents:
        missing = [name for name in ("backup_label", "PG_VERSION") if name not in self.texts]
        if not self.system_identifier:
            missing.append("global/pg_control")
        for line in self.texts.get("tablespace_map", "").splitlines():
            oid, _, location = line.partition(" ")
            self.tablespaces[oid] = location
        missing += [f"{oid}.tar.gz" for oid in sorted(self.tablespaces) if f"{oid}.tar.gz" not in tars]
        if missing:
            return Contents(unsound=f"it cannot be restored: it lacks {', '.join(missing)}")
        return Contents(
            "",
            self.texts["PG_VERSION"].strip(),
            self.texts["backup_label"],
            self.system_identifier,
            self.database_bytes,
            tuple(sorted(self.segments)),
            self.segment_bytes,
            self.tablespaces,
        )


def _recall(file: Path, state: list[list[Any]]) -> Contents | None:
    try:
        document = read_json(file)
        if document.get("tars") != state:
            return None
        return read_record(Contents, document["contents"])
    except (OSError, ValueError, KeyError):
        return None


def _remember(file: Path, state: list[list[Any]], contents: Contents) -> None:
    try:
        write_json(file, {"tars": state, "contents": asdict(contents)})
    except OSError as error:
        logger.warning("%s cannot be written (%s); the tars will be read again", file, error.strerror)
