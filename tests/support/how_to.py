"""What the tests of docs/how-to share: the example host's names, and a demo host that stands for it."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.journal.journal_record import RestoreState
from alfresco_backup.settings.model import ENV_FILE_VARIABLE, PROJECT_DIRECTORY
from demo.host import DemoHost
from demo.state import State
from flows.backup import backup
from flows.undo_restore import undo_restore
from tests.support.common import temporary_demo_host
from tests.support.documents import Names, execute, plain_environment
from tests.support.restoring import loaded, restores_of

HOW_TO = PROJECT_DIRECTORY / "docs/how-to"
NAME = "alf1"
EXECUTE = {"mode": "execute", "confirm": NAME}
SOFTWARE = {
    "/opt/alfresco-backup": str(PROJECT_DIRECTORY),
    ".venv/bin/activate": str(Path(sys.executable).with_name("activate")),
}


def names_of(host: DemoHost, stamp: str = "", moment: datetime | None = None) -> Names:
    """What stands for the paths, the set and the moment of the documents."""
    moments = {"2026-11-22T09:15:00+01:00": moment.isoformat()} if moment else {}
    return Names(
        {
            **SOFTWARE,
            **moments,
            "/opt/alfresco": str(host.home),
            "/etc/alfresco-backup/alf1.env": str(host.env_file),
            "/backup": str(host.backup_dir),
            "alf1": host.name,
            "20261122T023000Z": stamp,
        }
    )


@dataclass
class Scene:
    """A running host. Each test begins with a set of its own and no restore that could be undone."""

    host: DemoHost
    home: Path
    stamp: str = ""
    in_set: State = field(default_factory=State)

    def begin(self) -> None:
        for record in restores_of(self.host):
            if record.state is not RestoreState.DISCARDED:
                undo_restore(restore=record.restore_id, discard=True, **EXECUTE)
        self.host.writer.close()
        self.host.__dict__.pop("writer")  # after a restore it would know another life
        deleted = self.host.layout.deleted_contentstore
        if deleted.exists():  # documents that a restore brought back lie there
            shutil.rmtree(deleted)
        self.host.writer.add(2)
        backup()
        self.stamp = self.newest_set()
        self.in_set = self.host.writer.state.copy()

    def newest_set(self) -> str:
        return read_catalogue(loaded(self.host).repository).sets[-1].stamp

    def execute(self, document: str | Path, *words: str, moment: datetime | None = None) -> dict[str, str]:
        """The commands of a guide, or of the document with this path."""
        self.host.writer.close()
        names = names_of(self.host, self.stamp, moment)
        return execute(HOW_TO / document, names, environment(self.home), words)


def environment(home: Path) -> dict[str, str]:
    """A login shell's, and the tests' Prefect server, which saves each run the start of its own."""
    return plain_environment(home, PREFECT_API_URL=str(PREFECT_API_URL.value()))


@contextmanager
def running_scene(home: Path) -> Iterator[Scene]:
    with temporary_demo_host(documents=100, name=NAME) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield Scene(host, home)
