"""Every command that a message tells people to type."""

import shlex

from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.settings.model import PROJECT_DIRECTORY


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
