"""What `configure` decides and remembers: changes of a host, each old -> new with its reason. Frozen.

A change holds all that undoing it needs, as text and numbers, so that it goes into the journal as it is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from alfresco_backup.findings import Finding


@dataclass(frozen=True)
class Change:
    """One change. `old` and `new` are for people and never hold a secret; `restart`: in force after one."""

    subject: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True)
class SettingChange(Change):
    """ALTER SYSTEM SET. `before` is the value in postgresql.auto.conf; None: it does not set this."""

    name: str
    value: str
    before: str | None
    restart: bool


@dataclass(frozen=True)
class StatementChange(Change):
    """A statement and the one that takes it back, in a database; the role gets PGPASSWORD where asked."""

    statement: str
    undo: str
    database: str
    password_of: str = ""


@dataclass(frozen=True)
class LinesChange(Change):
    """Lines of a text file: `removed` ones from line `position` (0 is the first) give way to `added` ones."""

    path: str
    position: int
    removed: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True)
class InstallChange(Change):
    """A program of this project put to where the server's account can run it."""

    path: str
    source: str
    existed: bool


@dataclass(frozen=True)
class FolderChange(Change):
    """A folder that is made."""

    path: str
    uid: int
    gid: int
    mode: int


@dataclass(frozen=True)
class AccessChange(Change):
    """Owner, group and mode of a file or folder: (uid, gid, mode) as it was and as it shall be."""

    path: str
    before: tuple[int, int, int]
    after: tuple[int, int, int]


KINDS: Mapping[str, type[Any]] = {
    "setting": SettingChange,
    "statement": StatementChange,
    "lines": LinesChange,
    "install": InstallChange,
    "folder": FolderChange,
    "access": AccessChange,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True)
class ConfigurePlan:
    """All changes in their order, what is left alone, and the settings that only a restart puts in force."""

    changes: tuple[Change, ...]
    left: tuple[Finding, ...] = ()
    waiting: tuple[str, ...] = ()

    @property
    def restart_for(self) -> tuple[str, ...]:
        """The settings for which PostgreSQL must be restarted, those waiting already included."""
        changed = [item.name for item in self.changes if isinstance(item, SettingChange) and item.restart]
        return tuple(dict.fromkeys([*self.waiting, *changed]))

    @property
    def done(self) -> bool:
        """Whether nothing is to change, to restart or to be done by hand."""
        return not (self.changes or self.left or self.restart_for)


def change_document(change: Change) -> dict[str, Any]:
    """A change as the journal holds it."""
    return {"kind": _NAMES[type(change)], **asdict(change)}


def change_of(document: Mapping[str, Any]) -> Change:
    """A change from the journal. Raises ValueError where it is not understood."""
    kind = KINDS.get(str(document.get("kind")))
    if kind is None:
        raise ValueError(f"a change of kind {document.get('kind')!r} is not known")
    names = [item.name for item in fields(kind)]
    missing = [name for name in names if name not in document]
    if missing:
        raise ValueError(f"a change of kind {document['kind']} lacks {', '.join(missing)}")
    values = ((name, document[name]) for name in names)
    change: Change = kind(**{name: tuple(item) if isinstance(item, list) else item for name, item in values})
    return change
