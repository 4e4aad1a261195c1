"""What the tests of restores share: a host in every detail, restores that are killed, undoing."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from alfresco_backup.host.host import Host, load_host
from alfresco_backup.restore.journal.journal_record import Record, list_restores
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from alfresco_backup.times import LEGACY_FORMAT
from demo.host import DemoHost
from demo.places import give_to
from tasks.restore.undo import find_restore, undo
from tests.support.common import wait_until

Detail = tuple[object, ...]
VOLATILE = ("tomcat/logs", "tomcat/temp", "postgresql")
"""Below the home: logs and sockets, which any start changes."""
DATA = "alf_data/postgresql"
WRITTEN = (
    "pg_wal",
    "pg_xlog",
    "global",
    "base",
    "pg_stat",
    "pg_stat_tmp",
    "pg_xact",
    "pg_clog",
    "pg_logical",
    "pg_commit_ts",
    "pg_multixact",
    "pg_subtrans",
)
"""Below a data directory: what a running server writes on its own, by its names before 10 as well."""

KILLED = """
import json, os, signal, sys
import alfresco_backup.restore.journal.journal as journal
wanted, left = json.loads(sys.argv[2]), int(sys.argv[3])
parameters = json.loads(sys.argv[4])
write = journal.Journal._write

def write_and_die(self, document):
    global left
    write(self, document)
    left -= wanted.items() <= document.items()
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal._write = write_and_die
flow = __import__("flows." + sys.argv[1], fromlist=[sys.argv[1]])
getattr(flow, sys.argv[1])(**parameters)
"""


def details(root: Path, *, without: Iterable[str] = ()) -> dict[str, Detail]:
    """Everything below a folder: kind, mode, owner, time, inode, and content. Access times do not count."""
    skipped = tuple(f"{name}/" for name in without)
    found: dict[str, Detail] = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            relative = str(path.relative_to(root))
            if not f"{relative}/".startswith(skipped or ("//",)):
                found[relative] = _detail(path)
    return found


def _detail(path: Path) -> Detail:
    status = path.lstat()
    common = (stat.filemode(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, status.st_ino)
    if path.is_symlink():
        return (*common, str(path.readlink()))
    if path.is_file():
        return (*common, hashlib.sha256(path.read_bytes()).hexdigest())
    return common


def state_of(host: DemoHost) -> dict[str, Detail]:
    """The host's home in every detail, but for what any start of its services writes."""
    return details(host.home, without=VOLATILE)


def state_of_running(host: DemoHost) -> dict[str, Detail]:
    """The same of a host that runs: of the data directory, in which its server writes, the folder itself."""
    return details(host.home, without=(*VOLATILE, *(f"{DATA}/{name}" for name in WRITTEN)))


def differences(before: dict[str, Detail], after: dict[str, Detail]) -> list[str]:
    """What differs, for an assertion that says so: at most twenty lines."""
    names = sorted({*before, *after})
    lines = [f"{name}: {before.get(name)} became {after.get(name)}" for name in names]
    return [line for line, name in zip(lines, names, strict=True) if before.get(name) != after.get(name)][:20]


def killed_restore(
    host: DemoHost, flow: str, entry: Mapping[str, str], count: int, parameters: Mapping[str, object]
) -> bool:
    """Run a restore flow that is killed right after the `count`-th such journal entry; whether it was."""
    forget_slot(host)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, flow, json.dumps(entry), str(count), json.dumps(parameters)],
        cwd=PROJECT_DIRECTORY,
        env=environment(host),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode == -signal.SIGKILL


INTERRUPTED = """
import json, sys
from pathlib import Path
from alfresco_backup.restore.recovery import restoration
restoration.RESTORE_WAL = Path(sys.argv[3] or restoration.RESTORE_WAL)
flow = __import__("flows." + sys.argv[1], fromlist=[sys.argv[1]])
getattr(flow, sys.argv[1])(**json.loads(sys.argv[2]))
"""


def interrupted_restore(
    host: DemoHost,
    flow: str,
    parameters: Mapping[str, object],
    reached: Callable[[], object],
    *,
    programs: Path,
    restore_wal: Path | None = None,
) -> None:
    """Kill a restore flow as soon as something is reached. `programs` are found before the system's own."""
    forget_slot(host)
    said = programs / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, flow, json.dumps(parameters), str(restore_wal or "")],
            cwd=PROJECT_DIRECTORY,
            env={**environment(host), "PATH": f"{programs}:{os.environ['PATH']}"},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: reached() or process.poll() is not None, "the place to kill at")
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, said.read_text()[-3000:]


def environment(host: DemoHost) -> dict[str, str]:
    """What a flow of a host in a process of its own is started with."""
    return {
        **os.environ,
        ENV_FILE_VARIABLE: str(host.env_file),
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PYTHONPATH": os.pathsep.join([str(PROJECT_DIRECTORY), os.environ.get("PYTHONPATH", "")]),
    }


def forget_slot(host: DemoHost) -> None:
    """Free the lock of a killed run at once; by itself it would be free when its lease runs out."""
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(host.name)


def loaded(host: DemoHost) -> Host:
    return load_host(host.env_file)


def restores_of(host: DemoHost) -> list[Record]:
    """The journals of a host's restores, oldest first."""
    return list_restores(loaded(host).repository.restores(host.name))


def age(journal: Path, days: float) -> None:
    """Let everything in a journal have happened so many days earlier."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        line["at"] = (datetime.fromisoformat(line["at"]) - timedelta(days=days)).isoformat()
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def undo_latest(host: DemoHost) -> Record:
    """Undo the newest restore."""
    loaded_host = loaded(host)
    record = find_restore(loaded_host, "latest", discard=False)
    undo(loaded_host, record, str)
    return record


def predecessors_backup(host: DemoHost) -> str:
    """What the predecessor made: a gzipped tar with its WAL, and the whole store under a local time."""
    stamp = datetime.now().strftime(LEGACY_FORMAT)  # noqa: DTZ005 - the predecessor's names hold local time
    base = host.backup_dir / "postgres" / f"base-{stamp}"
    base.mkdir(parents=True)
    give_to(base, host.cluster.account)
    argv = [
        str(host.cluster.bindir / "pg_basebackup"),
        "-D",
        str(base),
        "-Ft",
        "-z",
        "-X",
        "fetch",
        "-c",
        "fast",
    ]
    environment = {**os.environ, **host.cluster.environment()}
    subprocess.run(argv, env=environment, check=True)
    tree = host.backup_dir / "contentstore" / f"contentstore-{stamp}"
    tree.parent.mkdir()
    subprocess.run(["cp", "-a", host.layout.contentstore, tree], check=True)
    (tree.parent / "last").symlink_to(tree)
    return stamp
