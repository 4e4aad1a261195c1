"""Folders, WAL commands and the `.env`: what is changed about them, what only people can decide."""

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.configure.changes import AccessChange, FolderChange, InstallChange
from alfresco_backup.configure.places import PlacesState, plan_env_superuser, plan_places
from alfresco_backup.configure.steps import overwrite
from alfresco_backup.settings.commands import configure_command
from alfresco_backup.system.accounts import Account

POSTGRES = Account(26, 26, "")
READY = PlacesState(
    root=Path("/backup"),
    root_access=(0, 0, 0o755),
    parent_exists=True,
    unmounted="",
    closed=(),
    root_open=True,
    archive=Path("/backup/pg_wal"),
    archive_access=(26, 26, 0o750),
    archive_writable=True,
    env_file=Path("/opt/project/.env"),
    env_access=(0, 0, 0o600),
    env_lines=("PGHOST=localhost", "#PGSUPERUSER=postgres", "# Its password", ""),
    folder=Path("/usr/local/lib/alfresco-backup"),
    folder_exists=True,
    folder_parent_exists=True,
    folder_open=True,
    programs={"archive-wal": True, "restore-wal": True},
    me=(0, 0, 0),
    account=POSTGRES,
)


def test_what_is_as_it_should_be_is_left_alone():
    assert plan_places(READY) == ([], [])


@pytest.mark.parametrize(
    ("mode", "is_open", "wanted"), [(0o777, True, 0o755), (0o775, True, 0o755), (0o700, False, 0o711)]
)
def test_backup_dir_is_closed_to_other_writers_and_open_to_postgresql(mode, is_open, wanted):
    (change,), left = plan_places(replace(READY, root_access=(0, 0, mode), root_open=is_open))
    assert isinstance(change, AccessChange) and left == []
    assert (change.before, change.after) == ((0, 0, mode), (0, 0, wanted))


def test_backup_dir_is_made_only_where_it_belongs():
    missing = replace(READY, root_access=None, archive_access=None, archive_writable=False)
    (root, archive), left = plan_places(missing)
    assert isinstance(root, FolderChange) and (root.path, root.mode, root.uid) == ("/backup", 0o755, 0)
    assert isinstance(archive, FolderChange) and (archive.mode, archive.uid, archive.gid) == (0o750, 26, 26)
    assert left == []
    _, (unmounted,) = plan_places(replace(missing, unmounted="/backup"))
    assert (unmounted.subject, unmounted.fix) == ("BACKUP_DIR", "mount /backup")
    _, (nowhere,) = plan_places(replace(missing, parent_exists=False))
    assert nowhere.fix.splitlines()[0] == "mount /" and "mkdir" not in nowhere.fix


def test_folders_above_that_keep_postgresql_out_are_named_not_changed():
    changes, (left,) = plan_places(replace(READY, closed=(Path("/srv/closed"),), root_open=False))
    assert changes == []
    assert left.fix.splitlines()[0] == "chmod o+x /srv/closed"


def test_an_archive_of_another_account_is_given_to_postgresql_by_root_only():
    foreign = replace(READY, archive_access=(0, 0, 0o755), archive_writable=False)
    (change,), left = plan_places(foreign)
    assert isinstance(change, AccessChange) and left == []
    assert change.after == (26, 26, 0o755)
    changes, (named,) = plan_places(replace(foreign, me=(26, 26, 0)))
    assert changes == [] and named.fix == f"{configure_command('--apply')}  # run it as root"


def test_passwords_are_closed_and_wal_commands_kept_up_to_date():
    seen = replace(READY, env_access=(5, 6, 0o644), programs={"archive-wal": False, "restore-wal": None})
    (env, archive, restore), _ = plan_places(seen)
    assert isinstance(env, AccessChange) and env.after == (5, 6, 0o600)
    assert isinstance(archive, InstallChange) and (archive.old, archive.existed) == (
        "of another version",
        True,
    )
    assert isinstance(restore, InstallChange) and (restore.old, restore.existed) == ("missing", False)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"folder_open": False}, "cannot be entered by PostgreSQL's account"),
        ({"folder_exists": False, "folder_parent_exists": False}, "has no folder above it"),
    ],
)
def test_wal_commands_go_nowhere_where_they_could_not_be_run(changed, words):
    seen = replace(READY, programs={"archive-wal": None, "restore-wal": None}, **changed)
    changes, (left,) = plan_places(seen)
    assert changes == [] and words in left.sentence and left.fix.endswith(" --wal-commands ...")


@pytest.mark.parametrize(
    ("lines", "position", "removed"),
    [
        (("A=1", "#PGSUPERUSER=postgres", "B=2", ""), 2, ()),
        (("A=1", "export PGSUPERUSER=postgres", ""), 1, ("export PGSUPERUSER=postgres",)),
        (("A=1", ""), 1, ()),
        (("A=1",), 1, ()),
    ],
)
def test_the_line_of_the_env_takes_the_place_of_the_old_one(lines, position, removed):
    change = plan_env_superuser(replace(READY, env_lines=lines), "postgres", "alfresco")
    assert (change.position, change.removed, change.added) == (position, removed, ("PGSUPERUSER=alfresco",))


def test_odd_names_are_quoted_in_the_env():
    change = plan_env_superuser(READY, "postgres", "o'per x")
    assert change.added == ("PGSUPERUSER='o\\'per x'",)


def test_a_file_there_is_no_room_for_is_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "pg_hba.conf"
    file.write_bytes(b"host all all 127.0.0.1/32 md5\n")
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            overwrite(file, before * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    overwrite(file, b"local all all peer\n")
    assert file.read_bytes() == b"local all all peer\n"
