"""What is written into a restored data directory so that PostgreSQL recovers to a target, no further. Pure.

Before 12 the settings stand in recovery.conf, which PostgreSQL renames to recovery.done; from 12 on they are
ordinary settings, put into postgresql.auto.conf since that is read last, beside an empty recovery.signal.
The version is that of the data directory, never that of a client (patroni #2434).

Facts this rests on, from the sources of 9.4 to 18 and tried with real servers:
- from 12 on a second `recovery_target…` is fatal ("multiple recovery targets specified"), and so is
  emptying one *after* another was set: those not wanted are emptied first;
- the default timeline is the latest from 12 on, which after an earlier recovery is not the one wanted;
- a raised max_connections met in the WAL ends a recovery as hot standby ("hot standby is not possible",
  from 14 on "recovery aborted", or a pause without end), so it runs with hot_standby off: nobody can connect
  until recovery has ended;
- promoted, a server lets everybody in before anybody could judge what it came to, Alfresco too if something
  has started it meanwhile; with a pg_hba.conf that rejects them (closed_server.py) it still listens, which is
  all that scripts and units wait for when they start it;
- recovery_min_apply_delay, archive_cleanup_command and recovery_end_command left over from a life as a
  standby work in every archive recovery, the second of them on our archive.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from types import MappingProxyType

from alfresco_backup.closed_server import CLOSED_FILES, Visitor, closing_files, closing_settings
from alfresco_backup.restore_plan import Target
from alfresco_backup.versions import VersionFacts

AUTO_CONF = "postgresql.auto.conf"
CONF = "postgresql.conf"
BEGIN = "# begin: settings of a recovery, removed when it has ended"
END = "# end: settings of a recovery"
RECOVERY_FILES = ("recovery.conf", "recovery.done", "recovery.signal", "standby.signal", *CLOSED_FILES)
OVERRIDES: Mapping[str, str] = MappingProxyType({"hot_standby": "off"})
TARGETS = (
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_lsn",
)
RECOVERY_SETTINGS = frozenset(
    {
        *TARGETS,
        "recovery_target_timeline",
        "recovery_target_inclusive",
        "recovery_target_action",
        "pause_at_recovery_target",
        "restore_command",
        "archive_cleanup_command",
        "recovery_end_command",
        "recovery_min_apply_delay",
        "standby_mode",
        "primary_conninfo",
        "primary_slot_name",
        "trigger_file",
        "promote_trigger_file",
    }
)
_NEUTRAL = {"archive_cleanup_command": "", "recovery_end_command": "", "recovery_min_apply_delay": "0"}
_PLACES = frozenset(
    {"data_directory", "hba_file", "ident_file", "include", "include_if_exists", "include_dir"}
)
_LINE = re.compile(r"\s*(?P<name>[A-Za-z_][\w.$]*)\s*=?\s*(?P<value>'(?:[^'\\]|\\.|'')*'|[^\s#']*)")
_ESCAPES = {"\\": "\\\\", "'": "''", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_UNESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


@dataclass(frozen=True)
class RecoveryFiles:
    """What to do in a data directory: `remove` (what is not there is passed over), then `write` in its order.

    The signal file is written last: until then PostgreSQL would not take the directory for one to recover.
    """

    remove: tuple[str, ...]
    write: Mapping[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recovery:
    """How a data directory is to be recovered. `overrides` are settings in force until that has ended.

    `visitor` is the only one let in for as long; None leaves that to the host's own pg_hba.conf.
    """

    target: Target
    timeline: int
    command: str
    overrides: Mapping[str, str] = field(default_factory=lambda: OVERRIDES)
    visitor: Visitor | None = None


def quoted(value: str) -> str:
    """A value as PostgreSQL's configuration files want it. Raises ValueError for one with a zero byte."""
    if "\0" in value:
        raise ValueError(f"a setting cannot hold a zero byte: {value!r}")
    return "'" + "".join(_ESCAPES.get(character, character) for character in value) + "'"


def restore_command(program: Path, sources: Sequence[Path]) -> str:
    """The restore_command that looks for WAL in `sources`, the archive first.

    Paths are quoted for the shell; a `%` in them is doubled, since PostgreSQL takes it for a placeholder.
    """
    if not sources:
        raise ValueError("restore_command needs at least one folder of WAL")
    before, *after = (shlex.quote(str(path)).replace("%", "%%") for path in (program, *sources))
    return " ".join([before, '"%f"', '"%p"', *after])


def recovery_lines(facts: VersionFacts, recovery: Recovery) -> list[str]:
    """The recovery settings of one version, one line each, in an order the server accepts."""
    settings: dict[str, str] = {}
    if facts.signal_file:
        settings |= dict.fromkeys(TARGETS, "") | _NEUTRAL
    settings["restore_command"] = recovery.command
    settings["recovery_target_timeline"] = str(recovery.timeline)
    target = _target(recovery.target)
    settings = {name: value for name, value in settings.items() if name not in target} | target
    return [*(f"{name} = {quoted(value)}" for name, value in settings.items()), facts.target_action_line]


def recovery_files(
    facts: VersionFacts, recovery: Recovery, conf: str, auto_conf: str, data_directory: Path
) -> RecoveryFiles:
    """What to write before the first start. `conf` and `auto_conf` are the restored files' texts.

    `conf` is empty where postgresql.conf lies outside the data directory. It is never changed.
    """
    lines = recovery_lines(facts, recovery)
    closed = closing_files(recovery.visitor) if recovery.visitor else {}
    door = closing_settings(data_directory) if recovery.visitor else {}
    settings = {**recovery.overrides, **door}
    overrides = [f"{name} = {quoted(value)}" for name, value in settings.items()]
    kept = after_promotion(auto_conf).write[AUTO_CONF]
    stale = (*_stale(without_block(auto_conf), AUTO_CONF), *_stale(conf, CONF))
    warnings = (*stale, *_elsewhere(conf, data_directory))
    if facts.signal_file:
        write = {AUTO_CONF: _joined(kept, [BEGIN, *overrides, *lines, END]), facts.signal_file: ""}
    else:
        write = {AUTO_CONF: _joined(kept, [BEGIN, *overrides, END]), facts.recovery_file: _joined("", lines)}
    return RecoveryFiles(RECOVERY_FILES, {**closed, **write}, warnings)


def after_promotion(auto_conf: str) -> RecoveryFiles:
    """What to write once recovery has ended: the recovery settings and overrides go, the rest stays.

    The running server is not affected. Repeating it changes nothing.
    """
    kept = without(without_block(auto_conf), RECOVERY_SETTINGS)
    lines = [  # the marks may be gone
        line for line in kept.splitlines(keepends=True) if not any(name in line for name in CLOSED_FILES)
    ]
    return RecoveryFiles(RECOVERY_FILES, {AUTO_CONF: "".join(lines)})


def without_block(auto_conf: str) -> str:
    """The text without what recovery_files put there. Its marks are comments, which ALTER SYSTEM drops."""
    head, begin, rest = auto_conf.partition(f"{BEGIN}\n")
    _, end, tail = rest.partition(f"{END}\n")
    return head + tail if begin and end else auto_conf


def without(text: str, names: Iterable[str]) -> str:
    """A configuration file's text without the lines that set one of `names`."""
    unwanted = frozenset(names)
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if (_setting(line) or ("", ""))[0] not in unwanted)


def read_setting(text: str, name: str) -> str | None:
    """The value a configuration file gives to a setting, None for none. Includes are not followed."""
    values = [found[1] for line in text.splitlines() if (found := _setting(line)) and found[0] == name]
    return values[-1] if values else None


def _target(target: Target) -> dict[str, str]:
    if target.kind == "immediate":
        return {"recovery_target": "immediate"}
    if target.kind == "end-of-wal":
        return {}
    if target.time is None or target.time.tzinfo is None:
        raise ValueError(f"a recovery target needs an aware time, got {target.time!r}")
    moment = target.time.astimezone(UTC).isoformat(sep=" ", timespec="microseconds")
    return {"recovery_target_time": moment, "recovery_target_inclusive": "true"}


def _setting(line: str) -> tuple[str, str] | None:
    """Name (in lower case) and value of a line that sets something."""
    match = _LINE.match(line)
    if match is None:
        return None
    value = match["value"]
    if value.startswith("'"):
        value = re.sub(r"\\(.)|''", _unescaped, value[1:-1])
    return match["name"].lower(), value


def _unescaped(match: re.Match[str]) -> str:
    return _UNESCAPES.get(match[1], match[1]) if match[1] else "'"


def _joined(text: str, lines: Iterable[str]) -> str:
    head = text if not text or text.endswith("\n") else text + "\n"
    return head + "".join(f"{line}\n" for line in lines)


def _stale(text: str, name: str) -> list[str]:
    """Recovery settings left from an earlier recovery or a life as a standby."""
    found = [setting for line in text.splitlines() if (setting := _setting(line))]
    done = "removed" if name == AUTO_CONF else "overridden for this recovery; remove it there"
    return [
        f"{name} sets {key} = {quoted(value)}: {done}"
        for key, value in found
        if key in RECOVERY_SETTINGS and value
    ]


def _elsewhere(conf: str, data_directory: Path) -> list[str]:
    """Settings that lead out of the data directory, to what no base backup holds."""
    found = [setting for line in conf.splitlines() if (setting := _setting(line))]
    return [
        f"{CONF} sets {name} = {quoted(value)}: that place is not part of the backup; see that it is right"
        for name, value in found
        if value and name in _PLACES and not _inside(Path(value), data_directory)
    ]


def _inside(path: Path, directory: Path) -> bool:
    return Path(os.path.normpath(directory / path)).is_relative_to(directory)
