"""How psql and pg_basebackup connect: libpq's variables reach them, on a server that takes TLS only."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from alfresco_backup.host.host import load_host
from alfresco_backup.postgres.database import identify_system, system_identifier
from demo.cluster import Cluster, default_bindir
from demo.places import give_to
from tests.support.common import temporary_cluster
from tests.support.places import reachable_directory

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[Cluster, Path]]:
    """A cluster that takes TLS connections only, and the certificate by which it is known."""
    with reachable_directory() as folder, temporary_cluster(default_bindir()) as cluster:
        certificate, key = cluster.directory / "server.crt", cluster.directory / "server.key"
        subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        files = ("-out", str(certificate), "-keyout", str(key))
        argv = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files)
        subprocess.run(argv, check=True, capture_output=True)
        text = certificate.read_text()
        for path in (certificate, key):
            cluster._write(path.name, path.read_text())
            path.chmod(0o600)
        cluster._write("pg_hba.conf", "hostssl all all all md5\nhostssl replication all all md5\n")
        cluster.configure(ssl="on")
        cluster.stop()
        (folder / "ca.crt").write_text(text)
        (folder / "ca.crt").chmod(0o644)
        cluster.start()
        yield cluster, folder


def write_env(folder: Path, cluster: Cluster, **values: object) -> Path:
    given: dict[str, object] = {
        "PGHOST": "127.0.0.1", "PGPORT": cluster.port, "PGUSER": cluster.superuser, "PGDATABASE": "postgres",
        "BACKUP_DIR": folder, "ALF_BASE_DIR": folder, "PG_DATA_DIR": cluster.directory, **values,
    }  # fmt: skip
    env = folder / "env"
    env.touch(0o600)
    env.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    return env


def test_a_server_is_known_by_its_certificate_and_the_password_comes_from_a_file(
    secured: tuple[Cluster, Path],
) -> None:
    cluster, folder = secured
    passwords = folder / "passwords"
    passwords.touch(0o600)
    escaped = cluster.password.replace("\\", "\\\\").replace(":", "\\:")
    passwords.write_text(f"*:*:*:*:{escaped}\n")
    give_to(passwords, cluster.account)
    host = load_host(write_env(folder, cluster, PGSSLMODE="verify-full", PGPASSFILE=passwords))
    with pytest.raises(ToolFailed, match="root certificate file"):
        host.database.value("SELECT 1")
    root = {"PGSSLROOTCERT": folder / "ca.crt", "PGPASSFILE": passwords}
    host = load_host(write_env(folder, cluster, PGSSLMODE="verify-full", **root))
    assert host.database.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"
    assert identify_system(host.database).system_identifier == system_identifier(cluster.directory)
