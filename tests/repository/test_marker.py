"""The marker in BACKUP_DIR and the note beside the `.env` decide whether a folder is the repository."""

from pathlib import Path

import pytest

from alfresco_backup.errors import HostNotReady, Refused
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.marker import (
    begin_again,
    begin_repository,
    note_file,
    read_marker,
    read_note,
    require_repository,
    write_note,
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "backup").mkdir()
    return Repository(tmp_path / "backup")


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / "alf1.env"


def test_a_folder_without_a_marker_is_refused_where_its_identity_is_known(
    repository: Repository, env_file: Path
) -> None:
    assert require_repository(repository, read_note(repository, env_file)) == ""  # nothing is known of it
    identity = begin_repository(repository, "alf1")
    write_note(repository, env_file, identity)
    assert note_file(env_file).name == "alf1.env.repository"
    assert require_repository(repository, read_note(repository, env_file)) == identity
    repository.marker.unlink()
    with pytest.raises(HostNotReady) as refused:
        require_repository(repository, read_note(repository, env_file))
    assert refused.value.message.startswith(
        f"BACKUP_DIR={repository.root} is not the repository {identity}: repository.json is missing there"
    )
    assert "mkdir" not in refused.value.hint and "install -d" not in refused.value.hint


def test_the_disk_of_another_repository_is_refused_until_it_takes_the_place_of_the_former(
    repository: Repository, env_file: Path
) -> None:
    write_note(repository, env_file, "the former")
    identity = begin_repository(repository, "alf2")
    with pytest.raises(HostNotReady) as refused:
        require_repository(repository, read_note(repository, env_file))
    assert refused.value.message == (
        f"BACKUP_DIR={repository.root} is not the repository the former: repository.json there is that of "
        f"repository {identity}. Another disk is mounted, or it was replaced"
    )
    assert read_marker(repository) == identity
    assert begin_again(repository, "alf1", env_file) == identity
    assert require_repository(repository, read_note(repository, env_file)) == identity


def test_what_is_noted_of_another_folder_does_not_count(
    repository: Repository, env_file: Path, tmp_path: Path
) -> None:
    write_note(Repository(tmp_path / "old"), env_file, "the old one")
    assert read_note(repository, env_file) == ""


@pytest.mark.parametrize("damaged", ["", "{", "[1]", '{"schema": 1}', '{"schema": 99, "id": "x"}'])
def test_a_damaged_marker_is_refused_and_written_again_with_its_identity(
    damaged: str, repository: Repository, env_file: Path
) -> None:
    identity = begin_repository(repository, "alf1")
    write_note(repository, env_file, identity)
    repository.marker.write_text(damaged)
    with pytest.raises(HostNotReady, match=f"the marker {repository.marker} cannot be read"):
        read_marker(repository)
    assert begin_again(repository, "alf1", env_file) == identity
    assert read_marker(repository) == identity


def test_a_repository_is_begun_once(repository: Repository, env_file: Path) -> None:
    identity = begin_again(repository, "alf1", env_file)
    assert read_note(repository, env_file) == identity
    with pytest.raises(Refused, match=f"is the repository {identity} already"):
        begin_again(repository, "alf1", env_file)
