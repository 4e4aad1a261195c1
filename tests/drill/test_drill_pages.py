"""A page damaged on the server's own disk: the backup agrees with its manifest, only the drill can see it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from alfresco_backup.errors import BackupUnsound
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.cluster import default_bindir, major_version
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_drill import restore_drill
from tests.support.places import reachable_directory

PAGE = 8192


@pytest.fixture
def host(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoHost]:
    """A host whose cluster has page checksums since initdb."""
    if major_version(default_bindir()) < 120000:
        pytest.skip("pg_checksums came with PostgreSQL 12")
    with reachable_directory() as directory:
        bare = DemoHost.install(directory / "host", durable=False)
        host = replace(bare, cluster=replace(bare.cluster, initdb_options=("-k",)))
        try:
            host.furnish(20)
            monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
            yield host
        finally:
            host.destroy()


def damage_a_page(host: DemoHost) -> str:
    """Change a byte of a table on disk while the server is down; returns the table's file."""
    cluster = host.cluster
    cluster.sql("CREATE TABLE hurt AS SELECT repeat('x', 200) FROM generate_series(1, 2000)", "alfresco")
    cluster.sql("ALTER SYSTEM SET autovacuum = off")
    ((name,),) = cluster.sql("SELECT pg_relation_filepath('hurt')", "alfresco")
    cluster.stop()
    with (cluster.directory / name).open("r+b") as stream:
        stream.seek(3 * PAGE + 5000)
        (byte,) = stream.read(1)
        stream.seek(3 * PAGE + 5000)
        stream.write(bytes([byte ^ 0xFF]))
    cluster.start()
    return str(name)


def test_a_damaged_page_is_found_by_its_checksum_and_its_file_is_named(host: DemoHost) -> None:
    backup()
    assert "- every page agrees with its checksum" in restore_drill(target_time="end")
    name = damage_a_page(host)
    backup()
    with pytest.raises(BackupUnsound) as found:
        restore_drill(target_time="end")
    assert "pages of the database are damaged" in found.value.message
    assert 'checksum verification failed in file "' in found.value.message
    assert f'{name}", block 3' in found.value.message
    log = max(host.backup_dir.glob("logs/restore-drill-*.log")).read_text()
    assert f'{name}", block 3' in log
