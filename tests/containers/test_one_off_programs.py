"""Single programs in containers of the server's image: they end with the run that started them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed, ToolTimedOut
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.host.one_off_server import LABEL, RUN, in_image, why_no_one_off
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.system.processes import Command, Watch, run
from tests.support import container_engine as engine
from tests.support.common import wait_until
from tests.support.container_host import ContainerHost, container_host

pytestmark = pytest.mark.slow

STARTED = """
import sys
from pathlib import Path
from alfresco_backup.host import one_off_server
from alfresco_backup.host.host import load_host
from alfresco_backup.system.processes import run
from alfresco_backup.system.signals import interrupt_at_termination
interrupt_at_termination()
host, kind, place = load_host(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
if kind == "probe":
    one_off_server.RESTORE_WAL = place / "endless"
    one_off_server.why_no_one_off(host, wal=(place, "000000010000000000000001"))
else:
    options = ("-n", "-m", str(place / "manifest"), str(place))
    run(one_off_server.in_image(host, "pg_verifybackup", options, (place,), host.account))
"""


@pytest.fixture(scope="module")
def contained() -> Iterator[ContainerHost]:
    with container_host(documents=1) as host:
        yield host


@pytest.fixture
def host(contained: ContainerHost) -> Host:
    return load_host(contained.env_file)


@pytest.fixture
def endless(contained: ContainerHost) -> Iterator[Path]:
    """A folder whose manifest is never read to its end, and a program that neither ends nor heeds SIGTERM."""
    place = contained.directory / "endless"
    place.mkdir()
    os.mkfifo(place / "manifest")
    (place / "endless").write_text("trap '' TERM INT HUP\nwhile :; do sleep 1; done\n")
    for path in (place, *place.iterdir()):
        os.chown(path, engine.UID, engine.UID)
    yield place
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


def endless_program(host: Host, place: Path, seconds: float) -> Command:
    options = ("-n", "-m", str(place / "manifest"), str(place))
    command = in_image(host, "pg_verifybackup", options, (place,), host.account)
    return replace(command, timeout_seconds=seconds)


def one_offs(host: Host) -> list[str]:
    """Its one-off containers, each with its state."""
    label = f"label={LABEL}={host.installation.data_directory}"
    return engine.podman("ps", "--all", "--filter", label, "--format", "{{.ID}} {{.Status}}").splitlines()


def run_now(host: Host) -> bool:
    return any(line.split()[1] == "Up" for line in one_offs(host))


@pytest.mark.parametrize("kind", ["program", "probe"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_container_ends_with_the_run_that_is_killed_or_terminated(
    host: Host, contained: ContainerHost, endless: Path, number: signal.Signals, kind: str
) -> None:
    argv = (sys.executable, "-c", STARTED, str(contained.env_file), kind, str(endless))
    with subprocess.Popen(argv, cwd=PROJECT_DIRECTORY, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: run_now(host) or process.poll() is not None, "the container runs")
            assert process.poll() is None, process.stderr
            process.send_signal(number)
            wait_until(lambda: not one_offs(host), lambda: f"{one_offs(host)} have gone", 60)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL if number == signal.SIGKILL else "Terminated" in said


def test_a_container_ends_with_the_time_limit_of_its_program(host: Host, endless: Path) -> None:
    seen: list[bool] = []
    watch = Watch(0.1, lambda: seen.append(run_now(host)))
    with pytest.raises(ToolTimedOut):
        run(endless_program(host, endless, 10), watch=watch)
    assert any(seen)
    wait_until(lambda: not one_offs(host), lambda: f"{one_offs(host)} have gone", 60)


def test_exit_codes_and_last_words_of_a_program_are_its_own(host: Host, tmp_path: Path) -> None:
    done = run(in_image(host, "sh", ("-c", 'echo "$1"; cat', "sh", "two  words"), (), host.account))
    assert done.tail == "two  words"
    expected = {
        ("pg_verifybackup", str(tmp_path)): (1, f'could not open file "{tmp_path}/backup_manifest"'),
        ("pg_nothing",): (127, "pg_nothing"),
        ("sh", "-c", "echo out; echo err >&2; exit 3"): (3, "err"),
        ("sh", "-c", "kill -SEGV $$"): (139, ""),
    }
    for (program, *options), (code, words) in expected.items():
        with pytest.raises(ToolFailed) as failure:
            run(in_image(host, program, options, (), host.account))
        assert failure.value.returncode == code and words in failure.value.tail, failure.value
    assert one_offs(host) == []


def test_a_container_whose_run_was_killed_before_its_start_is_removed_by_the_next_one(host: Host) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    labels = ("--label", f"{LABEL}={host.installation.data_directory}")
    for pid in (gone.pid, os.getpid()):
        engine.podman("create", *engine.label(), *labels, "--label", f"{RUN}={pid}", engine.image(), "true")
    try:
        assert len(one_offs(host)) == 2
        assert why_no_one_off(host) is None
        (left,) = one_offs(host)
        name, state = left.split()
        of_run = engine.podman("inspect", "-f", f'{{{{index .Config.Labels "{RUN}"}}}}', name)
        assert (state, of_run) == ("Created", str(os.getpid()))
    finally:
        for line in one_offs(host):
            engine.remove("container", line.split()[0])
