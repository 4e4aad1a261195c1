"""Every command that a message, mail, report or document tells people to type.

Each works as printed in a new root shell, whatever its folder and environment: it changes to the project's
folder, names the project's own Python and repeats the `.env` in use where that is not the project's own.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY, WAL_COMMANDS
from alfresco_backup.system.accounts import Account

PYTHON = ".venv/bin/python"
ALFRESCO_API = "/api/-default-/public/alfresco/versions/1"
"""Where Alfresco's REST API is below its web application, 5.2 and later."""


def program_command(verb: str, *words: str, **variables: str) -> str:
    """`python -m alfresco_backup VERB WORDS...` as it can be typed anywhere; `variables` are set for it."""
    return _in_project((PYTHON, "-m", "alfresco_backup", verb, *words, *_env_option()), variables)


def prefect_command(*words: str, **variables: str) -> str:
    """`prefect WORDS...` with the server and its password as the `.env` in use names them."""
    named = {ENV_FILE_VARIABLE: str(env_file_path())} if _env_option() else {}
    return _in_project((PYTHON, "-m", "deployments.prepared", ".venv/bin/prefect", *words), named | variables)


def make_command(target: str, **variables: str) -> str:
    """`make TARGET NAME=VALUE...` as it can be typed anywhere."""
    given = (f"{name}={value}" for name, value in variables.items())
    return shlex.join(("make", "-C", str(PROJECT_DIRECTORY), target, *given))


def _in_project(words: Sequence[str], variables: Mapping[str, str]) -> str:
    given = (f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return f"cd {shlex.quote(str(PROJECT_DIRECTORY))} && {' '.join((*given, shlex.join(words)))}"


def _env_option() -> tuple[str, ...]:
    env_file = env_file_path()
    return () if env_file == PROJECT_DIRECTORY / ".env" else ("--env", str(env_file))


def guide_command(page: str, section: str = "") -> str:
    """Shows a page of the guides."""
    comment = f"  # {section}" if section else ""
    return f"less {shlex.quote(str(PROJECT_DIRECTORY / 'docs/how-to' / page))}{comment}"


def edit_setting(name: str, value: str = "...") -> str:
    """What to change in the `.env` in use, where no command does it; `...` is for people to fill in."""
    quoted = value if value == "..." else shlex.quote(value)
    return f"edit {env_file_path()}: {name}={quoted}"


def as_account(account: Account | None, command: str) -> str:
    """A command as a root shell starts it under another account; as it is where that is None."""
    if account is None:
        return command
    if account.name:
        return f"runuser -u {shlex.quote(account.name)} -- {command}"
    return f"setpriv --reuid {account.uid} --regid {account.gid} --clear-groups -- {command}"


def own_links(*links: Path) -> str:
    """What makes links root's own, which root follows: for those that lead where they should."""
    return f"chown -h root {shlex.join(map(str, links))}"


def archive_command(account: Account | None, source: Path, names: Sequence[str], archive: Path) -> str:
    """What puts files of the server's WAL folder `source` into the archive, as the server's account.

    The program is read by the root shell: the account may be unable to reach the project's folder.
    """
    place, name = shlex.quote(str(source)), shlex.quote(names[0]) if len(names) == 1 else '"$name"'
    command = as_account(account, f"sh -s -- --zstd {place}/{name} {name} {shlex.quote(str(archive))}")
    command = f"{command} < {shlex.quote(str(WAL_COMMANDS / 'archive-wal'))}"
    return command if len(names) == 1 else f"for name in {shlex.join(names)}; do {command}; done"


def move_command(directory: Path, names: Sequence[str]) -> str:
    """What moves files out of a folder, into a new one beside it whose name ends in `-moved`."""
    here, there = shlex.quote(str(directory)), shlex.quote(f"{directory}-moved")
    return f"mkdir -p {there} && cd {here} && mv -n -- {shlex.join(names)} {there}/"


def history_command(tar: Path, name: str, archive: Path) -> str:
    """What puts a timeline's history from a set's own WAL into the archive, whose owner gets it."""
    take = ("tar", "-x", "-I", "zstd", "-f", str(tar), "-C", str(archive), "--keep-old-files", f"./{name}")
    give = ("chown", "-h", f"--reference={archive}", str(archive / name))
    return f"{shlex.join(take)} && {shlex.join(give)}"


def new_archive_commands(archive: Path, ending: str) -> str:
    """What gives a cluster an archive of its own, one command a line: the present one gets another name."""
    move = f"mv {shlex.quote(str(archive))} {shlex.quote(f'{archive}-{ending}')}"
    return "\n".join((move, configure_command("--apply"), program_command("backup", "--only", "postgres")))


def install_postgresql_command(major: str) -> str:
    """What installs the server's programs of a PostgreSQL version such as `15` on Debian and Ubuntu."""
    return f"apt install postgresql-{major}"


REPLACE = "--replace-archive-command"
"""An option of configure that messages name."""


def configure_command(*words: str) -> str:
    """What to type for `configure` with these words."""
    return program_command("configure", *words)


def worker_status_command(host: str) -> str:
    """What shows, typed on a host, whether its worker runs."""
    return shlex.join(("systemctl", "status", f"prefect-worker@{host}"))


def stop_host_command(host: str) -> str:
    """What stops, typed on a host, all that systemd runs of this software there, for good."""
    units = (f"prefect-worker@{host}", f"alfresco-backup-freshness@{host}.timer", f"wal-receiver@{host}")
    return shlex.join(("systemctl", "disable", "--now", *units))


def remove_host_command(host: str) -> str:
    """What takes a host out of service at its Prefect server; without --execute the plan is shown."""
    return program_command("deploy", "--remove", host, "--execute", "--confirm", host)


def receiver_command(host: str) -> str:
    """What starts the WAL receiver again, and shows what it says."""
    unit = shlex.quote(f"wal-receiver@{host}")
    return f"systemctl restart {unit}; sleep 5; journalctl -n 20 --no-pager -u {unit}"


def undo_command(stamp: str, host: str) -> str:
    """What to type to have a host as it was before a restore."""
    return program_command("undo", "--backup", stamp, "--execute", "--confirm", host)


def accept_command(stamp: str, host: str) -> str:
    """What to type to count an unfinished restore as complete, the host being as it should be."""
    return program_command("undo", "--backup", stamp, "--accept", "--execute", "--confirm", host)


def discard_command(stamp: str, host: str) -> str:
    """What to type to remove what a restore had set aside."""
    return program_command("undo", "--backup", stamp, "--discard", "--execute", "--confirm", host)


def sftp_command(repository: str) -> str:
    """What shows whether root's SSH key is let in at an `sftp:...` place; it asks nothing."""
    return f"sftp -b /dev/null {_sftp_target(repository)}"


def far_space_command(repository: str) -> str:
    """What shows the free space of an off-site repository's place; empty where no command does."""
    if repository.startswith("/"):
        return f"df -h {shlex.quote(repository)}"
    return f"echo df -h | sftp -b - {_sftp_target(repository)}" if repository.startswith("sftp:") else ""


def far_folder_command(folder: str) -> str:
    """What shows whose an off-site repository's folder is, and how it is mounted."""
    return f"ls -ld {shlex.quote(folder)} && findmnt -T {shlex.quote(folder)}"


def _sftp_target(repository: str) -> str:
    """Where sftp is to go, of restic's two forms: sftp:USER@HOST:PATH and sftp://USER@HOST:PORT/PATH."""
    address = repository.removeprefix("sftp:")
    if not address.startswith("//"):
        return shlex.quote(address.partition(":")[0])
    place, _, port = address.removeprefix("//").partition("/")[0].partition(":")
    return f"-P {port} {shlex.quote(place)}" if port else shlex.quote(place)


def accept_hold_command(run: str, reason: str = "why it is as it should be") -> str:
    """What to type to let retention go on after a run has put it on hold."""
    return program_command("accept", run, "--reason", reason)


def heal_commands(host: str) -> str:
    """What to type where packs of the off-site copy are damaged: remove what uses them, send it again."""
    prune = program_command("offsite", "prune", "--damaged", "--execute", "--confirm", host)
    return f"{prune}\n{program_command('offsite', 'copy')}"


def retention_command(host: str) -> str:
    """What to type to remove what retention's plan names; without --execute the plan is shown."""
    return program_command("retention", "--execute", "--confirm", host)


def api_command(address: str, user: str) -> str:
    """What shows whether Alfresco's REST API answers and takes a user's password, which curl asks for."""
    return shlex.join(("curl", "-sS", "-u", user, f"{address}{ALFRESCO_API}/nodes/-root-"))


def edit_alfresco(name: str, value: str = "...") -> str:
    """What to change in Alfresco's own properties, where no command does it."""
    return f"edit alfresco-global.properties: {name}={value}; then restart Alfresco"


def restore_documents_command(nodes: Sequence[str], as_of: str, limit: int, *, versions: bool = False) -> str:
    """What to type to export documents, more than by default."""
    options = ("--as-of", as_of, *(("--versions",) if versions else ()), "--limit", str(limit))
    return program_command("documents", "restore", *nodes, *options)


def upload_documents_command(nodes: Sequence[str], as_of: str, limit: int, host: str) -> str:
    """What to type to upload documents; without --execute the plan is shown."""
    options = ("--as-of", as_of, "--limit", str(limit), "--upload", "--execute", "--confirm", host)
    return program_command("documents", "restore", *nodes, *options)


def check_export_command(folder: Path) -> str:
    """What compares the files of an export with the checksums written beside them."""
    return f"cd {shlex.quote(str(folder))} && sha1sum --check --quiet SHA1SUMS"


def folder_listing(folder: Path) -> str:
    """What shows what a path is: each part with its owner and mode."""
    return f"namei -l {shlex.quote(str(folder))}"


def free_space_command(folder: Path) -> str:
    """What shows how much room there is."""
    return f"df -h {shlex.quote(str(folder))}"
