"""What is typed for `restore` and `undo`: options, and the order that comes of them."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from alfresco_backup.restore.planning.request import (
    LATEST,
    Latest,
    RestoreKind,
    RestoreRequest,
    Source,
    Strategy,
    parse_target_time,
    words_of,
)
from alfresco_backup.settings.commands import program_command

RestoreMode = Literal["full", "pitr", "postgres", "contentstore", "undo"]
WITH_BACKUP = ("full", "pitr", "postgres", "contentstore")
WITH_TARGET = ("pitr", "postgres")
WITH_CONTENT = ("full", "pitr", "contentstore")


@dataclass(frozen=True)
class Order:
    """What is to be done. `backup` is a backup ID, for `undo` that of a restore; None: not said."""

    mode: RestoreMode
    backup: str | None = None
    target_time: datetime | Latest | None = None
    contentstore: Strategy | None = None
    timeline: int | None = None
    source: Source | None = None
    start_alfresco: bool = True
    discard: bool = False
    accept: bool = False
    execute: bool = False
    confirm: str = ""

    @property
    def parameters(self) -> dict[str, Any]:
        """The flow's parameters."""
        mode = "execute" if self.execute else "plan"
        common: dict[str, Any] = {"mode": mode, "confirm": self.confirm}
        if self.mode == "undo":
            restore = self.backup or LATEST
            return common | {"restore": restore, "discard": self.discard, "accept": self.accept}
        common["start_alfresco"] = self.start_alfresco
        if self.source is not None:
            common["source"] = self.source
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
        kind: RestoreKind = self.mode
        return RestoreRequest(kind=kind, **self.parameters)

    def command(self) -> str:
        """What to type for the same."""
        execution = ["--execute", "--confirm", self.confirm] if self.execute else []
        if self.request is not None:
            return program_command("restore", *words_of(self.request), *execution)
        words = ["--backup", self.backup] if self.backup else []
        words += ["--discard"] if self.discard else []
        words += ["--accept"] if self.accept else []
        return program_command("undo", *words, *execution)


def add_restore_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    modes = [mode for mode in get_args(RestoreMode) if mode != "undo"]
    add(
        "--mode",
        choices=get_args(RestoreMode),
        metavar=f"{{{','.join(modes)}}}",
        help="full: a backup set; pitr: a target time; postgres: database only; contentstore: documents only",
    )
    add("--backup", metavar="ID", help="backup ID, or latest (default)")
    add(
        "--target-time",
        metavar="T",
        help="time to go back to, with its UTC offset: 2026-11-22T03:00:00+01:00, or latest",
    )
    add("--timeline", type=int, metavar="N", help="timeline of that time; default: the newest that has it")
    add(
        "--contentstore",
        choices=get_args(Strategy),
        help="fill: add what is missing (default); replace: set the store aside and copy all",
    )
    add(
        "--source",
        choices=get_args(Source),
        help="local: from BACKUP_DIR (default); offsite: fetch what it needs from the off-site copy first",
    )
    add("--no-start", action="store_true", help="do not start Alfresco afterwards")
    # `--mode undo` is what restore.py has had before there was the verb `undo`.
    add("--discard", action="store_true", help=argparse.SUPPRESS)
    add("--accept", action="store_true", help=argparse.SUPPRESS)
    _add_execution(parser)


def add_undo_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--backup", metavar="ID", help="ID of the restore, or latest (default)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--discard", action="store_true", help="remove for good what the restore set aside")
    what.add_argument("--accept", action="store_true", help="count an unfinished restore as complete")
    _add_execution(parser)


def _add_execution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--execute", action="store_true", help="carry it out; without it the plan is shown")
    parser.add_argument(
        "--confirm", metavar="HOST", default="", help="the host's name, needed with --execute"
    )


def restore_order(typed: argparse.Namespace) -> Order | None:
    """The order, None when everything is to be asked.

    Ends the process with code 2 for options that do not go together, as argparse does. Raises Refused for a
    target time that cannot be understood.
    """
    given = {flag: value for flag, value in _flags(typed).items() if value}
    if typed.mode is None:
        if given or typed.json:
            typed.parser.error(
                f"{next(iter(given), '--json')} needs --mode: {', '.join(get_args(RestoreMode))}"
            )
        return None
    if complaints := _misplaced(typed.mode, given):
        typed.parser.error("; ".join(complaints))
    return Order(
        mode=typed.mode,
        backup=typed.backup,
        target_time=parse_target_time(typed.target_time) if typed.target_time is not None else None,
        contentstore=typed.contentstore,
        timeline=typed.timeline,
        source=typed.source,
        start_alfresco=not typed.no_start,
        discard=typed.discard,
        accept=typed.accept,
        execute=typed.execute,
        confirm=typed.confirm,
    )


def undo_order(typed: argparse.Namespace) -> Order:
    return Order(
        mode="undo",
        backup=typed.backup,
        discard=typed.discard,
        accept=typed.accept,
        execute=typed.execute,
        confirm=typed.confirm,
    )


BELONGS = {
    "--backup": (*WITH_BACKUP, "undo"),
    "--target-time": WITH_TARGET,
    "--timeline": WITH_TARGET,
    "--contentstore": WITH_CONTENT,
    "--source": WITH_BACKUP,
    "--no-start": WITH_BACKUP,
    "--discard": ("undo",),
    "--accept": ("undo",),
}
"""Which options of `restore` go with which modes."""


def _flags(typed: argparse.Namespace) -> dict[str, Any]:
    names = (*BELONGS, "--execute", "--confirm")
    return {name: getattr(typed, name.removeprefix("--").replace("-", "_")) for name in names}


def _misplaced(mode: RestoreMode, given: Mapping[str, Any]) -> list[str]:
    """Options that do not go with the mode; ignoring one could restore something else than was meant."""
    both = "--discard" in given and "--accept" in given
    return ["--discard does not go with --accept"] * both + [
        f"{flag} does not go with --mode {mode}; it belongs to {', '.join(modes)}"
        for flag, modes in BELONGS.items()
        if flag in given and mode not in modes
    ]
