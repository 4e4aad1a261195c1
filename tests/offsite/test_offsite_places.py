"""The off-site copy in each kind of place: an S3 server, an SSH server, a folder of another file system."""

import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from alfresco_backup.offsite.copy import engine_of, init
from alfresco_backup.offsite.engine import FarSideAway
from alfresco_backup.offsite.far import read_far
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from flows.backup import backup
from flows.offsite import offsite_check, offsite_copy, offsite_prune, offsite_wal
from tests.support.common import temporary_demo_host
from tests.support.far_sides import verb
from tests.support.mail_servers import mail_server
from tests.support.offsite_places import PASSWORD, SECRET_KEY, Place, place_of, use
from tests.support.restoring import loaded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]
KINDS = ("s3", "sftp", "folder")


@pytest.fixture(scope="module")
def host(prefect_server: None) -> Iterator[DemoHost]:
    """A host with a set of all parts and one of new documents."""
    with temporary_demo_host(documents=40) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(made.env_file))
        backup()
        made.writer.add(3)
        backup(components=["contentstore"])
        yield made


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with place_of(request.param) as made:
        yield made


def test_both_sets_and_the_wal_archive_come_back_as_they_were(
    host: DemoHost, place: Place, tmp_path: Path
) -> None:
    use(host, place.settings("alf1"))
    made = verb(host, "offsite", "init")
    assert made["made"] is True, made
    assert PASSWORD not in str(made) and SECRET_KEY not in str(made)
    assert offsite_copy() == "2 backup IDs sent; 2 of 2 sets are whole off-site"
    assert offsite_copy() == "0 backup IDs sent; 2 of 2 sets are whole off-site"
    archived = set((host.backup_dir / "pg_wal").iterdir())
    offsite_wal()
    assert len(verb(host, "offsite", "list")["sets"]) == 2  # type: ignore[arg-type]

    engine = engine_of(loaded(host))
    far = read_far(engine, host.name)
    assert far.newest_wal
    for snapshot in {item.snapshot for item in (*far.sets.values(), far.newest_wal)}:
        engine.run("restore", snapshot, "--target", str(tmp_path), "--no-lock")
    unsent = ("--exclude=/logs", "--exclude=/offsite", "--exclude=latest")
    compared = ("rsync", "-anic", "--delete", *unsent)
    different = subprocess.run(
        [*compared, f"{host.backup_dir}/", f"{tmp_path}/"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # The database goes on: what it archived while the archive was being sent may be there or not.
    now = set((host.backup_dir / "pg_wal").iterdir())
    later = {f"pg_wal/{path.name}" for path in now - archived}
    missing = {line.split(" ", 1)[1] for line in different if not line.endswith("/")}
    assert missing - later == set(), different


def test_what_is_there_is_checked_and_fetched_and_nothing_is_pruned_that_is_still_here(
    host: DemoHost, place: Place, tmp_path: Path
) -> None:
    use(host, place.settings("whole"))
    init(engine_of(loaded(host)))
    offsite_copy()
    offsite_wal()
    assert "2 of 2 sets" in offsite_check()
    offsite_prune(mode="execute")
    assert len(read_far(engine_of(loaded(host)), host.name).sets) == 2
    fetched = verb(host, "offsite", "fetch", "--to", str(tmp_path))
    assert fetched["findings"] == [], fetched
    (newest,) = (host.backup_dir / "postgres").glob("base-*")
    for name in ("base.tar.zst", "backup.json"):
        assert (tmp_path / "postgres" / newest.name / name).read_bytes() == (newest / name).read_bytes()
    documents = {path.name: path.read_bytes() for path in host.layout.contentstore.rglob("*.bin")}
    days = tmp_path / "contentstore" / "days"
    assert {path.name: path.read_bytes() for path in days.rglob("*.bin")} == documents


ADDRESS_PASSWORD = "letmein-77"


def secrets_of(host: DemoHost) -> dict[str, bytes]:
    """What nobody may find far away: content, names, and what opens the place or the copy."""
    document = max(host.layout.contentstore.rglob("*.bin"), key=lambda path: path.stat().st_size)
    content = document.read_bytes()
    return {
        "content": content[len(content) // 2 :][:24],
        "name of a document": document.name.encode(),
        "name of a folder": b"contentstore",
        "name of a file": b"base.tar.zst",
        "host": host.name.encode() + b"-",
        "password": PASSWORD.encode(),
        "secret key": SECRET_KEY.encode(),
    }


def found_below(folder: Path, words: Iterable[bytes]) -> list[tuple[Path, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [(path, word) for path in files for word in words if word in path.read_bytes()]


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """The arguments of all programs called restic or ssh that run meanwhile."""
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.01):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    words = file.read_bytes().decode(errors="replace").split("\0")
                    if Path(words[0]).name in ("restic", "ssh"):
                        seen.add(" ".join(words))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def database() -> bytes:
    """All that the tests' Prefect server has written."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    file = Path(settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"].partition("///")[2])
    return b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))


def test_nothing_is_readable_there_and_no_secret_is_in_argv_logs_or_prefect(
    host: DemoHost, place: Place
) -> None:
    use(host, place.settings("secret"))
    with command_lines() as lines:
        init(engine_of(loaded(host)))
        offsite_copy()
        offsite_wal()
    secrets = secrets_of(host)
    assert found_below(place.disk, secrets.values()) == []
    mine = [line for line in lines if "restic" in line]
    assert any(" backup " in line for line in mine), lines
    opening = (secrets["password"], secrets["secret key"])
    assert [line for line in lines if any(word.decode() in line for word in opening)] == []
    written = database()
    assert [word for word in opening if word in written] == []
    for folder in (host.backup_dir / "offsite", host.backup_dir / "logs"):
        assert found_below(folder, opening) == []


def test_a_password_in_the_address_is_masked_in_errors_mails_notes_and_prefect(host: DemoHost) -> None:
    with mail_server() as mailbox, command_lines() as lines:
        mails = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port), "SMTP_TYPE": "INSECURE"}
        address = f"rest:http://backup:{ADDRESS_PASSWORD}@127.0.0.1:1/alf1"
        settings = {"OFFSITE_REPOSITORY": address, "OFFSITE_PASSWORD": PASSWORD, **mails}
        use(host, {**settings, "ALERT_EMAIL": "ops@example.org", "ALERT_FROM": "backup@example.org"})
        for flow in (offsite_copy, offsite_wal):
            with pytest.raises(FarSideAway, match="cannot be reached") as away:
                flow()
            assert ADDRESS_PASSWORD not in str(away.value)
        told = [str(verb(host, "offsite", action)) for action in ("init", "list")]
        told += [mail.as_string() for mail in mailbox.mails]
        told += lines
    assert mailbox.mails
    assert [text for text in told if ADDRESS_PASSWORD in text] == []
    assert ADDRESS_PASSWORD.encode() not in database()
    for folder in (host.backup_dir / "offsite", host.backup_dir / "logs"):
        assert found_below(folder, [ADDRESS_PASSWORD.encode(), PASSWORD.encode()]) == []
