"""Where things are on an Alfresco host: found from ALF_BASE_DIR, overridden by settings.

Finding is separate from judging: a place that does not exist is None or absent here, and preflight
says what it means. Owners come from stat, never from a name (alfresco.md §5: `postgres` when root
installed, else the installing user, or anything).
"""

import logging
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.errors import HostNotReady
from alfresco_backup.host.containers import (
    content_store_of,
    data_directory_of,
    inspect_container,
    keystore_of,
    server_container,
)
from alfresco_backup.host.properties import parse_properties, resolve
from alfresco_backup.repository.records import MAIN_STORE
from alfresco_backup.settings.model import Settings

logger = logging.getLogger(__name__)
DEFAULT_PROTECT_DAYS = 14.0  # repository.properties, system.content.orphanProtectDays, 4.2 to 26


AbsentPlace = tuple[str, str]
"""A property of alfresco-global.properties, and the folder it names, which is not there."""


@dataclass(frozen=True)
class Installation:
    """The places of one Alfresco host. `stores` always contains the main store under `contentstore`."""

    home: Path
    data_directory: Path
    stores: dict[str, Path]
    keystore: Path | None
    shared_classes: Path | None
    solr_backups: tuple[Path, ...]
    solr_indexes: tuple[Path, ...]
    control_script: Path | None
    tomcat_pid_file: Path
    properties_file: Path | None
    orphan_protect_days: float
    eager_cleanup: bool
    named_but_absent: tuple[AbsentPlace, ...] = ()
    """What the properties name and is not there, so that another was taken instead; no setting says which."""
    store_guessed_for: AbsentPlace | None = None
    """The property of the main store, where that folder is missing and `store` is a guess."""
    data_guessed_for: AbsentPlace | None = None
    """The same for the data directory: the property of the folder above it."""
    contained: bool = False
    """The services are containers, whose other paths are none of this host's."""
    deleted_store: str = ""
    """The name of the store that is `dir.contentstore.deleted`: Alfresco writes to it and never reads it."""
    search: str = ""
    """`index.subsystem.name`: solr4, solr6, elasticsearch (Search Enterprise), ...; empty where unnamed."""

    @property
    def store(self) -> Path:
        return self.stores[MAIN_STORE]

    @property
    def server_configuration(self) -> Path | None:
        """The folder of postgresql.conf where it is outside the data directory, as with Debian."""
        return None if self.contained else _server_configuration(self.data_directory)

    @property
    def configuration_parts(self) -> dict[str, Path]:
        """What a set contains besides database and content, by its name in the repository."""
        parts = {"keystore": self.keystore, "shared-classes": self.shared_classes}
        parts["postgresql"] = self.server_configuration
        for path in self.solr_backups:
            name = f"solr-{path.parent.name}-{path.name}"
            parts[name if name not in parts else f"{name}-{len(parts)}"] = path
        return {name: path for name, path in parts.items() if path is not None and path.is_dir()}


def find_installation(settings: Settings) -> Installation:
    """Find the places of the host. Reads properties and directory entries; starts nothing, changes nothing.

    Raises HostNotReady where this account may not read.
    """
    try:
        return _look_in_containers(settings) if settings.pg_container else _look_for(settings)
    except PermissionError as error:
        raise HostNotReady(
            f"{error.filename} cannot be read: {error.strerror}",
            f"namei -l {shlex.quote(str(error.filename))}  # run it as root or as its owner",
        ) from error


def _look_for(settings: Settings) -> Installation:
    home = settings.alf_base_dir
    properties_file = _first_file(home / "tomcat/shared/classes/alfresco-global.properties")
    values = parse_properties(properties_file.read_text(encoding="latin-1")) if properties_file else {}
    absent: dict[str, AbsentPlace] = {}

    def named(key: str, usual: Path | None) -> Path | None:
        """The folder a property names. One that is not there is noted, unless it is the usual one anyway."""
        value = (resolve(values, key) or "").strip()
        path = _directory(value)
        expected = usual is not None and os.path.realpath(value) == os.path.realpath(usual)
        if path is None and value.startswith("/") and not expected:
            absent[key] = (key, value)
        return path

    root = named("dir.root", home / "alf_data") or home / "alf_data"
    named_store = named("dir.contentstore", root / "contentstore")
    named_keystore = named("dir.keystore", None)
    main = settings.contentstore_dir or named_store or root / "contentstore"
    keystore = settings.keystore_dir or named_keystore or root / "keystore"
    guessed = settings.contentstore_dir is None and named_store is None
    told = {"dir.keystore": settings.keystore_dir, TENANTS: None}
    return Installation(
        home=home,
        data_directory=settings.pg_data_dir or _data_directory(root),
        stores=_stores(main, settings.extra_content_dirs, named(TENANTS, None)),
        deleted_store=_deleted_store(settings.extra_content_dirs, resolve(values, DELETED)),
        keystore=keystore if keystore.is_dir() else None,
        shared_classes=_first_directory(home / "tomcat/shared/classes"),
        solr_backups=settings.solr_backup_dirs or _existing(root, _SOLR_BACKUPS),
        solr_indexes=settings.solr_index_dirs or _existing(root, _SOLR_INDEXES),
        control_script=_first_file(home / "alfresco.sh"),
        tomcat_pid_file=settings.tomcat_pid_file or home / "tomcat/temp/catalina.pid",
        properties_file=properties_file,
        orphan_protect_days=_number(
            resolve(values, "system.content.orphanProtectDays"), DEFAULT_PROTECT_DAYS
        ),
        eager_cleanup=(resolve(values, "system.content.eagerOrphanCleanup") or "").strip().lower() == "true",
        named_but_absent=tuple(
            place for key, place in absent.items() if told.get(key, settings.contentstore_dir) is None
        ),
        store_guessed_for=absent.get("dir.contentstore", absent.get("dir.root")) if guessed else None,
        data_guessed_for=None if settings.pg_data_dir else absent.get("dir.root"),
        search=(resolve(values, "index.subsystem.name") or "").strip().lower(),
    )


def _look_in_containers(settings: Settings) -> Installation:
    """The same for a host whose services are containers: by their mounts, unless settings name the places.

    With those of data, content and keystore set, no engine is asked. Raises HostNotReady.
    """
    data_directory, store, keystore = settings.pg_data_dir, settings.contentstore_dir, settings.keystore_dir
    if data_directory is None:
        data_directory = data_directory_of(server_container(settings))
    containers = []
    if store is None or keystore is None:
        containers = [inspect_container(settings, name) for name in settings.alf_containers]
    if store is None:
        store = content_store_of(containers)
    keystore = keystore or keystore_of(containers)
    return Installation(
        home=settings.alf_base_dir,
        data_directory=data_directory,
        stores={MAIN_STORE: store, **settings.extra_content_dirs},
        deleted_store=_deleted_store(settings.extra_content_dirs, None),
        keystore=keystore if keystore and keystore.is_dir() else None,
        shared_classes=None,
        solr_backups=settings.solr_backup_dirs,
        solr_indexes=settings.solr_index_dirs,
        control_script=None,
        tomcat_pid_file=settings.tomcat_pid_file or settings.alf_base_dir / "tomcat/temp/catalina.pid",
        properties_file=None,
        orphan_protect_days=DEFAULT_PROTECT_DAYS,
        eager_cleanup=False,
        contained=True,
    )


DELETED = "dir.contentstore.deleted"
TENANTS = "dir.contentstore.tenants"
"""With multi-tenancy: the folder with a content store for each tenant; blank by default."""


def _stores(main: Path, extra: dict[str, Path], tenants: Path | None) -> dict[str, Path]:
    """All content stores. The tenants' is one by itself, unless it is in another one."""
    stores = {MAIN_STORE: main, **extra}
    if tenants and not any(tenants.is_relative_to(path) for path in stores.values()):
        stores["tenants" if "tenants" not in stores else "tenants-of-properties"] = tenants
    return stores


def _deleted_store(extra: dict[str, Path], named: str | None) -> str:
    """The store that is dir.contentstore.deleted; where none is named, one of the usual name; else empty."""
    place = os.path.realpath(named.strip()) if named and named.strip().startswith("/") else None
    for name, path in extra.items():
        if os.path.realpath(path) == place or (place is None and path.name == "contentstore.deleted"):
            return name
    return ""


_SOLR_BACKUPS = (
    "solr4Backup/alfresco",
    "solr4Backup/archive",
    "solrBackup",
    "solr6Backup/alfresco",
    "solr6Backup/archive",
    "backup-lucene-indexes",
)
_SOLR_INDEXES = (
    "solr4/index/workspace/SpacesStore",
    "solr4/index/archive/SpacesStore",
    "solr4/model",
    "solr4/content",
    "lucene-indexes",
)


def _server_configuration(data_directory: Path) -> Path | None:
    """The folder of postgresql.conf and pg_hba.conf where it is outside the data directory, as with Debian.

    A base backup does not contain them then. The server notes in postmaster.opts what it was started with.
    """
    try:
        options = (data_directory / "postmaster.opts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    found = re.search(r"config_file=([^\"\n]+)", options)
    folder = Path(found[1]).parent if found else data_directory
    outside = folder.is_absolute() and not folder.is_relative_to(data_directory)
    return folder if outside and (folder / "pg_hba.conf").is_file() else None


def _data_directory(root: Path) -> Path:
    """The installer's data directory is alf_data/postgresql itself; some hosts have a `data` below it."""
    outer = root / "postgresql"
    inner = outer / "data"
    return inner if (inner / "PG_VERSION").exists() and not (outer / "PG_VERSION").exists() else outer


def _directory(text: str | None) -> Path | None:
    """A directory named by a property, when it is absolute and there; `//` in it is normal."""
    if not text or not text.strip().startswith("/"):
        return None
    path = Path(os.path.normpath(text.strip()))
    return path if path.is_dir() else None


def _existing(root: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(root / name for name in names if (root / name).is_dir())


def _first_file(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _first_directory(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_dir()), None)


def _number(text: str | None, default: float) -> float:
    try:
        return float(text) if text is not None else default
    except ValueError:
        return default
