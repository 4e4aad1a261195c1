"""While a restore is unfinished, nothing else may change its host; what to type to put it back."""

import shlex
from pathlib import Path

from alfresco_backup.errors import Refused
from alfresco_backup.restore_record import PENDING, Record, find_unfinished
from alfresco_backup.settings import PROJECT_DIRECTORY
from alfresco_backup.settings_file import env_file_path


def restore_command(*words: str) -> str:
    """What to type for restore.py with these words; a `.env` other than the project's own is repeated."""
    env_file = env_file_path()
    env = () if env_file == PROJECT_DIRECTORY / ".env" else ("--env", str(env_file))
    return shlex.join(("python", "restore.py", *env, *words))


def configure_command(*words: str) -> str:
    """What to type for `configure` with these words; a `.env` other than the project's own is repeated."""
    env_file = env_file_path()
    env = () if env_file == PROJECT_DIRECTORY / ".env" else ("--env", str(env_file))
    return shlex.join(("python", "-m", "alfresco_backup", "configure", *words, *env))


def undo_command(stamp: str, host: str) -> str:
    """What to type to put a host back as it was before a restore; a shell takes the line as it is."""
    typed = restore_command("--mode", "undo", "--backup", stamp, "--execute", "--confirm", host)
    parameters = shlex.join(("-p", f"restore={stamp}", "-p", "mode=execute", "-p", f"confirm={host}"))
    return f"{typed}  # or: prefect deployment run {shlex.quote(f'undo-restore/{host}')} {parameters}"


def accept_command(stamp: str, host: str) -> str:
    """What to type to count an unfinished restore as complete, the host being as it should be."""
    return restore_command("--mode", "undo", "--backup", stamp, "--accept", "--execute", "--confirm", host)


def discard_command(stamp: str, host: str) -> str:
    """What to type to remove what a restore had set aside."""
    return restore_command("--mode", "undo", "--backup", stamp, "--discard", "--execute", "--confirm", host)


def way_out(record: Record) -> str:
    """What is left to do where a restore can never be undone, since what that needs is gone for good."""
    if record.state in PENDING:
        way = accept_command(record.stamp, record.host)
        return f"if it is gone for good, bring the host to where it is to stay, by hand, then: {way}"
    return f"if it is gone for good, keep the host as it is: {discard_command(record.stamp, record.host)}"


def demand_finished(restores: Path, host: str) -> None:
    """Raise Refused while an unfinished restore is in a host's folder of restores.

    A new restore would set half a database aside, a backup would publish one as a whole.
    """
    for record in find_unfinished(restores):
        raise Refused(
            f"the restore {record.stamp} of {host} is {record.state.value}: the host is in the middle of it "
            f"({record.path})",
            f"{undo_command(record.stamp, host)}\n  or, where it was finished by hand or what is left of it "
            f"is not needed: {accept_command(record.stamp, host)}",
        )
