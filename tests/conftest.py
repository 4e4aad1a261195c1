"""Fixtures for all tests: real PostgreSQL, a real host, nothing of the developer's own environment."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alfresco_backup.settings.model import ENV_FILE_VARIABLE, Settings
from alfresco_backup.system.mounts import is_mount_point
from demo.cluster import Cluster, default_bindir
from demo.host import DemoHost
from tests.support import quick
from tests.support.common import temporary_cluster, temporary_demo_host
from tests.support.places import own_folder, reachable_directory, sweeper
from tests.support.prefect_database import put_database
from tests.support.time_limit import limited

if TYPE_CHECKING:
    from tests.support.prefect_site import Site

# What is made for a moment is gone with this process; tmp_path is where pytest always puts it.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
os.environ["TMPDIR"] = str(own_folder() / "tmp")
Path(os.environ["TMPDIR"]).mkdir()
Path(os.environ["TMPDIR"]).chmod(0o1777)
tempfile.tempdir = None

# Before anything imports Prefect: its own folder instead of ~/.prefect, and no telemetry.
os.environ["PREFECT_HOME"] = str(own_folder() / "prefect")
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)
for _name in (*(field.upper() for field in Settings.model_fields), ENV_FILE_VARIABLE, "PGPASSFILE"):
    os.environ.pop(_name, None)

# `nohup make test &` ignores these, and every program a test starts would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


quick.begin()
interrupted = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses a fixture that is slow is slow itself, and so is all that needs a Prefect server."""
    for item in items:
        if "slow" in getattr(item, "fixturenames", ()) or item.path.parent.name == "prefect":
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with limited(), nullcontext() if item.get_closest_marker("slow") else quick.watched():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with limited(), nullcontext() if item.get_closest_marker("slow") else quick.watched():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    with limited():
        return (yield)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have tmp_path of all tests removed when this process is killed."""
    sweeper().sweep(session.config._tmp_path_factory.getbasetemp())


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Ctrl-C, and not what -x raises: nobody will look at tmp_path."""
    global interrupted  # noqa: PLW0603 - pytest calls functions, and tells no later one
    interrupted = excinfo.type is KeyboardInterrupt


def pytest_unconfigure(config: pytest.Config) -> None:
    if not interrupted:
        sweeper().keep(config._tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def slow() -> None:
    """Requested by fixtures that start a server: what uses those bears the mark `slow` (support/quick.py)."""


@pytest.fixture(scope="session")
def shared_site(slow: None) -> "Iterator[Site]":
    """One demo host with Prefect server, worker and mail server for all tests that need them."""
    from tests.support.prefect_site import running_site  # noqa: PLC0415 - Prefect reads the environment when imported

    with running_site() as running:
        yield running


@pytest.fixture
def site(shared_site: "Site") -> "Site":
    """The shared site; a test sees the mails that come after its beginning."""
    shared_site.mailbox.read_all()
    return shared_site


@pytest.fixture
def bind() -> Iterator[Callable[[Path, Path], None]]:
    """Mount a folder a second time. Skips where that is not allowed, as it is for ordinary users."""
    mounted: list[Path] = []

    def mount(folder: Path, place: Path) -> None:
        folder.mkdir(parents=True)
        place.mkdir(parents=True)
        done = subprocess.run(["mount", "--bind", folder, place], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no bind mounts here: {done.stderr.strip()}")
        mounted.append(place)

    yield mount
    for place in reversed(mounted):
        subprocess.run(["umount", place], check=os.path.ismount(place) or is_mount_point(place))


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """As tmp_path, but short enough for sockets, and PostgreSQL's account can reach it when root tests."""
    with reachable_directory() as directory:
        yield directory


@pytest.fixture
def bindir() -> Path:
    """The PostgreSQL programs in use; `every_version` (tests/support/common.py) puts each version's here."""
    return default_bindir()


@pytest.fixture
def cluster(bindir: Path, slow: None) -> Iterator[Cluster]:
    """A running cluster of its own for each test."""
    with temporary_cluster(bindir) as running:
        yield running


@pytest.fixture
def demo_host(bindir: Path, slow: None) -> Iterator[DemoHost]:
    """A running demo host with 300 documents for each test."""
    with temporary_demo_host(bindir) as host:
        yield host


@pytest.fixture(scope="module")
def shared_demo_host(slow: None) -> Iterator[DemoHost]:
    """One running demo host for all tests of a module: for tests that leave it as they found it."""
    with temporary_demo_host() as host:
        yield host


@pytest.fixture(scope="session")
def prefect_server(slow: None) -> Iterator[None]:
    """A Prefect server for flows that are called in this process, and for the children it is told to."""
    from prefect.server.api.server import SubprocessASGIServer  # noqa: PLC0415 - after the lines above
    from prefect.settings import get_current_settings  # noqa: PLC0415 - likewise
    from prefect.testing.utilities import prefect_test_harness  # noqa: PLC0415 - likewise

    from tasks.runs import host_lock  # noqa: PLC0415 - likewise
    from tests.support.shared_server import argv  # noqa: PLC0415 - likewise

    def start(server: SubprocessASGIServer) -> subprocess.Popen[bytes]:
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        put_database(Path(settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"].partition("///")[2]))
        kind = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
        return subprocess.Popen(argv(server.port), env={**os.environ, **kind, **settings}, cwd="/")

    with pytest.MonkeyPatch.context() as patch:
        # Prefect's own application stands still for a minute now and then: tasks/runs/server_app.py.
        patch.setattr(SubprocessASGIServer, "_run_uvicorn_command", start)
        patch.setattr(host_lock, "BACKUP_WAIT_SECONDS", 600.0)  # for a host that no test gives back
        with prefect_test_harness(server_startup_timeout=300):
            yield
