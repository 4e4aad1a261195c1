"""A repository on disk with its off-site copy in a folder: small sets, real restic."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from alfresco_backup.host.host import Host
from alfresco_backup.host.installation import find_installation
from alfresco_backup.offsite.copy import Watching, begin, engine_of, init, send_together, send_wal
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.far import FarSide, read_far
from alfresco_backup.offsite.shipments import batches
from alfresco_backup.repository.layout import BASE_METADATA, Repository
from alfresco_backup.repository.marker import begin_repository, read_marker
from alfresco_backup.times import utc_now
from demo.host import DemoHost
from tests.support.repository_on_disk import DiskRepository
from tests.support.restore_command import PROJECT

PASSWORD = "correct horse battery"


class FarDisk:
    """One host's repository and the place of its copy. `now` is that of the repository's sets."""

    def __init__(self, folder: Path, place: Path | None = None, name: str = "alf1") -> None:
        self.folder = folder
        self.disk = DiskRepository(folder / "backup", utc_now())
        self.place = place or folder / "far"
        self.name = name
        self.settings: dict[str, object] = {}
        if not self.disk.repository.marker.exists():
            begin_repository(self.disk.repository, name)

    @classmethod
    def open(cls, folder: Path, **settings: object) -> "FarDisk":
        """One that is there, with these settings for its host."""
        found = cls(folder)
        found.settings = settings
        return found

    @property
    def repository(self) -> Repository:
        return self.disk.repository

    @cached_property
    def host(self) -> Host:
        return self.host_with()

    def host_with(self, **settings: object) -> Host:
        given = {
            "alf_host_name": self.name,
            "offsite_repository": str(self.place),
            "offsite_password": PASSWORD,
            **self.settings,
            **settings,
        }
        made = self.disk.settings(**given)
        return Host(made, find_installation(made), self.repository)

    @cached_property
    def engine(self) -> Engine:
        engine = engine_of(self.host)
        init(engine)
        return engine

    def copy(self, *, alone: bool = False) -> list[str]:
        """Send what is not there; the IDs that were sent. `alone`: each a snapshot, as if it were large."""
        _, shipments = begin(self.host, self.engine)
        together = ((item,) for item in shipments) if alone else batches(shipments)
        sent = [
            each for batch in together for each in send_together(self.host, self.engine, batch, Watching())
        ]
        return [stamp for each in sent for stamp in each.stamps]

    def wal(self) -> str:
        return send_wal(self.host, self.engine, Watching()).snapshot

    @property
    def far(self) -> FarSide:
        return read_far(self.engine, self.name)

    @property
    def identity(self) -> str:
        return read_marker(self.repository)

    def restic(self, *words: str) -> subprocess.CompletedProcess[str]:
        """restic as somebody else uses it on the same repository."""
        return subprocess.run(
            ["restic", *words],
            env={"PATH": "/usr/bin:/bin", "HOME": "/root", **self.engine.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def packs(self) -> list[Path]:
        """The packs in the place, the largest first."""
        found = (path for path in (self.place / "data").rglob("*") if path.is_file())
        return sorted(found, key=lambda path: -path.stat().st_size)


def with_checksums(base: Path) -> None:
    """Let the metadata of a base backup have the checksums of its files: a fetch takes it for whole then."""
    metadata = json.loads((base / BASE_METADATA).read_text())
    for file in metadata["files"]:
        file["sha256"] = sha256((base / file["name"]).read_bytes()).hexdigest()
    (base / BASE_METADATA).write_text(json.dumps(metadata))


def at(day: int, hour: int = 0) -> datetime:
    """A time of November 2026."""
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def verb(host: DemoHost, *words: str) -> dict[str, object]:
    """What a verb of the program answers with --json."""
    done = subprocess.run(
        [sys.executable, "-m", "alfresco_backup", *words, "--env", host.env_file, "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found
