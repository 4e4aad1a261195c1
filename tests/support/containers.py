"""A server as a container runs it: in its own pid and mount namespace."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from tests.support.common import wait_until
from tests.support.unconfigured_hosts import PlainHost

CAN_CONTAIN = (
    os.geteuid() == 0
    and subprocess.run(["unshare", "--pid", "--mount", "--fork", "true"], check=False).returncode == 0
)
in_namespaces = pytest.mark.skipif(not CAN_CONTAIN, reason="needs root, and a kernel that gives namespaces")


@contextmanager
def contained(host: PlainHost, *, at_another_path: bool = True, without: Path | None = None) -> Iterator[int]:
    """The host's server moved into namespaces, where it has pid 1; gives the pid that the host
    sees. Afterwards it runs as before.

    `without`: a folder of the host that the container does not have.
    """
    host.stop("fast")
    inside = host.directory / "inside" if at_another_path else host.data
    inside.mkdir(exist_ok=True)
    account = host.account
    change = f"setpriv --reuid {account.uid} --regid {account.gid} --init-groups"
    server = f"{host.bindir / 'postgres'} -D {inside}"
    hidden = f" && mount -t tmpfs none {without}" if without else ""
    script = f"mount --bind {host.data} {inside}{hidden} && cd / && exec {change} {server}"
    argv = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c", script]
    with (host.directory / "container.log").open("ab") as log:
        child = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: _answers(host), (host.directory / "container.log").read_text, 60)
        (pid,) = map(int, _children(child.pid))
        yield pid
    finally:
        for first in _children(child.pid):  # with the first process of a pid namespace all others end
            os.kill(int(first), signal.SIGKILL)
        child.wait()
        if at_another_path:
            inside.rmdir()
        host.start()


def _answers(host: PlainHost) -> bool:
    try:
        return host.sql("SELECT 1") == [("1",)]
    except ToolFailed:
        return False


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
