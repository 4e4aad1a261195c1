"""A disk that is full when a part of a set is to be published, after all its data has been copied."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from alfresco_backup.errors import BackupError
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.commands import program_command, retention_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from flows.backup import backup
from tests.support.common import full_disk, temporary_demo_host
from tests.support.restoring import loaded

pytestmark = pytest.mark.slow

WRITERS = {
    "postgres": "alfresco_backup.backup.make",
    "contentstore": "alfresco_backup.contentstore.snapshot_tree",
    "configuration": "alfresco_backup.backup.configuration",
}


@pytest.fixture(scope="module")
def host(prefect_server: None) -> Iterator[DemoHost]:
    with temporary_demo_host(documents=20) as host, pytest.MonkeyPatch.context() as environment:
        environment.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        yield host


@pytest.mark.parametrize("part", WRITERS)
def test_a_disk_that_is_full_at_the_metadata_is_told_with_what_frees_it_and_nothing_is_published(
    host: DemoHost, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    writer = importlib.import_module(WRITERS[part])
    write = writer.write_json

    def write_onto_a_full_disk(*arguments: Any) -> None:
        with full_disk():
            write(*arguments)

    before = read_catalogue(loaded(host).repository).complete_sets
    monkeypatch.setattr(writer, "write_json", write_onto_a_full_disk)
    said = f"^{host.backup_dir} cannot be written: File too large; this part is not published"
    with pytest.raises(BackupError, match=said) as told:
        backup()
    place = f"df -h {host.backup_dir}; df -i {host.backup_dir}"
    assert told.value.hint.splitlines() == [
        place,
        f"{program_command('retention')}  # shows what retention would remove",
        f"{retention_command('demo')}  # removes it",
        program_command("backup"),
    ]
    assert read_catalogue(loaded(host).repository).complete_sets == before
    monkeypatch.undo()
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
    backup()
    assert len(read_catalogue(loaded(host).repository).complete_sets) == len(before) + 1
