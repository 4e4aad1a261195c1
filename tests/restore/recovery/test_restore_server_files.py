"""What is outside its usual place: configuration and certificate of the server, keystore, tenants."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError, NotVerified
from alfresco_backup.host.host import load_host
from alfresco_backup.preflight.host import check_configuration
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.cluster import available_bindirs, default_bindir
from demo.host import DemoHost
from demo.places import give_to
from flows.backup import backup
from flows.restore_drill import restore_drill
from flows.restore_full import restore_full
from flows.undo_restore import undo_restore
from tests.support.places import reachable_directory
from tests.support.planting import as_root

EXECUTE = {"mode": "execute", "confirm": "demo"}
PASSWORD = 'JAVA_OPTS="$JAVA_OPTS -Dmetadata-keystore.password=mp6yc0UD9e"\n'
LINKED = ("postgresql.conf", "pg_hba.conf", "server.crt", "server.key")
VERSIONS = dict.fromkeys((default_bindir(), available_bindirs()[0], available_bindirs()[-1]))
WITHOUT_TLS = "SELECT 'off' FROM pg_settings WHERE name = 'ssl_library' AND setting = ''"


@pytest.fixture(scope="module", params=[pytest.param(item, id=item.parent.name) for item in VERSIONS])
def host(request: pytest.FixtureRequest, prefect_server: None) -> Iterator[DemoHost]:
    """A host as administrators make it: all that is theirs lies in one folder, and a set of it."""
    with reachable_directory() as directory, pytest.MonkeyPatch.context() as patch:
        host = DemoHost.create(directory / "host", request.param, 40, durable=False)
        try:
            ssl = tls(host)
            host.stop()
            move_outside(host, directory / "etc", ssl)
            move_alfresco(host, directory / "etc")
            host.start()
            patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
            backup()
            yield host
        finally:
            host.destroy()


def tls(host: DemoHost) -> str:
    """What `ssl` can be: some builds, as that of the wheel, are without it."""
    return "off" if host.cluster.sql(WITHOUT_TLS) else "on"


def move_outside(host: DemoHost, etc: Path, ssl: str) -> None:
    data = host.layout.data_directory
    etc.mkdir()
    argv = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost")
    files = ("-out", str(data / "server.crt"), "-keyout", str(data / "server.key"))
    subprocess.run([*argv, *files], check=True, capture_output=True)
    host.cluster.configure(ssl=ssl, include_dir=str(etc / "conf.d"))
    (etc / "conf.d").mkdir()
    (etc / "conf.d/memory.conf").write_text("work_mem = '5MB'\n")
    (etc / "lists").mkdir()
    (etc / "lists/databases").write_text("another\n")
    with (data / "pg_hba.conf").open("a") as stream:
        stream.write(f"local @{etc}/lists/databases all md5\n")
    for name in LINKED:
        (etc / name).write_bytes((data / name).read_bytes())
        (data / name).unlink()
        (data / name).symlink_to(Path("../../../../etc", name) if name == "server.crt" else etc / name)
        (etc / name).chmod(0o600)
    for path in (etc, *etc.rglob("*")):
        give_to(path, host.cluster.account)


def move_alfresco(host: DemoHost, etc: Path) -> None:
    """A keystore outside dir.keystore, its password in setenv.sh, and a content store of tenants."""
    tenants = host.home / "alf_data/tenants"
    with host.layout.properties.open("a", encoding="latin-1") as stream:
        stream.write(
            f"\nencryption.keystore.location={etc}/alfresco/keystore\ndir.contentstore.tenants={tenants}\n"
        )
    (etc / "alfresco").mkdir()
    (etc / "alfresco/keystore").write_bytes(b"\xce\xce secret")
    (etc / "alfresco/keystore").chmod(0o600)
    (host.home / "tomcat/bin/setenv.sh").write_text(PASSWORD)
    document = tenants / "example.org/2026/1/2/3/4/a.bin"
    document.parent.mkdir(parents=True)
    document.write_bytes(b"of a tenant")


def etc_of(host: DemoHost) -> Path:
    return host.directory.parent / "etc"


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (content, status.st_uid, status.st_gid, status.st_mode)
    return found


def test_a_drill_reproduces_it_from_the_set_and_lists_what_it_replaced(host: DemoHost) -> None:
    try:
        text = restore_drill(target_time="end")
    except NotVerified as crashed:  # as the wheel's pg_verifybackup does: there is no report then
        if host.cluster.bindir == default_bindir():
            raise
        pytest.skip(crashed.message)
    etc = etc_of(host)
    for name in LINKED:
        assert f"server: {name}, a link to " in text and "was replaced by the copy in the set" in text
    assert f"postgresql.conf: include_dir = '{etc}/conf.d' was left out" in text
    assert "settings of the drill's own server: " in text and "ssl" in text


@as_root
def test_what_the_server_cannot_read_there_is_named_by_preflight(host: DemoHost) -> None:
    memory = etc_of(host) / "conf.d/memory.conf"
    loaded = load_host(host.env_file)
    assert check_configuration(loaded) == []
    os.chown(memory, 0, 0)
    memory.chmod(0o600)
    try:
        (found,) = check_configuration(loaded)
    finally:
        give_to(memory, host.cluster.account)
        memory.chmod(0o644)
    assert found.level == "error" and f"{memory} cannot be read by " in found.sentence


def test_a_restore_puts_back_what_is_missing_and_an_undo_takes_it_away_again(host: DemoHost) -> None:
    etc, data = etc_of(host), host.layout.data_directory
    lived = host.read_state()
    before, links = tree(etc), {name: (data / name).readlink() for name in LINKED}
    setenv, tenants = host.home / "tomcat/bin/setenv.sh", host.home / "alf_data/tenants"
    host.stop()
    etc.rename(etc.with_name("lost"))
    setenv.unlink()
    (tenants / "example.org/2026/1/2/3/4/a.bin").unlink()
    text = restore_full(**EXECUTE)
    assert host.read_state().difference(lived) == []
    assert host.cluster.sql("SHOW ssl") == [(tls(host),)] and host.cluster.sql("SHOW work_mem") == [("5MB",)]
    assert {name: (data / name).readlink() for name in LINKED} == links
    files = {name: seen for name, seen in before.items() if seen[0]}
    assert {name: seen for name, seen in tree(etc).items() if seen[0]} == files
    assert f"{etc}/server.key was missing and was copied from backup " in text
    assert f"{etc}/alfresco/keystore was missing and was copied from backup " in text
    assert setenv.read_text() == PASSWORD
    assert (tenants / "example.org/2026/1/2/3/4/a.bin").read_bytes() == b"of a tenant"
    undo_restore(**EXECUTE)  # the server it starts again is one without its configuration
    left = [path.name for path in etc.rglob("*") if path.is_file()]
    assert left and all(".undone-" in name for name in left) and not setenv.exists()
    shutil.rmtree(etc)
    etc.with_name("lost").rename(etc)
    host.start()
    assert host.read_state().difference(lived) == []


def test_a_file_that_is_there_stays_and_a_damaged_copy_of_one_that_is_not_is_refused(
    host: DemoHost,
) -> None:
    etc = etc_of(host)
    configuration = read_catalogue(load_host(host.env_file).repository).configurations[-1]
    copy = configuration.path / "server-files/files" / str(etc / "server.key").lstrip("/")
    content = copy.read_bytes()
    copy.write_bytes(content.replace(b"A", b"B", 1))
    kept = (etc / "server.key").read_bytes()
    (etc / "server.key").unlink()
    try:
        with pytest.raises(BackupError, match=r"server\.key, which PostgreSQL needs and this host lacks"):
            restore_full(**EXECUTE)
    finally:
        copy.write_bytes(content)
        (etc / "server.key").write_bytes(kept)
        (etc / "server.key").chmod(0o600)
        give_to(etc / "server.key", host.cluster.account)
