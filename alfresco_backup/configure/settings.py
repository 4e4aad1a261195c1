"""Which settings of the server `configure` changes: what is sufficient stays, nothing is lowered. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.configure.changes import Change, SettingChange
from alfresco_backup.findings import Finding, warning
from alfresco_backup.postgres.versions import VersionFacts
from alfresco_backup.settings.commands import REPLACE, configure_command
from alfresco_backup.wal.archive_command import ArchiveCommand, parse_archive_command

DISABLED = "(disabled)"
"""What the server shows as archive_command while archive_mode is off."""
COMMAND_LINE = "command line"
CONFIGURATION_FILE = "configuration file"
NEEDS_START = frozenset({"wal_level", "archive_mode", "max_wal_senders", "max_replication_slots"})
NAMES = (
    "wal_level",
    "archive_mode",
    "max_wal_senders",
    "max_replication_slots",
    "archive_timeout",
    "archive_command",
    "archive_library",
)
_ZERO = re.compile(r"0+(\.0*)?\s*[a-z]*")
_TRUE = frozenset({"on", "always", "true", "yes", "1"})
_OLD_LEVELS = frozenset({"archive", "hot_standby"})


@dataclass(frozen=True)
class Setting:
    """A setting as the server has it.

    `written`: what its configuration files say now, None where they are silent. `automatic`: what
    postgresql.auto.conf says. `origin`: where the value to come is from, for people. `boot`: the value where
    nothing sets one.
    """

    value: str
    source: str = "default"
    origin: str = "default"
    written: str | None = None
    automatic: str | None = None
    boot: str = ""


@dataclass(frozen=True)
class Archiving:
    """How WAL is to be archived. `renew`: why an archive_command of ours is set again; empty: it stays."""

    program: Path
    archive: Path
    renew: str = ""
    replace: bool = False
    archive_names: frozenset[str] = frozenset()

    @property
    def command(self) -> str:
        return ArchiveCommand(self.program, self.archive).text


def archiving_program(command: str, archives: Iterable[str]) -> Path | None:
    """The archive-wal that a command runs for one of these archives; None for any other command."""
    parsed = parse_archive_command(command)
    return parsed.program if parsed and str(parsed.archive) in archives else None


def plan_settings(
    facts: VersionFacts,
    settings: Mapping[str, Setting],
    archiving: Archiving | None,
    *,
    alterable: bool,
    streaming: bool = False,
    streamed: bool = False,
) -> tuple[list[Change], list[Finding], list[str]]:
    """Changes, what is left alone, and settings that are written already and wait for a restart.

    `streaming`: WAL is to be streamed; `streamed`: it is. Without `archiving` it is streamed only, as from a
    container, which has no programs or folders of this host.
    """
    decided: list[Change | Finding] = []
    waiting: list[str] = []
    answers = _command(settings, archiving) if archiving else []
    foreign = any(isinstance(item, Finding) for item in answers)
    for wish in (*_wanted(facts), *(_FOR_STREAMING if streaming else ())):
        if streamed and wish.name == "archive_mode" and facts.has_manifest:
            continue  # where the stream was set up, turning archiving off is the administrator's choice
        if archiving is None and wish.name in ("archive_mode", "archive_timeout"):
            continue
        setting = settings[wish.name]
        if wish.name == "archive_mode" and foreign and not _is_sufficient(wish.name, setting.value, facts):
            what = f"is {setting.value}, and turning it on would run the command that is left alone"
            decided.append(
                warning(
                    wish.name,
                    what,
                    f"{configure_command('--apply', REPLACE)}  # replaces archive_command, too",
                )
            )
        elif not _is_sufficient(wish.name, _to_come(wish.name, setting), facts):
            decided.append(_set(wish, setting, alterable=alterable))
        elif not _is_sufficient(wish.name, setting.value, facts):
            waiting.append(wish.name)
    for answer in answers:
        if isinstance(answer, Finding):
            decided.append(answer)
        else:
            decided.append(_set(answer, settings[answer.name], alterable=alterable))
    changes = [item for item in decided if isinstance(item, Change)]
    return changes, [item for item in decided if isinstance(item, Finding)], waiting


def is_sufficient(name: str, value: str, wanted: str, facts: VersionFacts) -> bool:
    """Whether a value in force is what a change was to bring, or better."""
    return (
        value == wanted
        if name in ("archive_command", "archive_library")
        else _is_sufficient(name, value, facts)
    )


@dataclass(frozen=True)
class _Wish:
    name: str
    value: str
    reason: str


def _wanted(facts: VersionFacts) -> tuple[_Wish, ...]:
    return (
        _Wish("wal_level", facts.recommended_wal_level, "base backups and archived WAL need it"),
        _Wish("archive_mode", "on", "without it no WAL reaches the archive"),
        _Wish("max_wal_senders", "3", "a base backup needs a replication connection"),
        _Wish("archive_timeout", "300s", "on a quiet server the newest commits would not reach the archive"),
    )


_FOR_STREAMING = (_Wish("max_replication_slots", "4", "the receiver of WAL needs a replication slot"),)


def _to_come(name: str, setting: Setting) -> str:
    """The value after a restart. What a reload would change counts as it is: the plan reloads."""
    if name in NEEDS_START and setting.source == CONFIGURATION_FILE:
        return setting.boot if setting.written is None else setting.written
    if name in NEEDS_START and setting.source != COMMAND_LINE and setting.written is not None:
        return setting.written
    return setting.value


def _is_sufficient(name: str, value: str, facts: VersionFacts) -> bool:
    word = value.strip().lower()
    if name == "wal_level":
        # From 9.6 on the two old words still mean replica.
        return word in facts.wal_levels or ("replica" in facts.wal_levels and word in _OLD_LEVELS)
    if name == "archive_mode":
        return word in _TRUE
    return not _ZERO.fullmatch(word)


def _command(settings: Mapping[str, Setting], archiving: Archiving) -> list[_Wish | Finding]:
    """archive_command, and archive_library (15 and later) that would take its place."""
    command = present_command(settings)
    library = settings["archive_library"].value if "archive_library" in settings else ""
    own = archiving_program(command, archiving.archive_names | {str(archiving.archive)})
    if own and not library:
        return [_Wish("archive_command", archiving.command, archiving.renew)] if archiving.renew else []
    if (command or library) and not own and not archiving.replace:
        name = "archive_library" if library else "archive_command"
        what = f"is {library or command}, which may serve another backup system"
        fix = f"{configure_command('--apply', REPLACE)}  # where nothing needs it any more"
        return [warning(name, what, fix)]
    wanted = [_Wish("archive_command", archiving.command, f"WAL goes to {archiving.archive}")]
    if library:
        wanted.insert(0, _Wish("archive_library", "", "the server allows one of the two"))
    return [*wanted]


def present_command(settings: Mapping[str, Setting]) -> str:
    """archive_command as it will be with archive_mode on, when the server does not show it otherwise."""
    setting = settings["archive_command"]
    return (setting.written or "") if setting.value == DISABLED else setting.value


def _set(wish: _Wish, setting: Setting, *, alterable: bool) -> Change | Finding:
    name, wanted = wish.name, wish.value
    value = (setting.written or "") if setting.value == DISABLED else _to_come(name, setting)
    if setting.source == COMMAND_LINE:
        what = f"is {value} on the command line of the server, which no setting overrides; {wish.reason}"
        return warning(
            name, what, f"start PostgreSQL without -c {name}=..., then: {configure_command('--apply')}"
        )
    if not alterable:
        line = f"{name} = '{wanted.replace(chr(39), chr(39) * 2)}'"
        what = f"is {value or 'empty'}; allow_alter_system is off, settings are managed elsewhere"
        then = "restart" if name in NEEDS_START else "reload"
        return warning(
            name, f"{what}; {wish.reason}", f"edit postgresql.conf: {line}; then {then} PostgreSQL"
        )
    old = f"{value or 'empty'} ({setting.origin})"
    return SettingChange(
        name,
        old,
        wanted or "empty",
        wish.reason,
        name=name,
        value=wanted,
        before=setting.automatic,
        restart=name in NEEDS_START,
    )
