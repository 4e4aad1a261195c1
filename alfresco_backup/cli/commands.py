"""The verbs of `python -m alfresco_backup`: a table, their parsers, the work of those that need no Prefect.

To add one: its options here or in a module beside this one, a line in VERBS, and `make reference`.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from alfresco_backup.cli.configure import add_configure_options, configure
from alfresco_backup.cli.documents import add_documents_options, documents_call
from alfresco_backup.cli.entry import Answer, answer_of, say
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
from alfresco_backup.cli.offsite import add_offsite_options, offsite, offsite_call
from alfresco_backup.cli.restore_arguments import (
    Order,
    add_restore_options,
    add_undo_options,
    restore_order,
    undo_order,
)
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.doctor import LIMIT_SECONDS, run_checks
from alfresco_backup.doctor.report import doctor_json, doctor_text
from alfresco_backup.errors import EXIT_CODES, SettingsError
from alfresco_backup.findings import error_json
from alfresco_backup.host.host import load_host
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.marker import BEGIN, begin_again
from alfresco_backup.repository.pins import Pin, pin_set, unpin_set
from alfresco_backup.retention.holds import accept_hold
from alfresco_backup.settings.commands import program_command
from alfresco_backup.settings.env_file import env_file_path, load_settings
from alfresco_backup.status.as_html import status_page
from alfresco_backup.status.as_json import status_json
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.status.web_page import write_page
from alfresco_backup.streaming.receiver import receive
from alfresco_backup.system.signals import interrupt_at_termination
from alfresco_backup.times import utc_now

PROGRAM = "python -m alfresco_backup"
ENV_HELP = "settings; default: ALFRESCO_BACKUP_ENV, else the project's .env"
JSON_HELP = "one JSON document on standard output, whatever happens; log lines on standard error"
Typed = argparse.Namespace
Parser = argparse.ArgumentParser


@dataclass(frozen=True)
class Verb:
    """A verb: what `--help` says of it, the exit codes it can have, its options, and what it does.

    `work` does it without Prefect. `call` says which flow is to run, `order` which restore; these raise
    BackupError for wrong values before Prefect is loaded. A verb with none of them is of `deployments`, or
    `fleet`; one with `work` and `call` does the work where `call` gives None.
    """

    name: str
    group: str
    summary: str
    codes: str
    add_options: Callable[[Parser], object] = lambda _: None
    work: Callable[[Typed], Answer] | None = None
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


def show_status(typed: Typed) -> Answer:
    report = read_status(load_settings(), utc_now())
    answer = Answer(status_text(report), status_json(report), report.exit_code)
    return answer_with_page(typed, answer, lambda: status_page(report))


def add_doctor_options(parser: Parser) -> None:
    parser.add_argument("--verbose", action="store_true", help="what is good too, one by one")
    parser.add_argument(
        "--send-mail",
        action="store_true",
        help="really tell ALERT_EMAIL, ALERT_URLS and PING_URL",
    )
    parser.add_argument(
        "--time-limit", type=float, default=LIMIT_SECONDS, metavar="SECONDS", help="default: %(default)g"
    )


def run_doctor(typed: Typed) -> Answer:
    context = CheckContext(
        load_host(),
        env_file_path(),
        utc_now(),
        os.environ,
        send_mail=typed.send_mail,
    )
    report = run_checks(context, typed.time_limit)
    return Answer(doctor_text(report, verbose=typed.verbose), doctor_json(report), report.exit_code)


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


def accept(typed: Typed) -> Answer:
    hold = accept_hold(_repository(), typed.run, typed.reason, utc_now())
    return answer_of(f"accepted: {hold.sentence} ({hold.reason})", run=hold.run, reason=hold.reason)


def pin(typed: Typed) -> Answer:
    pinned = pin_set(_repository(), typed.backup_id, typed.reason, utc_now())
    return _pin_answer(pinned, f"set {pinned.stamp} is pinned: {pinned.reason}")


def unpin(typed: Typed) -> Answer:
    gone = unpin_set(_repository(), typed.backup_id)
    return _pin_answer(gone, f"set {gone.stamp} is no longer pinned (it was: {gone.reason})")


def _pin_answer(pin: Pin, words: str) -> Answer:
    return answer_of(words, backup_id=pin.stamp, reason=pin.reason)


def begin(_typed: Typed) -> Answer:
    repository, host_name = _repository(), load_settings().alf_host_name
    identity = begin_again(repository, host_name, env_file_path())
    return answer_of(f"{repository.root} is the repository {identity} of {host_name} now", id=identity)


def run_receiver(_typed: Typed) -> Answer:
    """Receive until SIGTERM or Ctrl-C, which end it in order."""
    interrupt_at_termination()
    with suppress(KeyboardInterrupt):
        receive(load_host, say)
    return answer_of("the receiver was stopped")


def _repository() -> Repository:
    repository = Repository(load_settings().backup_dir)
    repository.require()
    return repository


LOOK, BACK_UP, RESTORE, SET_UP = "look", "back up", "restore", "set up"
VERBS = (
    Verb(
        "status",
        LOOK,
        "what can be restored, what is kept and why, what is wrong",
        "0 1 2 3 5 6",
        add_html_option,
        work=show_status,
        env_positional=True,
    ),
    Verb(
        "doctor",
        LOOK,
        "what could stop a backup or restore of this host",
        "0 1 2 5 7",
        add_doctor_options,
        work=run_doctor,
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
        work=pin,
    ),
    Verb("unpin", BACK_UP, "let retention remove a set again", "0 1 2 3", add_unpin_options, work=unpin),
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
        work=accept,
    ),
    Verb(
        "offsite",
        BACK_UP,
        "the second copy elsewhere: init, copy, wal, check, prune, list, fetch",
        "0 1 2 3 5",
        add_offsite_options,
        work=offsite,
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
        work=configure,
    ),
    Verb(
        BEGIN,
        SET_UP,
        "make BACKUP_DIR the repository after its disk was replaced, or filled from a copy",
        "0 1 2 3",
        work=begin,
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
        work=run_receiver,
    ),
    Verb("serve", SET_UP, "run a Prefect server and a worker in the foreground", "0 1 2", add_serve_options),
)
"""All verbs, by group, as `--help` lists them."""
