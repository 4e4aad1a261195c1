"""What `backup.py` and `restore.py` do before they import Prefect: find settings, prepare a bare environment.

Prefect reads its environment when it is imported, so this module must come first and imports none of it.
"""

import argparse
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path

from dotenv import dotenv_values

from alfresco_backup.errors import EXIT_SUCCESS, BackupError
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.system.signals import keep_ignored, was_interrupted

EXIT_FAILED = 1

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


def add_env_file(parser: argparse.ArgumentParser) -> None:
    """The settings to use: an argument as the predecessor had it, or `--env` as restore.py has it."""
    group = parser.add_mutually_exclusive_group()
    words = "settings; default: .env beside the project's programs"
    group.add_argument("env_file", nargs="?", type=Path, metavar="ENV_FILE", help=words)
    group.add_argument("--env", dest="env_option", type=Path, metavar="ENV_FILE", help="the same")


def env_file_of(typed: argparse.Namespace) -> Path | None:
    """What was given to the arguments of add_env_file, if anything."""
    given: Path | None = typed.env_file or typed.env_option
    return given


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


def run_to_exit_code(work: Callable[[], None]) -> int:
    """Run the work; one of our errors is shown on standard error and gives its exit code."""
    try:
        work()
    except BackupError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    except BaseException as error:
        if not was_interrupted(error):
            raise
        sys.stderr.write("interrupted\n")
        return EXIT_FAILED
    return EXIT_SUCCESS
