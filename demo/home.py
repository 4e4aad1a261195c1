"""The files of an Alfresco home as the installer lays them out, save data directory and content."""

import json
import random
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from demo.cluster import Cluster
from demo.state import DATABASE

ROLE = "alfresco"
ROLE_PASSWORD = "alfresco's #1 secret"  # noqa: S105 - a password for a demo, with characters that break careless quoting
_PARTS = Path(__file__).with_name("home")
_DIRECTORIES = (
    "alf_data/contentstore",
    "alf_data/contentstore.deleted",
    "alf_data/keystore",
    "alf_data/oouser",
    "alf_data/solr4/content",
    "alf_data/solr4/index/archive/SpacesStore",
    "alf_data/solr4/index/workspace/SpacesStore",
    "alf_data/solr4/model",
    "alf_data/solr4Backup/alfresco",
    "alf_data/solr4Backup/archive",
    "postgresql",
    "scripts",
    "tomcat/bin",
    "tomcat/conf",
    "tomcat/logs",
    "tomcat/shared/classes/alfresco/extension",
    "tomcat/temp",
)


@dataclass(frozen=True)
class Home:
    """An Alfresco home below `root`."""

    root: Path

    @property
    def data_directory(self) -> Path:
        return self.root / "alf_data/postgresql"

    @property
    def contentstore(self) -> Path:
        return self.root / "alf_data/contentstore"

    @property
    def deleted_contentstore(self) -> Path:
        return self.root / "alf_data/contentstore.deleted"

    @property
    def keystore(self) -> Path:
        return self.root / "alf_data/keystore"

    @property
    def properties(self) -> Path:
        return self.root / "tomcat/shared/classes/alfresco-global.properties"

    @property
    def control_script(self) -> Path:
        return self.root / "alfresco.sh"

    @property
    def pid_file(self) -> Path:
        return self.root / "tomcat/temp/catalina.pid"

    def install(self, cluster: Cluster, tomcat_port: int) -> None:
        """Programs and settings, as an installer leaves them on a host that holds no data yet."""
        for name in _DIRECTORIES:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "postgresql/bin").symlink_to(cluster.bindir)
        shutil.copy(_PARTS / "alfresco.sh", self.control_script)
        self.control_script.chmod(0o755)
        shutil.copy(_PARTS / "stand_in_tomcat.py", self.root / "tomcat/bin")
        self._write_settings(cluster, tomcat_port)

    def add_configuration(self, cluster: Cluster, seed: int) -> None:
        """What a set holds besides database and content, and Solr's live indexes."""
        source = random.Random(seed)
        self.properties.write_text(_properties(self.root, cluster.port), encoding="latin-1", newline="")
        self._write(
            "tomcat/shared/classes/alfresco/extension/custom-log4j.properties", b"log4j.rootLogger=error\n"
        )
        self._write("alf_data/keystore/keystore", b"\xce\xce\xce\xce" + source.randbytes(2000), 0o600)
        self._write(
            "alf_data/keystore/keystore-passwords.properties", b"keystore.password=mp6yc0UD9e\n", 0o600
        )
        for core, place in (("alfresco", "workspace"), ("archive", "archive")):
            backup = f"alf_data/solr4Backup/{core}/snapshot.20260101020000"
            index = f"alf_data/solr4/index/{place}/SpacesStore/index"
            for folder in (backup, index):
                self._write(f"{folder}/segments_2", source.randbytes(200))
                self._write(f"{folder}/_1.cfs", source.randbytes(20_000))
        self._write("alf_data/solr4/model/contentModel.xml", b"<model/>\n")

    def _write_settings(self, cluster: Cluster, tomcat_port: int) -> None:
        setenv = (
            f"PATH=$PATH:/usr/sbin:/sbin\nPGPORT={cluster.port}\nPYTHON={shlex.quote(sys.executable)}\n"
            "export PATH PGPORT PYTHON\n"
        )
        (self.root / "scripts/setenv.sh").write_text(setenv)
        stand_in = {
            "port": tomcat_port,
            "contentstore": str(self.contentstore),
            "psql": cluster.psql_argv(DATABASE),
            "environment": cluster.environment(ROLE, ROLE_PASSWORD),
        }
        self._write("tomcat/conf/stand-in.json", json.dumps(stand_in, indent=1).encode(), 0o600)

    def _write(self, name: str, content: bytes, mode: int = 0o644) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)


def _properties(root: Path, port: int) -> str:
    """As dirty as real ones: doubled slashes, references, two keys glued together, CRLF here and there."""
    return (
        "###############################\n"
        "## Common Alfresco Properties #\n"
        "###############################\n"
        "\n"
        f"dir.root={root.parent}//{root.name}/alf_data\n"
        "dir.contentstore=${dir.root}/contentstore\n"
        "dir.contentstore.deleted = ${dir.root}/contentstore.deleted\r\n"
        "dir.keystore:${dir.root}/keystore\n"
        "alfresco.context=alfresco\nalfresco.host=127.0.0.1alfresco.port=8080\n"
        "\n"
        "### database connection properties ###\n"
        "db.driver=org.postgresql.Driver\n"
        f"db.username={ROLE}\n"
        f"db.password={ROLE_PASSWORD}\n"
        f"db.name={DATABASE}\n"
        f"db.url=jdbc:postgresql://localhost:{port}/${{db.name}}\n"
        "db.pool.max=275\n"
        "# note: this property file is encoded as Latin-1: \xe4\xf6\xfc\n"
        "index.subsystem.name=solr4\n"
        "solr.backup.alfresco.cronExpression=0 0 2 * * ? \\\n    \n"
        "system.content.orphanProtectDays=14\n"
        "system.content.eagerOrphanCleanup=false"
    )


def copy_wal_commands(folder: Path) -> None:
    """Put the WAL commands where PostgreSQL's account can run them: the checkout may be closed to it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("archive-wal", "restore-wal"):
        shutil.copy(PROJECT_DIRECTORY / "deployments/wal" / name, folder)
        (folder / name).chmod(0o755)
