"""What every verb has in common: where its settings are, a prepared environment, how its answer is told.

Prefect reads its environment when it is imported, so this module must come first and imports none of it.
"""

import json
import os
import pwd
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from rich.console import Console

from alfresco_backup.errors import EXIT_FAILED, EXIT_SUCCESS, BackupError, exit_code_of
from alfresco_backup.findings import JSON_SCHEMA, error_document, error_json
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.system.signals import all_is_said, end_in_time, keep_ignored, was_interrupted

PREFECT_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A first start of the embedded server makes its database: 19 s were measured, the default limit is 20.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Leases in files survive a restart of the server; in memory a restart leaves the slot taken for ever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # Log lines of alfresco_backup itself belong to the run's history too.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "alfresco_backup",
    # Signs of life; a run that sends none for 90 s is looked after by the flow notify.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}

MARKDOWN = "# "
ENDING_SECONDS = 120.0
"""How long an interrupted flow has to stop its programs and to tell the Prefect server."""


def prepare_environment(env_file: Path | None) -> Path:
    """Name the `.env` for everything below this process and give Prefect sane defaults; returns the `.env`.

    Cron's environment has no HOME for some accounts and a PATH without /usr/local; both are filled in.
    Variables that are set already win.
    """
    keep_ignored()
    path = env_file_path(env_file)
    os.environ[ENV_FILE_VARIABLE] = str(path)
    os.environ.setdefault("HOME", _home())
    usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    present = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(
        [*filter(None, present), *(item for item in usual if item not in present)]
    )
    for name, value in {**PREFECT_DEFAULTS, **prefect_values(path)}.items():
        os.environ.setdefault(name, value)
    return path


def _home() -> str:
    """The account's home; an account that only its number is known of has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"


def prefect_values(env_file: Path) -> dict[str, str]:
    """Prefect's own settings in the `.env`; Prefect itself looks for one in the present folder only.

    A file that cannot be read has none: load_settings says what is wrong with it.
    """
    try:
        values = dotenv_values(env_file, interpolate=False) if env_file.is_file() else {}
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: value for name, value in values.items() if name.startswith("PREFECT_") and value}


@dataclass(frozen=True)
class Answer:
    """What a verb tells at its end: `text` to people, `json` to programs.

    `error` is what it ended with though there is something to tell, as a restore's report. A text that begins
    with a heading is markdown, rendered on a terminal, with `last_line` below it, which must not be wrapped.
    `plain`: never rendered, since names and ids in its tables must be complete and as they are.
    """

    text: str
    json: str
    exit_code: int = EXIT_SUCCESS
    error: BackupError | None = None
    last_line: str = ""
    plain: bool = False


def answer_of(text: str, error: BackupError | None = None, last_line: str = "", **fields: object) -> Answer:
    """The answer of a verb whose document is its text and these fields."""
    document: dict[str, object] = {
        "schema": JSON_SCHEMA,
        "state": "error" if error else "done",
        "exit_code": exit_code_of(error) if error else EXIT_SUCCESS,
        **fields,
        "text": text,
        **({"error": error_document(error)} if error else {}),
    }
    written = json.dumps(document, indent=1, ensure_ascii=False)
    return Answer(text, written, error=error, last_line=last_line)


def tell(work: Callable[[], Answer], *, as_json: bool) -> int:
    """Do a verb's work and tell its answer; returns the exit code.

    As JSON there is one document on standard output, however it ends; all else goes to standard error.
    """
    if not as_json:
        code = run_to_exit_code(lambda: show(work()))
        all_is_said()
        return code
    document, code = "", EXIT_FAILED
    try:
        with redirect_stdout(sys.stderr):
            answer = work()
        document, code = answer.json, exit_code_of(answer.error) if answer.error else answer.exit_code
    except BaseException as error:
        document, code = error_json(error), exit_code_of(error)
        if not isinstance(error, BackupError) and not was_interrupted(error):
            raise
    finally:
        all_is_said()
        say(document)
    return code


def end_if_interrupted(error: Callable[[], BaseException], *, as_json: bool) -> None:
    """See to it that an interrupted verb ends, in about two minutes, whatever it waits for.

    `error` makes what it then ends with, told as `tell` does it: past all buffers, which others may hold.
    """

    def last_words() -> None:
        said = error()
        words = f"{error_json(said)}\n" if as_json else f"\n{_words_of(said)}"
        os.write(1 if as_json else 2, words.encode())

    end_in_time(ENDING_SECONDS, last_words, EXIT_FAILED)


def say(text: str) -> None:
    """Print to whoever typed the command."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show(answer: Answer) -> int:
    """Show an answer to people and give its exit code; raise the error that it ended with."""
    if answer.text.startswith(MARKDOWN) and not answer.plain and sys.stdout.isatty():
        from rich.markdown import Markdown  # noqa: PLC0415 - 62 modules that only a terminal needs

        console = Console()
        console.print(Markdown(answer.text))
        if answer.last_line:
            say_unwrapped(console, answer.last_line)
    elif answer.text:
        say(answer.text)
    if answer.error is not None:
        raise answer.error
    return answer.exit_code


def say_unwrapped(console: Console, line: str) -> None:
    """Print a line with a command so that it can be copied as one."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def run_to_exit_code(work: Callable[[], int | None]) -> int:
    """Run the work; one of our errors is shown on standard error and gives its exit code."""
    try:
        return work() or EXIT_SUCCESS
    except BackupError as error:
        sys.stderr.write(_words_of(error))
        return error.exit_code
    except BaseException as error:
        if not was_interrupted(error):
            raise
        sys.stderr.write(_words_of(error))
        return EXIT_FAILED


def _words_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}\n" if isinstance(error, BackupError) else "interrupted\n"
