"""The questions that `restore` asks without a mode. It asks again until an answer is usable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from alfresco_backup.cli.restore_arguments import WITH_CONTENT, Order, RestoreMode
from alfresco_backup.errors import Refused
from alfresco_backup.repository.records import MAIN_STORE
from alfresco_backup.repository.sets import BackupSet, Catalogue
from alfresco_backup.repository.sets_table import backup_set_rows
from alfresco_backup.restore.journal.journal_record import OVER, PENDING, Record
from alfresco_backup.restore.planning.request import Latest, Source, Strategy, parse_target_time
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import for_people

Answer = TypeVar("Answer")
MODES: Mapping[RestoreMode, str] = {
    "full": "database and documents of one backup set",
    "pitr": "database and documents as they were at a target time",
    "postgres": "the database only",
    "contentstore": "the documents only",
    "undo": "undo an earlier restore, or discard what it set aside",
}
STRATEGIES: Mapping[Strategy, str] = {
    "fill": "copy in what is missing or differs, delete nothing (quick, needs little space)",
    "replace": "set the store aside and copy all of it (needs the space of a second store)",
}


SOURCES: Mapping[Source, str] = {
    "local": "BACKUP_DIR on this host",
    "offsite": "the off-site copy; what the restore needs is fetched from there",
}


@dataclass(frozen=True)
class Offer:
    """What there is to choose from: backups, the target times that can be reached, earlier restores.

    `read_far`: fetches the catalogue of the off-site copy, in seconds; None where none is set up.
    """

    host: str
    catalogue: Catalogue
    reachable: str
    restores: tuple[Record, ...]
    read_far: Callable[[], Catalogue] | None = None


class Dialogue:
    """Asks on a console. End of input raises EOFError, Ctrl-C KeyboardInterrupt; nothing was done then."""

    def __init__(self, console: Console, offer: Offer) -> None:
        self.console = console
        self.offer = offer

    def ask_order(self) -> Order:
        """Everything that a restore's plan needs. The order is for a plan; see ask_confirmation."""
        say = self.console.print
        say(f"Restore of host [bold]{escape(self.offer.host)}[/]")
        say(escape(self.offer.reachable))
        for record in self.offer.restores:
            if record.state in PENDING:
                say(f"The restore {record.restore_id} is {record.state.value}: undo it before anything else.")
        mode = self._choose("What is to be restored?", MODES)
        if mode == "undo":
            return self._ask_undo()
        order, catalogue = Order(mode), self.offer.catalogue
        if self.offer.read_far:
            source: Source = self._choose("Where from?", SOURCES)
            if source == "offsite":
                order, catalogue = replace(order, source=source), self.offer.read_far()
        if mode == "pitr":
            order = replace(order, target_time=self._ask("Target time", _time, example=True))
        elif mode == "postgres":
            end = "Target time (empty: the end of a backup), else"
            order = replace(order, target_time=self._ask(end, _time_or_none, example=True))
        if order.target_time is None:
            order = replace(order, backup=self._ask_backup(mode, catalogue))
        if mode in WITH_CONTENT:
            strategy: Strategy = self._choose("What becomes of the documents in place?", STRATEGIES)
            order = replace(order, contentstore=strategy)
        return replace(order, start_alfresco=self._ask("Start Alfresco afterwards? (yes)", _yes_or_no))

    def ask_confirmation(self, order: Order) -> Order:
        """The same order to be executed. Raises Refused unless the host's name is typed."""
        name = self.offer.host
        typed = self._ask(f"Type the host's name ({name}) to carry this out", str.strip)
        if typed != name:
            expected = f"the host's name {name}"
            said = f"{typed!r} is not {expected}" if typed else f"{expected} is missing"
            raise Refused(f"not confirmed: {said}; nothing was changed")
        return replace(order, execute=True, confirm=name)

    def _ask_backup(self, mode: RestoreMode, catalogue: Catalogue) -> str:
        usable = [item for item in reversed(catalogue.sets) if _serves(item, mode)]
        if not usable:
            raise Refused(f"there is no backup to restore {MODES[mode]} from", program_command("backup"))
        rows = backup_set_rows(Catalogue(sets=tuple(reversed(usable))))
        table = Table("", *rows[0])
        for number, row in enumerate(rows, 1):
            table.add_row(str(number), *(escape(value) for value in row.values()))
        self.console.print(table)
        ids = [item.stamp for item in usable]
        return self._ask("Backup (1 = newest)", lambda typed: _pick(typed or "1", ids))

    def _ask_undo(self) -> Order:
        records = [record for record in reversed(self.offer.restores) if record.state not in OVER]
        if not records:
            raise Refused("there is no restore of this host that could be undone")
        for number, record in enumerate(records, 1):
            words = [record.restore_id, record.state.value, f"started {for_people(record.started_at)}"]
            line = "  ".join([f"  {number}", *words, str(record.about.get("asked", ""))])
            self.console.print(escape(line), highlight=False)
        ids = [record.restore_id for record in records]
        stamp = self._ask("Restore (1 = newest)", lambda typed: _pick(typed or "1", ids))
        does = {"undo": "have the host as it was before the restore"}
        if any(record.restore_id == stamp and record.state in PENDING for record in records):
            does["accept"] = "keep the host as it is; the rest was done by hand"
        else:
            does["discard"] = "keep the restored state, remove the data that was set aside"
        what = self._choose("Do what?", does)
        return Order("undo", backup=stamp, discard=what == "discard", accept=what == "accept")

    def _choose(self, question: str, choices: Mapping[Answer, str]) -> Answer:
        names = list(choices)
        self.console.print(f"\n[bold]{escape(question)}[/]")
        for number, name in enumerate(names, 1):
            self.console.print(f"  {number}  {name!s:<13} {escape(choices[name])}", highlight=False)
        return self._ask("Choice (1)", lambda typed: _pick(typed or "1", names))

    def _ask(self, question: str, read: Callable[[str], Answer], *, example: bool = False) -> Answer:
        if example:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            question += f" with its UTC offset, such as {now}"
        while True:
            try:
                return read(self.console.input(Text(f"{question}: ")).strip())
            except Refused as error:
                self.console.print(escape(str(error)), style="yellow", highlight=False)


def _serves(item: BackupSet, mode: RestoreMode) -> bool:
    needs = {
        "full": item.complete,
        "postgres": item.base is not None,
        "contentstore": MAIN_STORE in item.snapshots,
    }
    return needs[mode]


def _pick(typed: str, choices: Sequence[Answer]) -> Answer:
    """A choice by number or name. Raises Refused for anything else."""
    by_name = {str(choice): choice for choice in choices}
    if typed in by_name:
        return by_name[typed]
    if typed.isdecimal() and 1 <= int(typed) <= len(choices):
        return choices[int(typed) - 1]
    if typed == "latest":
        return choices[0]
    raise Refused(f"{typed!r}: a number from 1 to {len(choices)} or a name from the list is expected")


def _time(typed: str) -> datetime | Latest:
    return parse_target_time(typed)


def _time_or_none(typed: str) -> datetime | Latest | None:
    return parse_target_time(typed) if typed else None


def _yes_or_no(typed: str) -> bool:
    answers = {"": True, "y": True, "yes": True, "n": False, "no": False}
    if typed.lower() not in answers:
        raise Refused(f"{typed!r}: yes or no is expected")
    return answers[typed.lower()]
