"""The configuration of a host compared with a set's; a part that the host has not got is brought back.

Comparing is pure; compare_with_set acts.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from alfresco_backup.backup.server_files import OF_ALFRESCO
from alfresco_backup.errors import BackupError
from alfresco_backup.host.installation import find_installation
from alfresco_backup.host.properties import parse_properties, resolve
from alfresco_backup.repository.layout import DIGESTED_PARTS
from alfresco_backup.restore.journal.journal import make_directory, rename, restoring_name
from alfresco_backup.restore.recovery.obstacles import existing_part
from alfresco_backup.restore.recovery.restoration import Restoration
from alfresco_backup.restore.recovery.server_files import put_back_files
from alfresco_backup.system.accounts import owner_of
from alfresco_backup.system.processes import Command, run

NAMED = 5
HOUR = 3600.0
KEYSTORE, SHARED_CLASSES = DIGESTED_PARTS
PROPERTIES = "alfresco-global.properties"


@dataclass(frozen=True)
class ConfigurationDifference:
    """Files by `part/path`: other content, in the set only, on the host only.

    `restored`: parts that were missing and were copied from the set.
    """

    backup_id: str
    differing: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """What was done with files from outside Alfresco's folders, one sentence each."""

    @property
    def keystore(self) -> tuple[str, ...]:
        """The files of the keystore that differ from the set or are missing."""
        changed = (*self.differing, *self.missing)
        return tuple(name for name in changed if name.partition("/")[0] == KEYSTORE)

    def sentences(self) -> list[str]:
        """What should be checked, one sentence each; none when all is as in the set."""
        found = []
        if self.keystore:
            found.append(
                f"the keystore differs from that of backup {self.backup_id} ({_some(self.keystore)}): "
                "Alfresco does not start with another keystore than its database was encrypted with"
            )
        rest = [name for name in (*self.differing, *self.missing) if name not in self.keystore]
        if rest:
            found.append(f"the configuration differs from that of backup {self.backup_id}: {_some(rest)}")
        if self.restored:
            found.append(
                f"{', '.join(self.restored)} was missing and was copied from backup {self.backup_id}"
            )
        return [*found, *self.files]


def compare_configuration(
    backup_id: str, recorded: Mapping[str, str], found: Mapping[str, str], restored: tuple[str, ...] = ()
) -> ConfigurationDifference:
    """Compare checksums by `part/path`. Parts without checksums on either side are not compared."""
    return ConfigurationDifference(
        backup_id,
        tuple(sorted(name for name, digest in recorded.items() if found.get(name, digest) != digest)),
        tuple(sorted(recorded.keys() - found.keys())),
        tuple(sorted(found.keys() - recorded.keys())),
        restored,
    )


def _some(names: "list[str] | tuple[str, ...]") -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def compare_with_set(restoration: Restoration) -> ConfigurationDifference:
    """Copy parts from the set that are missing entirely, then compare file by file."""
    configuration = restoration.plan.configuration
    if configuration is None:
        raise BackupError(f"restore {restoration.plan.restore_id} has no configuration to compare with")
    restored = []
    for name in (SHARED_CLASSES, KEYSTORE):  # the properties say where the keystore belongs
        source = configuration.path / name
        target = place_of(restoration, name)
        if source.is_dir() and not _has_files(target) and _belongs_here(restoration, name):
            bring_back(restoration, source, target)
            restored.append(name)
    found = dict(_digests(restoration))
    recorded = {
        name: digest
        for name, digest in configuration.digests.items()
        if name.partition("/")[0] in DIGESTED_PARTS and _belongs_here(restoration, name.partition("/")[0])
    }
    files = put_back_files(restoration, configuration, OF_ALFRESCO, None)
    difference = compare_configuration(configuration.stamp, recorded, found, tuple(restored))
    return replace(difference, files=tuple(files))


def place_of(restoration: Restoration, name: str) -> Path:
    """Where a part of the configuration is on this host, or belongs when it is missing."""
    host = restoration.host
    home = host.settings.alf_base_dir
    classes = home / "tomcat/shared/classes"
    if name == SHARED_CLASSES:
        return classes
    present = find_installation(host.settings).keystore
    if present or host.settings.keystore_dir:
        return present or host.settings.keystore_dir or home
    file = classes / PROPERTIES
    values = parse_properties(file.read_text(encoding="latin-1")) if file.is_file() else {}
    named = (resolve(values, "dir.keystore") or "").strip()
    return Path(named) if named.startswith("/") else home / "alf_data/keystore"


def bring_back(restoration: Restoration, source: Path, target: Path) -> None:
    """Copy a part of the set to its place; what is there is set aside."""
    stamp = restoration.plan.restore_id
    new = restoring_name(target, stamp)
    owner = owner_of(existing_part(target.parent))
    make_directory(restoration.journal, new, source.stat().st_mode & 0o7777, owner)
    copy = Command(("rsync", "-a", "--numeric-ids", f"{source}/", f"{new}/"), HOUR)
    run(copy, log=restoration.log)
    if target.exists():
        rename(restoration.journal, target, target.with_name(f"{target.name}.before-restore-{stamp}"))
    rename(restoration.journal, new, target)


def _belongs_here(restoration: Restoration, name: str) -> bool:
    """Whether a part is valid on this host: properties of another place name its database and files."""
    database = restoration.plan.database
    if name != SHARED_CLASSES or database is None:
        return True
    recorded = database.base.data_directory
    here = (database.data_directory, restoration.host.installation.data_directory)
    return not recorded or Path(recorded) in here


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))


def _digests(restoration: Restoration) -> Iterator[tuple[str, str]]:
    for name in DIGESTED_PARTS:
        if _belongs_here(restoration, name):
            yield from digests_below(place_of(restoration, name), name)


def digests_below(root: Path | None, part: str) -> Iterator[tuple[str, str]]:
    """`part/path` and SHA-256 of every file below a folder; nothing where there is none."""
    if root is None:
        return
    for path in sorted(root.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            yield f"{part}/{path.relative_to(root)}", digest
