"""The command line of restore.py: from what was typed to an order for one of the restore flows."""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from alfresco_backup.cli.entry import EXIT_FAILED
from alfresco_backup.errors import EXIT_SUCCESS, BackupError
from alfresco_backup.restore.planning.request import (
    LATEST,
    Kind,
    Latest,
    RestoreRequest,
    Strategy,
    parse_target_time,
)

Mode = Literal["full", "pitr", "postgres", "contentstore", "undo"]
WITH_BACKUP = ("full", "pitr", "postgres", "contentstore")
WITH_TARGET = ("pitr", "postgres")
WITH_CONTENT = ("full", "pitr", "contentstore")
EXIT_CODES = """\
exit codes: 0 done, 1 failed, 2 settings or arguments are wrong, 3 refused and nothing was touched,
4 restored, but documents are missing
Without --mode it asks for everything. Without --execute it only shows the plan."""


@dataclass(frozen=True)
class Order:
    """What restore.py is to do. `backup` is a set's stamp, for `undo` a restore's; None: not said."""

    mode: Mode
    backup: str | None = None
    target_time: datetime | Latest | None = None
    contentstore: Strategy | None = None
    timeline: int | None = None
    start_alfresco: bool = True
    discard: bool = False
    accept: bool = False
    execute: bool = False
    confirm: str = ""

    @property
    def flow(self) -> str:
        """The flow that carries it out: module and function in flows/."""
        return "undo_restore" if self.mode == "undo" else f"restore_{self.mode}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The flow's parameters."""
        mode = "execute" if self.execute else "plan"
        common: dict[str, Any] = {"mode": mode, "confirm": self.confirm}
        if self.mode == "undo":
            restore = self.backup or LATEST
            return common | {"restore": restore, "discard": self.discard, "accept": self.accept}
        common["start_alfresco"] = self.start_alfresco
        if self.mode in WITH_BACKUP:
            common["backup"] = self.backup or LATEST
        if self.mode in WITH_TARGET:
            common |= {"target_time": self.target_time, "timeline": self.timeline}
        if self.mode in WITH_CONTENT:
            common["contentstore"] = self.contentstore or "fill"
        return common

    @property
    def request(self) -> RestoreRequest | None:
        """The same for the planner; None for `undo`."""
        if self.mode == "undo":
            return None
        kind: Kind = self.mode
        return RestoreRequest(kind=kind, **self.parameters)

    def command(self, env_file: Path | None = None) -> str:
        """What to type for the same without questions."""
        words = ["python", "restore.py", *(["--env", str(env_file)] if env_file else []), "--mode", self.mode]
        words += ["--backup", self.backup] if self.backup else []
        if self.target_time is not None:
            moment = self.target_time
            words += ["--target-time", moment if isinstance(moment, str) else moment.isoformat()]
        words += ["--timeline", str(self.timeline)] if self.timeline is not None else []
        words += ["--contentstore", self.contentstore] if self.contentstore else []
        words += [] if self.start_alfresco else ["--no-start"]
        words += ["--discard"] if self.discard else []
        words += ["--accept"] if self.accept else []
        words += ["--execute", "--confirm", self.confirm] if self.execute else []
        return shlex.join(words)


@dataclass(frozen=True)
class CommandLine:
    """What was typed. `order` is None when everything is to be asked; `target_time` is still text."""

    env_file: Path | None
    as_json: bool
    order: Order | None
    target_time: str | None = None

    def complete_order(self) -> Order | None:
        """The order with its target time. Raises Refused for a time that names no moment."""
        if self.order is None or self.target_time is None:
            return self.order
        return replace(self.order, target_time=parse_target_time(self.target_time))


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    """Read the arguments. Ends the process with code 2 for wrong ones, as argparse does."""
    parser = _parser()
    typed = parser.parse_args(arguments)
    if typed.mode is None:
        given = [flag for flag, value in _flags(typed).items() if value]
        if given:
            parser.error(f"{given[0]} needs --mode: {', '.join(get_args(Mode))}")
        return CommandLine(typed.env, False, None)
    complaints = _misplaced(typed)
    if complaints:
        parser.error("; ".join(complaints))
    order = Order(
        mode=typed.mode,
        backup=typed.backup,
        contentstore=typed.contentstore,
        timeline=typed.timeline,
        start_alfresco=not typed.no_start,
        discard=typed.discard,
        accept=typed.accept,
        execute=typed.execute,
        confirm=typed.confirm,
    )
    return CommandLine(typed.env, typed.json, order, typed.target_time)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="restore.py",
        description="Restore this Alfresco host, or undo a restore.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--env", type=Path, metavar="FILE", help="settings; default: .env beside this file")
    add(
        "--mode",
        choices=get_args(Mode),
        help="full: a backup set; pitr: a moment; postgres: database only; "
        "contentstore: documents only; undo: put back what a restore set aside",
    )
    add("--backup", metavar="ID", help="stamp of the backup (for undo: of the restore), or latest (default)")
    add(
        "--target-time",
        metavar="T",
        help="moment to go back to, with its offset: 2026-11-22T03:00:00+01:00, or latest",
    )
    add("--timeline", type=int, metavar="N", help="timeline of that moment; default: the newest that has it")
    add(
        "--contentstore",
        choices=get_args(Strategy),
        help="fill: add what is missing (default); replace: set the store aside and copy all",
    )
    add("--no-start", action="store_true", help="do not start Alfresco afterwards")
    add("--discard", action="store_true", help="with undo: remove what the restore set aside instead")
    add("--accept", action="store_true", help="with undo: count an unfinished restore as complete instead")
    add("--execute", action="store_true", help="carry it out; without it the plan is shown")
    add("--confirm", metavar="HOST", default="", help="the host's name, needed with --execute")
    add("--json", action="store_true", help="print one JSON document on standard output")
    return parser


def _flags(typed: argparse.Namespace) -> dict[str, Any]:
    names = [name for name in vars(typed) if name not in ("env", "mode")]
    return {"--" + name.replace("_", "-"): getattr(typed, name) for name in names}


def _misplaced(typed: argparse.Namespace) -> list[str]:
    """Flags that do not go with the mode; ignoring one could restore something else than was meant."""
    belongs = {
        "--backup": (*WITH_BACKUP, "undo"),
        "--target-time": WITH_TARGET,
        "--timeline": WITH_TARGET,
        "--contentstore": WITH_CONTENT,
        "--no-start": ("full", "pitr", "postgres", "contentstore"),
        "--discard": ("undo",),
        "--accept": ("undo",),
    }
    given = _flags(typed)
    both = given["--discard"] and given["--accept"]
    return ["--discard does not go with --accept"] * both + [
        f"{flag} does not go with --mode {typed.mode}; it belongs to {', '.join(modes)}"
        for flag, modes in belongs.items()
        if given[flag] and typed.mode not in modes
    ]


# What restore.py says at its end, as one JSON document for programs.

SCHEMA = 1
OUTCOMES = {0: "done", 1: "failed", 2: "wrong settings", 3: "refused", 4: "documents missing"}


@dataclass(frozen=True)
class Outcome:
    """The end of an order. `details` is a plan's document, or the report that a restore left.

    `order` is None and `host` empty where it failed before they were known.
    """

    order: Order | None = None
    host: str = ""
    text: str = ""
    details: Mapping[str, Any] | None = None
    error: BaseException | None = None

    @property
    def exit_code(self) -> int:
        if self.error is None:
            return EXIT_SUCCESS
        return self.error.exit_code if isinstance(self.error, BackupError) else EXIT_FAILED

    def document(self) -> dict[str, Any]:
        """The outcome for programs: what was asked, how it ended, the error with what to type next."""
        planned = self.error is None and self.order is not None and not self.order.execute
        return {
            "schema": SCHEMA,
            "host": self.host,
            "mode": self.order.mode if self.order else None,
            "execute": self.order.execute if self.order else False,
            "outcome": "planned" if planned else OUTCOMES[self.exit_code],
            "exit_code": self.exit_code,
            "error": _error_document(self.error) if self.error else None,
            "details": self.details,
            "text": self.text,
        }

    def json(self) -> str:
        """The document as it is printed."""
        return json.dumps(self.document(), indent=1, ensure_ascii=False)


def _error_document(error: BaseException) -> dict[str, str]:
    message, hint = (error.message, error.hint) if isinstance(error, BackupError) else (str(error), "")
    return {"type": type(error).__name__, "message": message, "hint": hint}
