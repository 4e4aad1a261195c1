"""The verbs of `python -m alfresco_backup`: a table, and their parsers.

To add one: its options here or in a module beside this one, a line in VERBS, and `make reference`. What it
does without Prefect is in works.py.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from alfresco_backup.cli.documents import add_documents_options, documents_call
from alfresco_backup.cli.entry import Answer, say
from alfresco_backup.cli.flow_arguments import (
    FlowCall,
    add_backup_options,
    add_drill_options,
    add_retention_options,
    backup_call,
    content_check_call,
    drill_call,
    retention_call,
    wal_audit_call,
)
from alfresco_backup.cli.offsite import add_offsite_options, offsite_call
from alfresco_backup.cli.restore_arguments import (
    Order,
    add_restore_options,
    add_undo_options,
    restore_order,
    undo_order,
)
from alfresco_backup.errors import EXIT_CODES, SettingsError
from alfresco_backup.findings import DOCTOR_SECONDS, error_json
from alfresco_backup.repository.marker import BEGIN
from alfresco_backup.settings.commands import REPLACE, program_command
from alfresco_backup.status.web_page import write_page

PROGRAM = "python -m alfresco_backup"
ENV_HELP = "settings; default: ALFRESCO_BACKUP_ENV, else the project's .env"
JSON_HELP = "one JSON document on standard output, whatever happens; log lines on standard error"
Typed = argparse.Namespace
Parser = argparse.ArgumentParser


@dataclass(frozen=True)
class Verb:
    """A verb: what `--help` says of it, the exit codes it can have, its options, and what it does.

    `work`: works.py does it, without Prefect. `call` says which flow is to run, `order` which restore; these
    raise BackupError for wrong values before Prefect is loaded. A verb with none of them is of `deployments`,
    or `fleet`; one with `work` and `call` does the work where `call` gives None.
    """

    name: str
    group: str
    summary: str
    codes: str
    add_options: Callable[[Parser], object] = lambda _: None
    work: bool = False
    call: Callable[[Typed], FlowCall | None] | None = None
    order: Callable[[Typed], Order | None] | None = None
    env_positional: bool = False
    """Whether the settings may also be named without --env, as cron lines of earlier versions have it."""


class _Parser(argparse.ArgumentParser):
    """Wrong arguments end the process with code 2, with --json after one document on standard output."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = args or ()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if "--json" in self._given:
            verb = self.prog.removeprefix(PROGRAM).split()
            say(error_json(SettingsError([message], program_command(*verb, "--help"), "argument")))
        super().error(message)


def parse(arguments: Sequence[str]) -> tuple[Verb, Typed]:
    """The verb and its arguments. Ends the process with code 2 for wrong ones, as argparse does."""
    typed = make_parsers()[""].parse_args(arguments)
    verb: Verb = typed.verb
    return verb, typed


def env_file_of(typed: Typed) -> Path | None:
    """The settings file that was named, if any."""
    given: Path | None = typed.env or typed.env_file
    return given


def make_parsers() -> dict[str, Parser]:
    """The parsers of the verbs by name, and the program's, whose name is empty."""
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} VERB [OPTIONS]",
        description="Back up and restore this Alfresco host.",
        epilog=_contents(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    adder = parser.add_subparsers(metavar="VERB", required=True, help=argparse.SUPPRESS, prog=PROGRAM)
    return {"": parser, **{verb.name: _add_verb(adder, verb) for verb in VERBS}}


def _add_verb(adder: Any, verb: Verb) -> Parser:
    parser: Parser = adder.add_parser(
        verb.name,
        description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        epilog=f"Exit codes: {', '.join(verb.codes.split())}; `{PROGRAM} --help` explains them.",
        allow_abbrev=False,
    )
    verb.add_options(parser)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    settings = parser.add_mutually_exclusive_group()
    settings.add_argument("--env", type=Path, metavar="FILE", help=ENV_HELP)
    parser.set_defaults(verb=verb, parser=parser, env_file=None)
    if verb.env_positional:
        settings.add_argument("env_file", nargs="?", type=Path, help=argparse.SUPPRESS)
    return parser


def _contents() -> str:
    """The table of contents: groups of verbs, what all have in common, exit codes."""
    lines: list[str] = []
    for group, verbs in groupby(VERBS, lambda verb: verb.group):
        lines += [f"{group}:", *(f"  {verb.name:<18}{verb.summary}" for verb in verbs), ""]
    lines += [
        "every verb:",
        *_table({"--env FILE": ENV_HELP, "--json": JSON_HELP, "--help": "the options of the verb"}),
    ]
    lines += ["", "exit codes:", *_table({str(code): words for code, words in EXIT_CODES.items()}, 4)]
    return "\n".join(lines)


def _table(rows: dict[str, str], width: int = 15) -> Iterator[str]:
    return (f"  {name:<{width}}{words}" for name, words in rows.items())


def add_html_option(parser: Parser) -> None:
    parser.add_argument(
        "--html",
        nargs="?",
        const="-",
        default="",
        metavar="FILE",
        help="a page of HTML in FILE, or without FILE on standard output",
    )


def answer_with_page(typed: Typed, answer: Answer, page: Callable[[], str]) -> Answer:
    """The answer, and the page where --html asks for it: in a file, or in the answer's place."""
    if not typed.html:
        return answer
    if typed.html != "-":
        write_page(Path(typed.html), page())
        return answer
    if typed.json:
        raise SettingsError(["--json and --html would both print; name a FILE after --html"], "", "argument")
    return replace(answer, text=page())


def add_configure_options(parser: argparse.ArgumentParser) -> None:
    """The options, as docs/reference/configure.md describes them."""
    parser.add_argument(
        "--apply", action="store_true", help="make the changes; without it they are shown, and asked for"
    )
    parser.add_argument(
        "--restart", action="store_true", help="also restart PostgreSQL (and Alfresco) where that is needed"
    )
    parser.add_argument(REPLACE, action="store_true", help="replace an archive_command of another program")
    parser.add_argument(
        "--wal-commands", type=Path, metavar="DIR", help="where to put archive-wal and restore-wal"
    )
    parser.add_argument(
        "--wal-streaming", action="store_true", help="set WAL_STREAMING=yes, and make its replication slot"
    )
    parser.add_argument(
        "--undo", nargs="?", const="", metavar="ID", help="undo the changes of a run; default: of the newest"
    )


def add_doctor_options(parser: Parser) -> None:
    parser.add_argument("--verbose", action="store_true", help="what is good too, one by one")
    parser.add_argument(
        "--send-mail",
        action="store_true",
        help="really tell ALERT_EMAIL, ALERT_URLS and PING_URL",
    )
    parser.add_argument(
        "--time-limit", type=float, default=DOCTOR_SECONDS, metavar="SECONDS", help="default: %(default)g"
    )


def add_pin_options(parser: Parser) -> None:
    add_unpin_options(parser)
    parser.add_argument("--reason", default="", help="why; shown wherever the set is")


def add_unpin_options(parser: Parser) -> None:
    parser.add_argument("backup_id", metavar="ID", help="the set's backup ID, as status lists it")


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="where the server keeps its history: a file, or a PostgreSQL cluster of its own in PREFECT_HOME",
    )


def add_deploy_options(parser: Parser) -> None:
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--take-over",
        action="store_true",
        help="this machine is the host from now on, in place of the one that the server knows",
    )
    kinds.add_argument(
        "--fleet",
        action="store_true",
        help="on the Prefect server's machine: make what shows all hosts; needs no host's settings",
    )
    kinds.add_argument(
        "--remove",
        default="",
        metavar="HOST",
        help="show, or with --execute remove, what the Prefect server has of a host; no backup is touched",
    )
    parser.add_argument("--execute", action="store_true", help="with --remove: remove it; asks for --confirm")
    parser.add_argument(
        "--confirm", metavar="HOST", default="", help="the host's name, needed with --execute"
    )
    parser.add_argument(
        "--html", default="", metavar="FILE", help="with --fleet: the page that is written every hour"
    )


def add_accept_options(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN_ID", help="the run that found the reason")
    parser.add_argument("--reason", default="", help="why it is as it should be")


LOOK, BACK_UP, RESTORE, SET_UP = "look", "back up", "restore", "set up"
VERBS = (
    Verb(
        "status",
        LOOK,
        "what can be restored, what is kept and why, what is wrong",
        "0 1 2 3 5 6",
        add_html_option,
        work=True,
        env_positional=True,
    ),
    Verb(
        "doctor",
        LOOK,
        "what could stop a backup or restore of this host",
        "0 1 2 5 7",
        add_doctor_options,
        work=True,
        env_positional=True,
    ),
    Verb(
        "fleet",
        LOOK,
        "all hosts of the Prefect server, those in trouble first, from what their runs published",
        "0 1 2 3 5",
        add_html_option,
    ),
    Verb("wal-audit", LOOK, "look for gaps in the WAL archive", "0 1 2", call=wal_audit_call),
    Verb("content-check", LOOK, "look for documents without a file", "0 1 2 4", call=content_check_call),
    Verb(
        "backup",
        BACK_UP,
        "back up database, content stores and configuration",
        "0 1 2 3",
        add_backup_options,
        call=backup_call,
        env_positional=True,
    ),
    Verb(
        "pin",
        BACK_UP,
        "keep a set until it is unpinned, whatever its age",
        "0 1 2 3",
        add_pin_options,
        work=True,
    ),
    Verb("unpin", BACK_UP, "let retention remove a set again", "0 1 2 3", add_unpin_options, work=True),
    Verb(
        "retention",
        BACK_UP,
        "show, or with --execute remove, what is no longer needed",
        "0 1 2 3",
        add_retention_options,
        call=retention_call,
    ),
    Verb(
        "accept",
        BACK_UP,
        "let retention go on after a run has put it on hold",
        "0 1 2 3",
        add_accept_options,
        work=True,
    ),
    Verb(
        "offsite",
        BACK_UP,
        "the second copy elsewhere: init, copy, wal, check, prune, list, fetch",
        "0 1 2 3 5",
        add_offsite_options,
        work=True,
        call=offsite_call,
    ),
    Verb(
        "restore",
        RESTORE,
        "restore the host; without --mode it asks for everything",
        "0 1 2 3 4",
        add_restore_options,
        order=restore_order,
    ),
    Verb(
        "undo",
        RESTORE,
        "undo a restore, accept an unfinished one, or discard what it set aside",
        "0 1 2 3 4",
        add_undo_options,
        order=undo_order,
    ),
    Verb(
        "drill",
        RESTORE,
        "restore a backup beside the live host and check it",
        "0 1 2 3 4",
        add_drill_options,
        call=drill_call,
        env_positional=True,
    ),
    Verb(
        "documents",
        RESTORE,
        "find or export single documents as they were at a time, in the live database or a recovered one",
        "0 1 2 3 4",
        add_documents_options,
        call=documents_call,
    ),
    Verb(
        "configure",
        SET_UP,
        "make the host ready: settings of PostgreSQL, role, pg_hba.conf, WAL archive, .env",
        "0 1 2 3 5",
        add_configure_options,
        work=True,
    ),
    Verb(
        BEGIN,
        SET_UP,
        "make BACKUP_DIR the repository after its disk was replaced, or filled from a copy",
        "0 1 2 3",
        work=True,
    ),
    Verb(
        "deploy",
        SET_UP,
        "make or update this host's deployments at its Prefect server; "
        "with a directory as --env, those of each host whose .env is in it",
        "0 1 2 3",
        add_deploy_options,
    ),
    Verb(
        "wal-receiver",
        SET_UP,
        "receive WAL as it is written, until it is stopped: the service of WAL_STREAMING",
        "0 1 2 3",
        work=True,
    ),
    Verb("serve", SET_UP, "run a Prefect server and a worker in the foreground", "0 1 2", add_serve_options),
)
"""All verbs, by group, as `--help` lists them."""
