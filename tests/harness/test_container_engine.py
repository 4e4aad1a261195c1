"""The containers of the tests: what they are made of, and that nothing of them stays behind."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.support import container_engine as engine
from tests.support.container_host import container_host

MAKES_AND_WAITS = """
import sys, time
from tests.support import container_engine as engine
names = sys.argv[1:]
engine.podman("volume", "create", *engine.label(), names[0])
waits = ("-v", f"{names[0]}:/data", engine.image(), "sleep", "600")
engine.podman("run", "-d", "--name", names[1], *engine.label(), *waits)
engine.podman("run", "-d", "--name", names[2], *waits)
print("made", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_container_host_runs_with_accounts_that_the_host_does_not_know() -> None:
    with container_host(documents=20) as host:
        made = host.writer.add()
        assert host.read_state().difference(host.writer.state) == []
        assert host.missing_documents(host.writer.state) == []
        assert host.answer() == f"{len(host.writer.state.tables['alf_content_data'])} documents"
        assert host.cluster.directory.stat().st_uid == engine.UID
        assert (host.layout.contentstore / made.documents[0].path).stat().st_uid == engine.ALFRESCO_UID
        assert (host.cluster.directory / "postmaster.pid").read_text().split()[0] == "1"
        names = (host.postgres, host.alfresco)
        assert set(names) <= set(host.containers)
    assert not set(names) & set(engine.podman("ps", "--all", "--format", "{{.Names}}").split())
    assert host.volume not in engine.podman("volume", "ls", "--format", "{{.Name}}").split()


@pytest.mark.slow
def test_the_next_run_removes_what_a_killed_one_left_and_nothing_of_one_that_lives() -> None:
    if reason := engine.engine_or_reason():
        pytest.skip(reason)
    names = [f"left-{os.getpid()}-{part}" for part in ("volume", "labelled", "one-off")]
    own = f"{names[0]}-own"
    engine.podman("volume", "create", *engine.label(), own)
    argv = [sys.executable, "-c", MAKES_AND_WAITS, *names]
    with subprocess.Popen(argv, cwd=PROJECT_DIRECTORY, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout and other.stdout.readline() == "made\n"
            engine.remove_left_over()
            assert set(names[1:]) <= set(engine.podman("ps", "--format", "{{.Names}}").split())
        finally:
            other.send_signal(signal.SIGKILL)
    try:
        engine.remove_left_over()
        assert not set(names) & set(engine.podman("ps", "--all", "--format", "{{.Names}}").split())
        volumes = engine.podman("volume", "ls", "--format", "{{.Name}}").split()
        assert names[0] not in volumes and own in volumes
    finally:
        engine.remove("volume", own)


@pytest.mark.slow
def test_the_image_of_another_libc_has_its_marks() -> None:
    if reason := engine.engine_or_reason():
        pytest.skip(reason)
    argv = ("run", "--rm", *engine.label(), engine.musl_image(), "sh", "-c")
    said = engine.podman(*argv, "cat /etc/os-release; ls /lib/ld-musl-x86_64.so.1")
    assert "ID=alpine" in said and said.endswith("/lib/ld-musl-x86_64.so.1")


def test_without_podman_the_tests_of_containers_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(engine.NoEngineError, match="there is no podman here"):
        engine.program.__wrapped__()
