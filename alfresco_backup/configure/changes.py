"""What `configure` decides and remembers: changes of a host, each old -> new with its reason. Frozen.

A change contains all that undoing it needs, as text and numbers, so that it goes into the journal as it is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from alfresco_backup.findings import Finding


@dataclass(frozen=True)
class Change:
    """One change. `old` and `new` are for people and never contain a secret."""

    subject: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True)
class SettingChange(Change):
    """ALTER SYSTEM SET. `before` is the value in postgresql.auto.conf; None: it does not set this.

    `restart`: in force after one.
    """

    name: str
    value: str
    before: str | None
    restart: bool
    kind: Literal["setting"] = field(default="setting", kw_only=True)


@dataclass(frozen=True)
class StatementChange(Change):
    """A statement and the one that undoes it, in a database; the role gets PGPASSWORD where asked."""

    statement: str
    undo: str
    database: str
    password_of: str = ""
    kind: Literal["statement"] = field(default="statement", kw_only=True)


@dataclass(frozen=True)
class LinesChange(Change):
    """Lines of a text file: `removed` ones from line `position` (0 is the first) are replaced by `added`."""

    path: str
    position: int
    removed: tuple[str, ...]
    added: tuple[str, ...]
    kind: Literal["lines"] = field(default="lines", kw_only=True)


@dataclass(frozen=True)
class InstallChange(Change):
    """A program of this project copied to where the server's account can run it."""

    path: str
    source: str
    existed: bool
    kind: Literal["install"] = field(default="install", kw_only=True)


@dataclass(frozen=True)
class FolderChange(Change):
    """A folder that is made."""

    path: str
    uid: int
    gid: int
    mode: int
    kind: Literal["folder"] = field(default="folder", kw_only=True)


@dataclass(frozen=True)
class AccessChange(Change):
    """Owner, group and mode of a file or folder: (uid, gid, mode) as it was and as it shall be."""

    path: str
    before: tuple[int, int, int]
    after: tuple[int, int, int]
    kind: Literal["access"] = field(default="access", kw_only=True)


_ANY_CHANGE: TypeAdapter[Change] = TypeAdapter(
    Annotated[
        SettingChange | StatementChange | LinesChange | InstallChange | FolderChange | AccessChange,
        Field(discriminator="kind"),
    ]
)


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
    """A change as the journal contains it."""
    return asdict(change)


def change_of(document: Mapping[str, Any]) -> Change:
    """A change from the journal. Raises ValueError where it is not understood."""
    return _ANY_CHANGE.validate_python(document)
