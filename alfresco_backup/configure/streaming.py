"""What `configure` changes for WAL streaming: the setting, room for a replication slot, the slot. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.configure.changes import Change, LinesChange, StatementChange
from alfresco_backup.postgres.database import quoted_literal

SETTING = "WAL_STREAMING"
_LINE = re.compile(rf"\s*(export\s+)?{SETTING}\s*=")
_COMMENTED = re.compile(rf"\s*#\s*{SETTING}\s*=")


@dataclass(frozen=True)
class StreamingState:
    """`asked`: it is to be set up now; `wanted`: the `.env` says so already. `exists`: the slot does.

    `room`: the server has replication slots and WAL for them in force. `reserves`: see versions.py.
    """

    asked: bool
    wanted: bool
    name: str
    exists: bool
    room: bool
    reserves: bool
    database: str


def plan_streaming(seen: StreamingState, env_file: Path, env_lines: Sequence[str]) -> list[Change]:
    """The setting and the slot. The receiver makes a missing slot itself, where there is no room yet."""
    name, at_once = quoted_literal(seen.name), ", true" if seen.reserves else ""
    make = f"SELECT pg_create_physical_replication_slot({name}{at_once})"
    drop = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name}"
    subject = f"replication slot {seen.name}"
    if not (seen.asked or seen.wanted):
        words = ("keeps WAL that nobody receives", "dropped", f"{SETTING} is no")
        return [StatementChange(subject, *words, drop, make, seen.database)] if seen.exists else []
    changes: list[Change] = [] if seen.wanted else [_setting(env_file, env_lines)]
    if seen.room and not seen.exists:
        words = ("does not exist", "keeps WAL until the receiver has it", "the receiver goes on where it was")
        changes.append(StatementChange(subject, *words, make, drop, seen.database))
    return changes


def _setting(env_file: Path, lines: Sequence[str]) -> LinesChange:
    """The line of the `.env`: in place of the one in force, below a commented one, or at the end."""
    in_force = [index for index, line in enumerate(lines) if _LINE.match(line)]
    commented = [index for index, line in enumerate(lines) if _COMMENTED.match(line)]
    end = len(lines) - 1 if lines and not lines[-1] else len(lines)
    position = in_force[-1] if in_force else (commented[-1] + 1 if commented else end)
    removed = (lines[position],) if in_force else ()
    reason = "the receiver runs where it is set"
    line = f"{SETTING}=yes"
    return LinesChange(".env", f"{SETTING} no", line, reason, str(env_file), position, removed, (line,))
