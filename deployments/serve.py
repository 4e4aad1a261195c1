"""A Prefect server and a worker in the foreground, for a look: the verb `serve`. Ctrl-C ends both.

Uses the settings that are named, else the project's .env, else those of the demo host of `make demo`. The
demo's `.env` has Prefect keep its history in DEMO_DIR/prefect. The server has a password, which the `.env`
keeps for the worker and for runs by hand; where it has none, a random one is made. A worker that ends, as
Prefect's does when its server is silent for minutes, is started again; when the server ends, all ends. For
good, use the units in deployments/systemd.
"""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from dotenv import dotenv_values

from alfresco_backup.cli.entry import prepare_environment, say
from alfresco_backup.errors import BackupError, SettingsError
from alfresco_backup.settings.commands import edit_setting, make_command, program_command
from alfresco_backup.settings.env_file import env_file_path, load_settings
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.system.accounts import known_account
from alfresco_backup.system.files import write_text
from alfresco_backup.system.processes import Child, Command
from demo.__main__ import demo_directory
from deployments.serve_database import CONNECTION, postgresql

SERVER_ENV = PROJECT_DIRECTORY / "deployments/prefect-server.env"
LOGIN, SERVER_LOGIN = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
SERVER = PROJECT_DIRECTORY / "deployments/server"
WORKER = PROJECT_DIRECTORY / "deployments/worker"
FOREVER_SECONDS = 3650 * 86400.0
STOP_SECONDS = 20.0
PAUSE_SECONDS = 5.0
SHORT_LIFE_SECONDS = 60.0
SHORT_LIVES = 3
ANOTHER_PORT = "4201"


def serve(database: str = "sqlite") -> None:
    """Start server, deployments and worker until interrupted. Raises BackupError when one of them ends.

    With `postgresql` the server has a cluster of its own, as servers of several hosts should.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    env_file = choose_env_file()
    prepare_environment(env_file)
    server_values = {name: value for name, value in dotenv_values(SERVER_ENV).items() if value}
    for name, value in server_values.items():
        os.environ.setdefault(name, value)
    address = f"http://127.0.0.1:{os.environ['PREFECT_SERVER_API_PORT']}"
    if os.environ.setdefault("PREFECT_API_URL", f"{address}/api") != f"{address}/api":
        complaint = (
            f"PREFECT_API_URL={os.environ['PREFECT_API_URL']}: this host has another server already, "
            "and two would run every schedule twice"
        )
        raise SettingsError([complaint], f"open that one, or remove PREFECT_API_URL from {env_file}")
    settings = load_settings()
    require_free(address)
    login = give_password(env_file)
    os.environ.update({LOGIN: login, SERVER_LOGIN: login})
    say(f"Settings of {settings.alf_host_name} from {env_file}; starting the server at {address}")
    with database_of(database) as variables, running("server", str(SERVER), **variables) as server:
        await_server(server)
        deploy(env_file)
        say(
            f"\nLook at {address}; the password it asks for is {LOGIN} in {env_file}.\n"
            "Ctrl-C ends server and worker. In another terminal, for example:\n"
            f"  {program_command('backup', PREFECT_API_URL=f'{address}/api')}\n"
        )
        with suppress(KeyboardInterrupt), receiving(settings, env_file):
            keep_worker(server, settings.alf_host_name)


@contextmanager
def database_of(kind: str) -> Iterator[dict[str, str]]:
    """What the server's environment needs for its database; nothing for SQLite in PREFECT_HOME."""
    if kind == "sqlite":
        yield {}
        return
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    say(f"A PostgreSQL cluster for the server in {home}/postgresql")
    with postgresql(home) as url:
        yield {CONNECTION: url}


def give_password(env_file: Path) -> str:
    """The server's `user:password`: that of the settings, else with a random one, added to the `.env`.

    Whoever reaches the API of a server is root on its hosts, so none is started without.
    """
    from tasks.runs.server_process import new_login  # noqa: PLC0415

    if known := os.environ.get(LOGIN) or os.environ.get(SERVER_LOGIN):
        return known
    login, place = new_login(), env_file.resolve()
    status = place.stat()
    text = place.read_text(encoding="utf-8", errors="surrogateescape")
    added = f"# Password of the Prefect server; whoever has it is root on its hosts.\n{LOGIN}={login}\n"
    text += added if text.endswith("\n") or not text else f"\n{added}"
    try:
        owner = known_account(status.st_uid, status.st_gid)
        write_text(place, text, stat.S_IMODE(status.st_mode) & 0o640, owner)
    except OSError as error:
        raise BackupError(f"{env_file} cannot be written to: {error}", edit_setting(LOGIN, login)) from error
    say(f"The server's password is {login}; it was written into {env_file}")
    return login


def require_free(address: str) -> None:
    """Raise BackupError when a server is there already: this host would be deployed to that one."""
    from tasks.runs.embedded_server import answers  # noqa: PLC0415 - Prefect reads the environment when imported

    if answers(f"{address}/api"):
        raise BackupError(f"a Prefect server is at {address} already", on_another_port())


def keep_worker(server: Child, host: str) -> None:
    """Run the worker, and again whenever it ends. Raises BackupError when the server ends, or it cannot."""
    short_lives = 0
    while short_lives < SHORT_LIVES:
        started = time.monotonic()
        with running("worker", str(WORKER), host) as worker:
            while worker.process.poll() is None:
                if server.process.poll() is not None:
                    raise BackupError("the server has ended by itself, see above", program_command("serve"))
                time.sleep(0.5)
        short_lives = short_lives + 1 if time.monotonic() - started < SHORT_LIFE_SECONDS else 0
        say(f"the worker has ended by itself; starting it again in {PAUSE_SECONDS:g} s")
        time.sleep(PAUSE_SECONDS)
    raise BackupError("the worker ends soon after each start, see above", program_command("serve"))


def receiving(settings: Settings, env_file: Path) -> AbstractContextManager[object]:
    """The WAL receiver, which runs meanwhile where WAL_STREAMING is wanted."""
    if not settings.wal_streaming:
        return nullcontext()
    argv = (sys.executable, "-m", "alfresco_backup", "wal-receiver", "--env", str(env_file))
    return running("WAL receiver", *argv)


def choose_env_file() -> Path:
    """The host's .env, or the demo host's. Raises SettingsError when there is neither."""
    demo, named = demo_directory(), env_file_path()
    if named != PROJECT_DIRECTORY / ".env" or named.is_file():
        return named
    if (demo / ".env").is_file():
        return demo / ".env"
    complaint = f"there is neither {named} nor a demo host in {demo}"
    raise SettingsError([complaint], make_command("demo"))


@contextmanager
def running(name: str, *argv: str, **variables: str) -> Iterator[Child]:
    """A program that runs meanwhile, its output in this terminal. Ended by TERM, then KILL."""
    command = Command(argv, FOREVER_SECONDS, {**os.environ, **variables}, directory=PROJECT_DIRECTORY)
    child = Child(command, stdout=sys.stdout.fileno(), stderr=sys.stderr.fileno())
    try:
        yield child
    finally:
        if child.process.poll() is None:
            say(f"stopping the {name}")
            child.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout=STOP_SECONDS)
        child.stop()


def await_server(server: Child) -> None:
    from tasks.runs.embedded_server import await_start  # noqa: PLC0415 - Prefect reads the environment when imported

    complaint = "the Prefect server did not start; is its port taken?"
    await_start(server, os.environ["PREFECT_API_URL"], complaint, on_another_port())


def deploy(env_file: Path) -> None:
    argv = [sys.executable, "-m", "alfresco_backup", "deploy", "--env", str(env_file)]
    if subprocess.run(argv, cwd=PROJECT_DIRECTORY, stdout=sys.stdout, check=False).returncode != 0:
        raise BackupError("the deployments could not be made", program_command("deploy"))


def on_another_port() -> str:
    return program_command("serve", PREFECT_SERVER_API_PORT=ANOTHER_PORT)
