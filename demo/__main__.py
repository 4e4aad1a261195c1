"""`make demo`: a demo host, a few documents by its writer, and a backup of it as a user would make it.

The host stays, running, so that the next commands can be tried on it. A second `make demo` uses it again.
"""

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from alfresco_backup.cli.entry import prefect_values
from alfresco_backup.errors import EXIT_SUCCESS, BackupError
from alfresco_backup.postgres.versions import facts_of, label_of
from alfresco_backup.settings.commands import make_command, program_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import utc_now
from demo.cluster import stated_version
from demo.host import MARKER, DemoHost

DOCUMENTS = 2000
UPLOADS = 25
MISTAKES = 10
UNFINISHED = ".alfresco-demo-unfinished"
"""A file in the folder while the host is being made."""


def demo_directory() -> Path:
    """DEMO_DIR, else a folder of this account below /var/tmp, which PostgreSQL's account can reach."""
    named = os.environ.get("DEMO_DIR")
    if named:
        return Path(named).expanduser().absolute()
    return Path("/var/tmp", f"alfresco-demo-{pwd.getpwuid(os.geteuid()).pw_name}")  # noqa: S108 - see make_own


def make_own(directory: Path) -> None:
    """Make the folder. One that somebody else has put there under this name is refused."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.geteuid():
        raise SystemExit(f"{directory} belongs to another account\n{_elsewhere(directory)}")


def _elsewhere(directory: Path) -> str:
    return f"HINT: {make_command('demo', DEMO_DIR=f'{directory}-2')}"


def prepare(directory: Path) -> DemoHost:
    """The host in `directory`, running: the one from last time, or a new one; one that is half made goes."""
    make_own(directory)
    if (directory / UNFINISHED).exists():
        print(f"The demo host in {directory} was not finished last time; it is made again")
        remove(directory)
        make_own(directory)
    if (directory / MARKER).exists():
        print(f"Starting the demo host in {directory}")
        host = DemoHost.open(directory)
        host.start()
        return host
    if any(directory.iterdir()):
        raise SystemExit(f"{directory} contains something else\n{_elsewhere(directory)}")
    print(f"Making a demo host in {directory}: a PostgreSQL cluster and {DOCUMENTS} documents", flush=True)
    (directory / UNFINISHED).touch()
    host = DemoHost.create(directory, documents=DOCUMENTS)
    host.writer.work(UPLOADS)
    host.writer.close()
    (directory / UNFINISHED).unlink()
    return host


def describe(host: DemoHost) -> None:
    state = host.read_state()
    documents = state.live_documents()
    megabytes = sum(document.size for document in documents) / 1e6
    version = label_of(stated_version(host.cluster.bindir))
    print(
        f"\nThe demo host\n"
        f"  Alfresco home    {host.home} (alfresco.sh start|stop|status)\n"
        f"  PostgreSQL       {version} on port {host.cluster.port}, "
        f"{len(state.tables['alf_transaction'])} transactions\n"
        f"  contentstore     {len(documents)} documents, {megabytes:.1f} MB\n"
        f"  settings         {host.env_file}\n"
        f"  repository       {host.backup_dir}\n",
        flush=True,
    )


def keep_history(host: DemoHost) -> None:
    """Have Prefect keep the history of all runs beside the host: `serve` then shows the first backup too."""
    if "PREFECT_HOME" not in prefect_values(host.env_file):
        with host.env_file.open("a", encoding="utf-8") as file:
            file.write(f"PREFECT_HOME={shlex.quote(str(host.directory / 'prefect'))}\n")


def back_up(host: DemoHost) -> int:
    """Run `backup` as a user would type it; its exit code."""
    os.environ[ENV_FILE_VARIABLE] = str(host.env_file)  # the commands of this host name it
    command = program_command("backup")
    print(f"$ {command}", flush=True)
    started = time.monotonic()
    code = subprocess.run(("sh", "-c", command), check=False).returncode
    print(f"exit code {code} after {time.monotonic() - started:.0f} s")
    return code


def make_a_mistake(host: DemoHost) -> datetime:
    """Delete documents after the backup; the moment before it is what a restore can go back to."""
    moment = utc_now()
    for _ in range(MISTAKES):
        host.writer.delete()
    host.writer.close()
    host.cluster.sql(f"SELECT {facts_of(host.cluster.version).switch_wal}()")
    return moment


def next_commands(moment: datetime) -> None:
    plan = program_command("restore", "--mode", "pitr", "--target-time", moment.isoformat())
    elsewhere = {"DEMO_DIR": os.environ["DEMO_DIR"]} if os.environ.get("DEMO_DIR") else {}

    def made(target: str) -> str:
        return make_command(target, **elsewhere)

    print(
        f"\nSince the backup {MISTAKES} documents were deleted. The host is running. For example:\n"
        f"The same again; nothing is new, and the snapshot shows it:\n  {made('demo')}\n"
        f"The plan of a restore to before the deletion; nothing is touched:\n  {plan}\n"
        f"Schedules, runs and restores in a browser:\n  {made('serve')}\n"
        f"Stop the host and remove it with its backups:\n  {made('demo-clean')}"
    )


def remove(directory: Path) -> None:
    if (directory / MARKER).exists():
        DemoHost.open(directory).destroy()
    else:
        shutil.rmtree(directory)


def clean(directory: Path) -> int:
    if not any((directory / name).exists() for name in (MARKER, UNFINISHED)):
        print(f"There is no demo host in {directory}.")
        return 0
    remove(directory)
    print(f"The demo host in {directory} is stopped and removed.")
    return 0


def main(arguments: list[str]) -> int:
    directory = demo_directory()
    try:
        if arguments == ["clean"]:
            return clean(directory)
        host = prepare(directory)
        keep_history(host)
        describe(host)
        code = back_up(host)
        if code == EXIT_SUCCESS:
            next_commands(make_a_mistake(host))
    except (BackupError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
