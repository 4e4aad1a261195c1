"""Files of a PostgreSQL server outside its data directory, which no base backup contains.

pg_basebackup leaves out links in the data directory ("skipping special file", basebackup.c), and follows no
path that a configuration file names. Without its certificate or an included file a restored server does not
start. They are found as the server finds them: from postgresql.conf on, through its includes and those of
pg_hba.conf and pg_ident.conf (`@file`; from 16 on `include` and the like: "The pg_hba.conf File").

All of it is read with the rights of the account the server runs as: that account can name any file.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.postgres.conf_file import AUTO_CONF, CONF, parse_setting
from alfresco_backup.system.accounts import Account, acting_as

FILES = (
    "hba_file",
    "ident_file",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_dh_params_file",
    "krb_server_keyfile",
)
FOLDERS = ("ssl_crl_dir",)
ACCESS_FILES = {"hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf"}
INCLUDES = ("include", "include_if_exists", "include_dir")
PLACES_OF_DATA = frozenset({"pg_wal", "pg_xlog", "pg_tblspc"})
DEEPEST = 10
"""As guc-file.c: CONF_FILE_MAX_DEPTH."""


@dataclass(frozen=True)
class ServerFiles:
    """`links`: name in the data directory and text of each link that leads out of it. `files`: those outside.

    `missing`: files that the server needs to start and its account cannot open, with the reason. `unread`:
    those that it needs only with some settings, as for TLS.
    """

    links: tuple[tuple[str, str], ...] = ()
    files: tuple[Path, ...] = ()
    missing: tuple[tuple[Path, str], ...] = ()
    unread: tuple[tuple[Path, str], ...] = ()


def find_server_files(data_directory: Path, account: Account, started_with: Path | None) -> ServerFiles:
    """Find them; changes nothing. `started_with`: the folder of a postgresql.conf that is elsewhere, or None.

    Raises PermissionError where this process may not work as that account.
    """
    search = _Search(data_directory)
    with acting_as(account):
        search.links()
        for start in (started_with, data_directory):
            if start is not None:
                search.configuration(start / CONF, required=False, depth=0)
        search.configuration(data_directory / AUTO_CONF, required=False, depth=0)
        for name in ACCESS_FILES.values():
            search.access_rules(data_directory / name)
    missing, unread = sorted(search.missing.items()), sorted(search.unread.items())
    return ServerFiles(tuple(search.found_links), tuple(sorted(search.files)), tuple(missing), tuple(unread))


class _Search:
    def __init__(self, data_directory: Path) -> None:
        self.data_directory = data_directory
        self.real = Path(os.path.realpath(data_directory))
        self.found_links: list[tuple[str, str]] = []
        self.files: set[Path] = set()
        self.missing: dict[Path, str] = {}
        self.unread: dict[Path, str] = {}
        self.read: set[Path] = set()

    def links(self) -> None:
        """The links at the top of the data directory; a folder behind one is no file of the server's."""
        for entry in sorted(os.scandir(self.data_directory), key=lambda item: item.name):
            if not entry.is_symlink() or entry.name in PLACES_OF_DATA:
                continue
            text = os.readlink(entry.path)  # noqa: PTH115
            target = Path(os.path.normpath(self.data_directory / text))
            if self._is_outside(target):
                self.found_links.append((entry.name, text))
                if not entry.is_dir():
                    self.add(target)

    def configuration(self, file: Path, *, required: bool, depth: int) -> None:
        """What a configuration file names, and those that it includes."""
        if file in self.read or depth > DEEPEST:
            return
        self.read.add(file)
        if depth and (required or file.exists()):
            self.add(file)
        try:
            text = file.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
        for name, value in filter(None, map(parse_setting, text.splitlines())):
            if value and name in INCLUDES:
                self._included(name, file.parent / value, depth)
            elif value and name in FILES:
                self.add(self.data_directory / value, required=not name.startswith(("ssl_", "krb_")))
                if name in ACCESS_FILES:
                    self.access_rules(self.data_directory / value)
            elif value and name in FOLDERS:
                for path in _files_in(self.data_directory / value):
                    self.add(path, required=False)

    def access_rules(self, file: Path, depth: int = 0) -> None:
        """What pg_hba.conf or pg_ident.conf includes, to any depth that the server takes.

        Without a list of names (`@file`) a server starts before 16, and lets nobody in by that line.
        """
        if file in self.read or depth > DEEPEST:
            return
        self.read.add(file)
        try:
            lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            return
        for words in (line.partition("#")[0].replace(",", " ").split() for line in lines):
            how = words[0] if len(words) == 2 else ""
            for word in words[1:] if how in INCLUDES else [word for word in words if word.startswith("@")]:
                path = file.parent / word.removeprefix("@").strip('"')
                named = _files_in(path) if how == "include_dir" else [path]
                for found in named:
                    if how != "include_if_exists" or found.exists():
                        self.add(found, required=how in ("include", "include_dir"))
                    self.access_rules(found, depth + 1)

    def _included(self, how: str, path: Path, depth: int) -> None:
        if how != "include_dir":
            self.configuration(path, required=how == "include", depth=depth + 1)
            return
        for file in _files_in(path):
            if file.name.endswith(".conf") and not file.name.startswith("."):
                self.configuration(file, required=True, depth=depth + 1)

    def add(self, path: Path, *, required: bool = True) -> None:
        """Enter a file, as the server opens it; nothing where it is in the base backup anyway."""
        path = Path(os.path.normpath(path))
        if not self._is_outside(path):
            return
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            (self.missing if required else self.unread)[path] = error.strerror or str(error)
            return
        if path.is_file():
            self.files.add(path)

    def _is_outside(self, path: Path) -> bool:
        return not any(path.is_relative_to(place) for place in (self.data_directory, self.real))


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []
