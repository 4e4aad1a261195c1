"""`make demo`: a demo host, a few documents by its writer, and a backup of it as a user would make it.

The host stays, running, so that the next commands can be tried on it. A second `make demo` uses it again.
"""

import os
import pwd
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from alfresco_backup.errors import EXIT_SUCCESS, BackupError
from alfresco_backup.postgres.versions import facts_of, label_of
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.times import for_people, utc_now
from demo.cluster import stated_version
from demo.host import MARKER, DemoHost

DOCUMENTS = 2000
UPLOADS = 25
MISTAKES = 10
UNFINISHED = ".alfresco-demo-unfinished"
"""A file that lies in the folder while the host is being made."""


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
        raise SystemExit(f"{directory} belongs to another account; next: make demo DEMO_DIR=/another/folder")


def prepare(directory: Path) -> DemoHost:
    """The host in `directory`, running: the one from last time, or a new one; one that is half made goes."""
    make_own(directory)
    if (directory / UNFINISHED).exists():
        print(f"The demo host in {directory} was not finished last time; it is made anew")
        remove(directory)
        make_own(directory)
    if (directory / MARKER).exists():
        print(f"Starting the demo host in {directory}")
        host = DemoHost.open(directory)
        host.start()
        return host
    if any(directory.iterdir()):
        raise SystemExit(f"{directory} holds something else; next: make demo DEMO_DIR=/another/folder")
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


def back_up(host: DemoHost) -> int:
    """Run backup.py as a user would, with nothing but a plain environment; its exit code."""
    program = PROJECT_DIRECTORY / "backup.py"
    argv = [sys.executable, str(program), str(host.env_file)]
    print(f"$ python backup.py {host.env_file}", flush=True)
    started = time.monotonic()
    code = subprocess.run(argv, check=False).returncode
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


def next_commands(host: DemoHost, moment: datetime) -> None:
    print(
        f"\nSince the backup {MISTAKES} documents were deleted. The host is running; now, for example:\n"
        f"  make demo                     once more: nothing is new, and the snapshot shows it\n"
        f"  .venv/bin/python restore.py --env {host.env_file} --mode pitr "
        f"--target-time '{for_people(moment)}'\n"
        f"                                the plan of a restore to before the deletion; nothing is touched\n"
        f"  make serve                    the same in a browser: schedules, runs, restores\n"
        f"  make demo-clean               stop the host and remove it with its backups"
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
        describe(host)
        code = back_up(host)
        if code == EXIT_SUCCESS:
            next_commands(host, make_a_mistake(host))
    except (BackupError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
