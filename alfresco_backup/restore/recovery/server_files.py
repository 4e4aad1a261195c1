"""What PostgreSQL needs from outside its data directory, brought back from a set. It acts.

A file that is missing on the host is put in its place, one that is there stays as it is and is named where it
differs. The links of the data directory, which a base backup lacks, are made again. A drill changes nothing
outside its folder: it gets what the links lead to as files of its own.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from alfresco_backup.backup.server_files import (
    FILES,
    LINKS,
    PART,
    content_of,
    is_sound,
    is_there,
    stored_files,
    write_with_access,
)
from alfresco_backup.errors import BackupError
from alfresco_backup.host.server_files import INCLUDES
from alfresco_backup.postgres.conf_file import CONF, parse_setting
from alfresco_backup.repository.records import Configuration
from alfresco_backup.restore.journal.journal import make_parents, rename, restoring_name
from alfresco_backup.restore.journal.journal_record import Created
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.system.accounts import Account, acting_as, known_account, owner_of_program
from alfresco_backup.system.files import write_bytes


def put_back_server_files(restoration: Restoration) -> list[str]:
    """Put missing files in place and make the links again; returns what was done and what should be checked.

    To be called when the data directory is extracted and not yet in its place.
    """
    configuration = restoration.plan.configuration
    if configuration is None:
        return []
    said = put_back_files(restoration, configuration, PART, restoration.account)
    return [*said, *_make_links(restoration, configuration)]


def put_back_files(
    restoration: Restoration, configuration: Configuration, part: str, account: Account | None
) -> list[str]:
    """Put missing files of a part in place, and name those that differ; these are read as `account`."""
    said = []
    for path, copy in stored_files(configuration, part):
        if not is_there(path) and not is_sound(configuration, copy):
            what = f"{path} is missing on this host, and {copy} differs from its checksum"
            if part == PART:  # without it PostgreSQL does not start
                raise BackupError(what, f"put {shlex.quote(str(path))} in place")
            said.append(what)
        elif not is_there(path):
            _put_back(restoration, path, copy)
            said.append(f"{path} was missing and was copied from backup {configuration.stamp}")
        elif _differs(path, copy, account or owner_of_program(path)):
            said.append(f"{path} differs from that of backup {configuration.stamp}; it was left as it is")
    return said


def _differs(path: Path, copy: Path, account: Account | None) -> bool:
    """Whether what the server would read there has other content; not where it cannot be read."""
    try:
        with acting_as(account):
            present = path.read_bytes()
    except OSError:
        return False
    return present != content_of(copy)


def give_copies(restoration: Restoration) -> list[str]:
    """For a drill: files in place of the links; returns what was replaced, one sentence each."""
    configuration = restoration.plan.configuration
    directory = restoring_name(restoration.database.data_directory, restoration.plan.restore_id)
    said = []
    for name, text, copy in _links(restoration, configuration) if configuration else ():
        if copy is not None:
            content = content_of(copy)
            with acting_as(restoration.account):
                write_bytes(directory / name, content, 0o600)
        what = "was replaced by the copy in the set" if copy else "was left out"
        said.append(f"{name}, a link to {text}, {what}")
    return [*said, *_without_includes(directory / CONF, restoration)]


def _without_includes(conf: Path, restoration: Restoration) -> Iterator[str]:
    """What a drill's postgresql.conf includes from elsewhere is the live server's, or is not there."""
    home = restoration.database.base.data_directory or "/"
    kept: list[str] = []
    dropped: list[str] = []
    with acting_as(restoration.account):
        text = conf.read_text(encoding="utf-8", errors="surrogateescape") if conf.exists() else ""
        for line in text.splitlines(keepends=True):
            name, value = parse_setting(line) or ("", "")
            place = Path(os.path.normpath(os.path.join(home, value)))  # noqa: PTH118
            outside = name in INCLUDES and not place.is_relative_to(home)
            (dropped if outside else kept).append(line)
        if dropped:
            write_bytes(conf, "".join(kept).encode("utf-8", "surrogateescape"), 0o600)
    for line in dropped:
        yield f"{CONF}: {line.strip()} was left out"


def _make_links(restoration: Restoration, configuration: Configuration) -> Iterator[str]:
    directory = restoring_name(restoration.database.data_directory, restoration.plan.restore_id)
    for name, text, copy in _links(restoration, configuration):
        with acting_as(restoration.account):
            if is_there(directory / text):
                (directory / name).symlink_to(text)
                continue
        if copy is not None:
            content = content_of(copy)
            with acting_as(restoration.account):
                write_bytes(directory / name, content, 0o600)
        what = "was replaced by the copy in the set" if copy else "was left out"
        yield f"{name} was a link to {text}, which does not exist here; it {what}"


def _links(restoration: Restoration, configuration: Configuration) -> Iterator[tuple[str, str, Path | None]]:
    """Name, text and the copy of what it leads to, of each link that the extracted data directory lacks."""
    directory = restoring_name(restoration.database.data_directory, restoration.plan.restore_id)
    home = restoration.database.base.data_directory or "/"
    folder = configuration.path / PART / LINKS
    for link in sorted(folder.iterdir()) if folder.is_dir() else ():
        text = os.readlink(link)  # noqa: PTH115
        target = os.path.normpath(os.path.join(home, text))  # noqa: PTH118
        copy = configuration.path / PART / FILES / target.lstrip("/")
        if not os.path.lexists(directory / link.name):
            yield link.name, text, copy if copy.is_file() else None


def _put_back(restoration: Restoration, path: Path, copy: Path) -> None:
    status, journal = copy.stat(), restoration.journal
    make_parents(journal, path.parent, known_account(status.st_uid, status.st_gid))
    new = restoring_name(path, restoration.plan.restore_id)
    journal.touch(path.parent)
    act = Created(new)
    journal.act(act)
    write_with_access(new, content_of(copy), status)
    journal.done(act)
    if os.path.lexists(path):  # a link that leads nowhere
        rename(journal, path, path.with_name(f"{path.name}.before-restore-{restoration.plan.restore_id}"))
    rename(journal, new, path)
