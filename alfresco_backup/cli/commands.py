"""The subcommands of `python -m alfresco_backup`: each is a parser and a function that returns an exit code.

A further one is a function that adds its parser to `subparsers`, listed in COMMANDS.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alfresco_backup.cli.configure import HELP as CONFIGURE_HELP
from alfresco_backup.cli.configure import add_configure_options, configure
from alfresco_backup.cli.entry import EXIT_FAILED, add_env_file, env_file_of, prepare_environment
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.doctor import LIMIT_SECONDS, run_checks
from alfresco_backup.doctor.report import DOCTOR_SCHEMA, doctor_json, doctor_text
from alfresco_backup.errors import EXIT_SUCCESS, BackupError
from alfresco_backup.findings import error_json
from alfresco_backup.host.host import load_host
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.pins import pin_set, unpin_set
from alfresco_backup.settings.env_file import env_file_path, load_settings
from alfresco_backup.status.as_json import STATUS_SCHEMA, status_json
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now

Typed = argparse.Namespace
Subparsers = Any
"""What argparse gives to add parsers to; it has no public name."""
ENV_HELP = "settings; default: .env of the project"
EXIT_CODES = """\
exit codes of status:
  0 restorable and nothing wrong; warnings alone count as nothing wrong
  1 it could not be told     2 settings or arguments are wrong
  5 restorable, but something needs attention     6 nothing can be restored
exit codes of configure:
  0 nothing to change, or all done     1 failed     2 settings or arguments are wrong
  3 refused, nothing was changed     5 shown only, or something is left to do: a restart, a decision
exit codes of doctor:
  0 all is well     7 only warnings     5 at least one error
  1 no error, but something could not be looked at     2 settings or arguments are wrong
exit codes of the others:
  0 done     1 failed     2 settings or arguments are wrong     3 refused, nothing was changed"""


def main(arguments: Sequence[str]) -> int:
    """Do what was typed; an error is shown on standard error and gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m alfresco_backup",
        description="What the backups of this Alfresco host can do.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(subparsers)
    typed = parser.parse_args(arguments)
    prepare_environment(env_file_of(typed))
    try:
        return int(typed.command(typed))
    except BackupError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_FAILED


def add_status(subparsers: Subparsers) -> None:
    parser = _added(
        subparsers, "status", show_status, "what can be restored, what is kept and why, what is wrong"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON document, see docs/reference/status-json.md"
    )
    add_env_file(parser)


def add_pin(subparsers: Subparsers) -> None:
    parser = _added(subparsers, "pin", pin, "keep a set until it is unpinned, whatever its age")
    parser.add_argument("stamp", help="the set, as status lists it")
    parser.add_argument("--reason", default="", help="why; shown wherever the set is")
    _add_env_option(parser)


def add_unpin(subparsers: Subparsers) -> None:
    parser = _added(subparsers, "unpin", unpin, "let retention have a set again")
    parser.add_argument("stamp", help="the set, as status lists it")
    _add_env_option(parser)


def add_configure(subparsers: Subparsers) -> None:
    parser = _added(subparsers, "configure", configure, CONFIGURE_HELP)
    add_configure_options(parser)
    _add_env_option(parser)


def add_doctor(subparsers: Subparsers) -> None:
    parser = _added(
        subparsers, "doctor", run_doctor, "what could keep this host from being backed up or restored"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON document, see docs/reference/doctor-json.md"
    )
    parser.add_argument("--verbose", action="store_true", help="what is good too, one by one")
    parser.add_argument("--send-mail", action="store_true", help="really send a mail to ALERT_EMAIL")
    parser.add_argument(
        "--prove-archiving",
        action="store_true",
        help="as a backup does: write a restore point, switch the WAL segment, wait until it is archived",
    )
    parser.add_argument(
        "--time-limit", type=float, default=LIMIT_SECONDS, metavar="SECONDS", help="default: %(default)g"
    )
    add_env_file(parser)


COMMANDS: tuple[Callable[[Subparsers], None], ...] = (
    add_status,
    add_pin,
    add_unpin,
    add_configure,
    add_doctor,
)


def show_status(typed: Typed) -> int:
    """Print the status. As JSON there is one document on standard output, however it ends."""
    try:
        report = read_status(load_settings(), utc_now())
    except BackupError as error:
        if not typed.json:
            raise
        say(error_json(error, STATUS_SCHEMA))
        return error.exit_code
    say(status_json(report) if typed.json else status_text(report))
    return report.exit_code


def run_doctor(typed: Typed) -> int:
    """Print what is wrong with the host. As JSON there is one document on standard output."""
    try:
        host = load_host()
    except BackupError as error:
        if not typed.json:
            raise
        say(error_json(error, DOCTOR_SCHEMA))
        return error.exit_code
    context = CheckContext(
        host,
        env_file_path(),
        utc_now(),
        os.environ,
        prove_archiving=typed.prove_archiving,
        send_mail=typed.send_mail,
    )
    report = run_checks(context, typed.time_limit)
    say(doctor_json(report) if typed.json else doctor_text(report, verbose=typed.verbose))
    return report.exit_code


def pin(typed: Typed) -> int:
    """Pin a set and say so."""
    pinned = pin_set(_repository(), typed.stamp, typed.reason, utc_now())
    say(f"set {pinned.stamp} is pinned: {pinned.reason}")
    return EXIT_SUCCESS


def unpin(typed: Typed) -> int:
    """Unpin a set and say so."""
    gone = unpin_set(_repository(), typed.stamp)
    say(f"set {gone.stamp} is no longer pinned (it was: {gone.reason})")
    return EXIT_SUCCESS


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _repository() -> Repository:
    repository = Repository(load_settings().backup_dir)
    repository.require()
    return repository


def _added(
    subparsers: Subparsers, name: str, command: Callable[[Typed], int], help_text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help_text, description=help_text, allow_abbrev=False
    )
    parser.set_defaults(command=command)
    return parser


def _add_env_option(parser: argparse.ArgumentParser) -> None:
    """Beside another argument: argparse takes no second one that may be missing behind an option."""
    parser.add_argument("--env", dest="env_option", type=Path, metavar="ENV_FILE", help=ENV_HELP)
    parser.set_defaults(env_file=None)
