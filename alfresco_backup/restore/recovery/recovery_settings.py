"""What is written into a restored data directory so that PostgreSQL recovers to a target, no further. Pure.

Before 12 the settings are in recovery.conf, which PostgreSQL renames to recovery.done; from 12 on they are
ordinary settings, put into postgresql.auto.conf since that is read last, beside an empty recovery.signal.
The version is that of the data directory, never that of a client (patroni #2434).

Facts behind it, from the sources of 9.4 to 18 and tried with real servers:
- from 12 on a second `recovery_target…` is fatal ("multiple recovery targets specified"), and so is
  emptying one *after* another was set: those not wanted are emptied first;
- the default timeline is the latest from 12 on, which after an earlier recovery is not the one wanted;
- a raised max_connections met in the WAL ends a recovery as hot standby ("hot standby is not possible",
  from 14 on "recovery aborted", or a pause without end), so it runs with hot_standby off: nobody can connect
  until recovery has ended;
- once promoted, a server accepts every client before the restore can judge what it recovered to, Alfresco too
  if something has started it meanwhile; with a pg_hba.conf that rejects them (`restricted_access_files`) it
  still listens, which is all that scripts and units wait for when they start it;
- recovery_min_apply_delay, archive_cleanup_command and recovery_end_command left over from when the server
was
  a standby take effect in every archive recovery, the second of them on our archive.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from types import MappingProxyType

from alfresco_backup.postgres.conf_file import AUTO_CONF, CONF, parse_setting, quoted, without
from alfresco_backup.postgres.versions import VersionFacts
from alfresco_backup.restore.planning.plan import Target

# Restricted access: until everything is restored, only the restore can connect.
#
# Alfresco connects by TCP, where everybody is rejected. The restore connects through the Unix socket, as the
# operating system account that owns the data directory and could read all of it anyway; to one database, as
# one role, so that jobs of that account with other roles are rejected.

RESTRICTED_HBA = "pg_hba.restoring.conf"
RESTRICTED_IDENT = "pg_ident.restoring.conf"
RESTRICTED_FILES = (RESTRICTED_HBA, RESTRICTED_IDENT)
MAP = "restoring"
HEAD = """\
# Written by a restore: only the restore can connect until everything is restored. It then removes this file,
# and its part of postgresql.auto.conf, which names it.
"""
REJECTION = "local all all reject\nhost all all all reject\n"
_EXPRESSIBLE = re.compile(r'[^"\0\r\n]+')
_PORT, _SOCKETS = 3, 4


@dataclass(frozen=True)
class RestoreLogin:
    """Who can connect: an account of this machine, as a role, to a database.

    `account` None: whoever gets at the server's socket, in a folder that only its own account can enter; the
    accounts of a container are others than those of the host. No one can where a name is empty or cannot be
    written into pg_hba.conf, which has no quotes within names.
    """

    account: str | None
    role: str
    database: str

    @property
    def expressible(self) -> bool:
        names = (self.role, self.database, *([] if self.account is None else [self.account]))
        return all(_EXPRESSIBLE.fullmatch(name) for name in names)


def restricted_access_files(login: RestoreLogin) -> Mapping[str, str]:
    """The pg_hba.conf and pg_ident.conf of restricted access, by their names in the data directory."""
    if not login.expressible:
        return {RESTRICTED_HBA: HEAD + REJECTION, RESTRICTED_IDENT: HEAD}
    if login.account is None:
        way_in = f'local "{login.database}" "{login.role}" trust\n'
        return {RESTRICTED_HBA: HEAD + way_in + REJECTION, RESTRICTED_IDENT: HEAD}
    way_in = f'local "{login.database}" "{login.role}" peer map={MAP}\n'
    who = f'{MAP} "{login.account}" "{login.role}"\n'
    return {RESTRICTED_HBA: HEAD + way_in + REJECTION, RESTRICTED_IDENT: HEAD + who}


def restricted_access_settings(data_directory: Path) -> Mapping[str, str]:
    """The settings that name these files."""
    return {
        "hba_file": str(data_directory / RESTRICTED_HBA),
        "ident_file": str(data_directory / RESTRICTED_IDENT),
    }


def socket_of(pid_file: str, data_directory: Path) -> tuple[Path, str] | None:
    """The folder of a server's first Unix socket and its port, from the text of its postmaster.pid.

    None where it has no socket. The folder may be given relative to the data directory.
    """
    lines = pid_file.splitlines()
    if len(lines) <= _SOCKETS or not lines[_SOCKETS].strip():
        return None
    return data_directory / lines[_SOCKETS].strip(), lines[_PORT].strip()


BEGIN = "# begin: settings of a recovery, removed when it has ended"
END = "# end: settings of a recovery"
RECOVERY_FILES = ("recovery.conf", "recovery.done", "recovery.signal", "standby.signal", *RESTRICTED_FILES)
OVERRIDES: Mapping[str, str] = MappingProxyType({"hot_standby": "off"})
PAUSE_OVERRIDES: Mapping[str, str] = MappingProxyType({"hot_standby": "on"})
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


@dataclass(frozen=True)
class RecoveryFiles:
    """What to do in a data directory: `remove` (missing files are ignored), then `write` in its order.

    The signal file is written last: until then PostgreSQL would not take the directory for one to recover.
    """

    remove: tuple[str, ...]
    write: Mapping[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recovery:
    """How a data directory is to be recovered. `overrides` are settings in force until that has ended.

    Only `login` can connect until then; None: the host's own pg_hba.conf stays in force. `pause`: at the
    target the server stays in recovery, paused, and answers as a hot standby if it can; else it is promoted.
    """

    target: Target
    timeline: int
    command: str
    overrides: Mapping[str, str] = field(default_factory=lambda: OVERRIDES)
    login: RestoreLogin | None = None
    pause: bool = False


def restore_wal_command(program: Path, sources: Sequence[Path], skipped: Sequence[str] = ()) -> str:
    """The restore_command that looks for WAL in `sources`, the archive first.

    Of the `skipped` segments the archive's copy is not taken.
    Paths are quoted for the shell; a `%` in them is doubled, since PostgreSQL takes it for a placeholder.
    """
    if not sources:
        raise ValueError("restore_command needs at least one folder of WAL")
    before, *after = (shlex.quote(str(path)).replace("%", "%%") for path in (program, *sources))
    options = ["--skip", ",".join(skipped)] if skipped else []
    return " ".join([before, *options, '"%f"', '"%p"', *after])


def recovery_lines(facts: VersionFacts, recovery: Recovery) -> list[str]:
    """The recovery settings of one version, one line each, in an order the server accepts."""
    settings: dict[str, str] = {}
    if facts.signal_file:
        settings |= dict.fromkeys(TARGETS, "") | _NEUTRAL
    settings["restore_command"] = recovery.command
    settings["recovery_target_timeline"] = str(recovery.timeline)
    target = _target(recovery.target)
    settings = {name: value for name, value in settings.items() if name not in target} | target
    action = facts.pause_action_line if recovery.pause else facts.target_action_line
    return [*(f"{name} = {quoted(value)}" for name, value in settings.items()), action]


def recovery_files(
    facts: VersionFacts, recovery: Recovery, conf: str, auto_conf: str, data_directory: Path
) -> RecoveryFiles:
    """What to write before the first start. `conf` and `auto_conf` are the restored files' texts.

    `conf` is empty where postgresql.conf is outside the data directory. It is never changed.
    """
    lines = recovery_lines(facts, recovery)
    access = restricted_access_files(recovery.login) if recovery.login else {}
    access_settings = restricted_access_settings(data_directory) if recovery.login else {}
    settings = {**recovery.overrides, **access_settings}
    overrides = [f"{name} = {quoted(value)}" for name, value in settings.items()]
    kept = after_promotion(auto_conf).write[AUTO_CONF]
    stale = (*_stale(without_block(auto_conf), AUTO_CONF), *_stale(conf, CONF))
    warnings = (*stale, *_elsewhere(conf, data_directory))
    if facts.signal_file:
        write = {AUTO_CONF: _joined(kept, [BEGIN, *overrides, *lines, END]), facts.signal_file: ""}
    else:
        write = {AUTO_CONF: _joined(kept, [BEGIN, *overrides, END]), facts.recovery_file: _joined("", lines)}
    return RecoveryFiles(RECOVERY_FILES, {**access, **write}, warnings)


def after_promotion(auto_conf: str) -> RecoveryFiles:
    """What to write once recovery has ended: recovery settings and overrides are removed, the rest stays.

    The running server is not affected. Repeating it changes nothing.
    """
    kept = without(without_block(auto_conf), RECOVERY_SETTINGS)
    lines = [  # the marks may be gone
        line for line in kept.splitlines(keepends=True) if not any(name in line for name in RESTRICTED_FILES)
    ]
    return RecoveryFiles(RECOVERY_FILES, {AUTO_CONF: "".join(lines)})


def without_block(auto_conf: str) -> str:
    """The text without what recovery_files put there. Its marks are comments, which ALTER SYSTEM drops."""
    head, begin, rest = auto_conf.partition(f"{BEGIN}\n")
    _, end, tail = rest.partition(f"{END}\n")
    return head + tail if begin and end else auto_conf


def _target(target: Target) -> dict[str, str]:
    if target.kind == "immediate":
        return {"recovery_target": "immediate"}
    if target.kind == "end-of-wal":
        return {}
    if target.lsn is not None:
        return {"recovery_target_lsn": str(target.lsn), "recovery_target_inclusive": "true"}
    if target.time is None or target.time.tzinfo is None:
        raise ValueError(f"a recovery target needs an aware time, got {target.time!r}")
    moment = target.time.astimezone(UTC).isoformat(sep=" ", timespec="microseconds")
    return {"recovery_target_time": moment, "recovery_target_inclusive": "true"}


def _joined(text: str, lines: Iterable[str]) -> str:
    head = text if not text or text.endswith("\n") else text + "\n"
    return head + "".join(f"{line}\n" for line in lines)


def _stale(text: str, name: str) -> list[str]:
    """Recovery settings left from an earlier recovery, or from when the server was a standby."""
    found = [setting for line in text.splitlines() if (setting := parse_setting(line))]
    done = "removed" if name == AUTO_CONF else "overridden for this recovery; remove it there"
    return [
        f"{name} sets {key} = {quoted(value)}: {done}"
        for key, value in found
        if key in RECOVERY_SETTINGS and value
    ]


def _elsewhere(conf: str, data_directory: Path) -> list[str]:
    """Settings that name places outside the data directory, which no base backup contains."""
    found = [setting for line in conf.splitlines() if (setting := parse_setting(line))]
    return [
        f"{CONF} sets {name} = {quoted(value)}: that place is not part of the backup; check that it exists"
        for name, value in found
        if value and name in _PLACES and not _inside(Path(value), data_directory)
    ]


def _inside(path: Path, directory: Path) -> bool:
    return Path(os.path.normpath(directory / path)).is_relative_to(directory)
