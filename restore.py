"""Restore this Alfresco host, or undo a restore: `python restore.py` asks; `--help` shows the flags.

Needs no server: without PREFECT_API_URL Prefect runs embedded. A plan touches nothing and needs none at all.
Exit codes: 0 done, 1 failed, 2 settings or arguments are wrong, 3 refused and nothing was touched,
4 restored but documents are missing.
"""

import sys
from contextlib import redirect_stdout

from rich.console import Console
from rich.markdown import Markdown

from alfresco_backup.cli.entry import prepare_environment, run_to_exit_code
from alfresco_backup.cli.restore_arguments import CommandLine, Outcome, parse_command_line
from alfresco_backup.cli.restore_prompts import Dialogue
from alfresco_backup.errors import BackupError, Refused, SettingsError
from alfresco_backup.host.host import load_host
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.system.signals import interrupt_at_termination


def main(arguments: list[str]) -> int:
    """Do what was typed, or ask; the outcome decides the exit code."""
    line = parse_command_line(arguments)
    prepare_environment(line.env_file)
    interrupt_at_termination()
    if line.as_json:
        return answer_as_json(line)
    return run_to_exit_code(lambda: converse(line) if line.order is None else answer(line))


def answer(line: CommandLine) -> None:
    """Plan or carry out the typed order and show how it went, live on a terminal. Raises BackupError."""
    show(carry_out(line, Console() if sys.stdout.isatty() else None))


def answer_as_json(line: CommandLine) -> int:
    """The same with one JSON document on standard output, however it ends; log lines go to standard error."""
    outcome, host = Outcome(), ""
    try:
        host = load_settings().alf_host_name
        with redirect_stdout(sys.stderr):  # nothing else may get in between
            outcome = carry_out(line, None)
    except BaseException as error:
        outcome = Outcome(line.order, host, error=error)
        if not isinstance(error, (BackupError, KeyboardInterrupt)):
            raise
    finally:
        print(outcome.json(), flush=True)
    return outcome.exit_code


def carry_out(line: CommandLine, console: Console | None) -> Outcome:
    """The outcome of the typed order. Raises BackupError for what is refused or wrong before it begins."""
    load_settings()  # complaints about settings come before Prefect is even loaded
    order = line.complete_order()
    assert order is not None, "the command line has an order unless everything is asked"
    from tasks.restore.session import RestoreSession  # noqa: PLC0415 - Prefect reads the environment when imported

    session = RestoreSession(load_host(), console)
    return session.execute(order) if order.execute else session.plan(order)


def converse(line: CommandLine) -> None:
    """Ask for everything, show the plan, carry it out once the host's name was typed. Raises BackupError."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingsError(
            ["there is no terminal to ask on, so --mode is needed"],
            "python restore.py --help shows the flags",
        )
    load_settings()
    from tasks.restore.session import RestoreSession  # noqa: PLC0415 - Prefect reads the environment when imported

    console = Console()
    session = RestoreSession(load_host(), console)
    dialogue = Dialogue(console, session.offer())
    try:
        order = dialogue.ask_order()
        show(session.plan(order))
        say_unwrapped(console, f"The same without questions: {order.command(line.env_file)}")
        order = dialogue.ask_confirmation(order)
    except (EOFError, KeyboardInterrupt) as error:
        raise Refused("the questions were broken off; nothing was touched") from error
    show(session.execute(order))


def show(outcome: Outcome) -> None:
    """Show a plan or a report on standard output; raise the error of an order that ended with one."""
    if sys.stdout.isatty():
        console = Console()
        console.print(Markdown(outcome.text))
        undo = (outcome.details or {}).get("undo")
        if undo:
            say_unwrapped(console, f"To go back: {undo}")
    elif outcome.text:
        print(outcome.text)
    if outcome.error is not None:
        raise outcome.error


def say_unwrapped(console: Console, line: str) -> None:
    """Print a line with a command so that it can be copied as one."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
