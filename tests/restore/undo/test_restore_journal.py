"""The journal of a restore and the plan that undoes it."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.restore.journal.journal import Journal, rename
from alfresco_backup.restore.journal.journal_record import (
    JOURNAL,
    Created,
    Filled,
    MadeDirectory,
    Record,
    Renamed,
    RestoreState,
    StepTime,
    Stopped,
    list_restores,
    read_journal,
    unreadable_journals,
)
from alfresco_backup.restore.journal.unfinished import require_finished
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.undo.undo_plan import (
    MoveBack,
    Remove,
    RemoveEmpty,
    StartService,
    StopService,
    Unfill,
    choose_discard,
    choose_undo,
    lost_by_undoing,
    make_undo_plan,
)
from alfresco_backup.settings.commands import accept_command, discard_command, undo_command
from alfresco_backup.times import make_stamp, parse_stamp, utc_now
from tasks.restore.undo import discard, discard_expired, undo_text
from tests.support.restoring import age

STAMP = "20261122T020000Z"
DATA, ASIDE = Path("/alf/data"), Path(f"/alf/data.before-restore-{STAMP}")
NEW = Path(f"/alf/data.restoring-{STAMP}")
SET_ASIDE = Renamed(DATA, ASIDE, 1, 10)
PLACED = Renamed(NEW, DATA, 1, 11)
FILLED = Filled(Path("/alf/store"), Path("/backup/restores/demo/content"))


@pytest.fixture
def restores(tmp_path: Path) -> Path:
    folder = tmp_path / "restores/demo"
    (folder / STAMP).mkdir(parents=True)
    return folder


def begun(restores: Path, stamp: str = STAMP) -> Journal:
    (restores / stamp).mkdir(exist_ok=True)
    return Journal.begin(restores / stamp, stamp, "demo", {"kind": "pitr", "asked": "a moment"})


def test_what_was_written_is_read_back(restores):
    journal = begun(restores)
    journal.step_started("stop-alfresco")
    acts = (Stopped("alfresco", True), SET_ASIDE, Created(NEW), MadeDirectory(Path("/alf")), PLACED, FILLED)
    for act in acts:
        journal.act(act)
        journal.done(act)
    journal.step_ended("stop-alfresco", 1.23456)
    journal.step_started("extract-database")
    journal.step_ended("extract-database", 2, "the disk is full")
    record = read_journal(journal.path)
    assert (record.restore_id, record.host, record.state) == (STAMP, "demo", RestoreState.UNFINISHED)
    assert record.acts == acts
    assert record.about == {"kind": "pitr", "asked": "a moment"}
    assert [(step.step, step.seconds, step.error) for step in record.steps] == [
        ("stop-alfresco", 1.235, ""),
        ("extract-database", 2, "the disk is full"),
    ]


def test_a_path_of_any_bytes_survives(restores):
    act = Created(Path("/alf/\udcff line\nbreak"))
    journal = begun(restores)
    journal.act(act)
    assert read_journal(journal.path).acts == (act,)


def test_a_line_that_was_cut_off_counts_as_not_written_and_the_next_one_follows_whole(restores):
    journal = begun(restores)
    journal.act(SET_ASIDE)
    with journal.path.open("ab") as stream:
        stream.write(b'{"entry": "act", "act": "Crea')
    assert read_journal(journal.path).acts == (SET_ASIDE,)
    journal.act(PLACED)
    assert read_journal(journal.path).acts == (SET_ASIDE, PLACED)


def test_a_journal_that_is_damaged_in_the_middle_is_an_error_never_a_guess(restores):
    journal = begun(restores)
    journal.act(SET_ASIDE)
    text = journal.path.read_text().splitlines(keepends=True)
    journal.path.write_text(text[0] + "garbage\n" + text[1])
    with pytest.raises(BackupError, match="cannot be read"):
        read_journal(journal.path)


def damage(journal: Journal) -> None:
    """As a disk does: nobody wrote, so the time stays."""
    status = journal.path.stat()
    journal.path.write_text("garbage\n")
    os.utime(journal.path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_damaged_journal_keeps_everything_out_and_names_the_folder_to_move_away(restores):
    begun(restores, "20261121T020000Z").state(RestoreState.COMPLETED)
    journal = begun(restores)
    damage(journal)
    with pytest.raises(BackupError, match="cannot be read") as failure:
        require_finished(restores, "demo")
    folder = restores / STAMP
    assert f"mv {folder} {folder}.unreadable" in failure.value.hint
    folder.rename(f"{folder}.unreadable")
    require_finished(restores, "demo")


@pytest.mark.parametrize("state", [RestoreState.COMPLETED, RestoreState.UNDONE, RestoreState.DISCARDED])
def test_a_damaged_journal_that_a_later_restore_found_finished_keeps_nobody_out(restores, state):
    damaged, later = begun(restores), "20261123T020000Z"
    damage(damaged)
    begun(restores, later).state(state)
    require_finished(restores, "demo")
    assert [record.restore_id for record in list_restores(restores)] == [later]
    assert unreadable_journals(restores) == [damaged.path]
    os.utime(damaged.path)  # as when its undo had begun since
    with pytest.raises(BackupError, match="cannot be read"):
        require_finished(restores, "demo")
    assert unreadable_journals(restores) == []


def test_a_folder_without_a_whole_first_line_is_no_restore(restores):
    (restores / STAMP / JOURNAL).write_text('{"schema": 1, "entr')
    assert list_restores(restores) == []
    require_finished(restores, "demo")


@pytest.mark.parametrize("state", [None, RestoreState.UNDOING])
def test_an_unfinished_restore_keeps_a_new_one_out_and_names_the_command(restores, state):
    journal = begun(restores)
    if state:
        journal.state(state)
    with pytest.raises(Refused) as refusal:
        require_finished(restores, "demo")
    undo, accept = refusal.value.hint.splitlines()
    assert undo == undo_command(STAMP, "demo")
    assert accept.startswith(f"{accept_command(STAMP, 'demo')}  # only if ")
    what = "the undo of restore" if state else "restore"
    assert f"{what} {STAMP} of demo was interrupted; this host is only partly" in refusal.value.message


@pytest.mark.parametrize("state", [RestoreState.COMPLETED, RestoreState.UNDONE, RestoreState.DISCARDED])
def test_a_finished_restore_keeps_nobody_out(restores, state):
    begun(restores).state(state)
    require_finished(restores, "demo")


def record(*acts, state=RestoreState.UNFINISHED, stamp=STAMP, completed=False, steps=()) -> Record:
    begun_at = parse_stamp(STAMP)
    times = tuple(StepTime(step, begun_at, 1.0, error) for step, error in steps)
    return Record(Path("/j"), stamp, "demo", state, begun_at, {}, acts, times, completed)


def test_undo_reverses_the_acts_between_stopping_and_starting_what_ran():
    acts = (Stopped("alfresco", True), Stopped("postgresql", False), SET_ASIDE, Created(NEW), PLACED, FILLED)
    assert make_undo_plan(record(*acts, MadeDirectory(Path("/alf/x")))) == (
        StopService("alfresco"),
        StopService("postgresql"),
        RemoveEmpty(Path("/alf/x")),
        Unfill(FILLED, times=True),
        MoveBack(PLACED, original=False),
        Remove(NEW, None),
        MoveBack(SET_ASIDE, original=True),
        StartService("alfresco"),
    )


def test_wal_that_was_saved_goes_only_where_its_originals_were_never_set_aside():
    saved = [(Step.SAVE_WAL, "the disk is full")]
    stopped = Stopped("postgresql", False)
    assert make_undo_plan(record(stopped, steps=saved)) == (
        StopService("postgresql"),
        Remove(Path("/wal"), None),
    )
    assert make_undo_plan(record(stopped, SET_ASIDE, steps=saved)) == (
        StopService("postgresql"),
        MoveBack(SET_ASIDE, original=True),
    )
    assert make_undo_plan(record(stopped)) == (StopService("postgresql"),)


def test_what_alfresco_may_have_worked_with_is_kept_when_it_is_undone():
    kept = Path(f"/alf/data.undone-{STAMP}")
    plan = make_undo_plan(record(Created(NEW), PLACED, FILLED, completed=True, state=RestoreState.UNDOING))
    assert plan == (Unfill(FILLED, times=False), MoveBack(PLACED, original=False), Remove(NEW, kept))


@pytest.mark.parametrize(
    ("step", "error", "kept"),
    [
        (Step.EXTRACT_DATABASE, "", False),
        (Step.RECOVER_DATABASE, "", True),
        (Step.RECOVER_DATABASE, "the restored database does not answer alfresco", True),
        (Step.RESTORE_CONTENT, "", True),
    ],
)
def test_what_a_broken_off_restore_left_for_work_by_hand_is_kept_when_it_is_undone(step, error, kept):
    built = Path(f"/alf/store.restoring-{STAMP}")
    plan = make_undo_plan(record(Created(NEW), PLACED, Created(built), FILLED, steps=[(step, error)]))
    undone = Path(f"/alf/data.undone-{STAMP}") if kept else None
    assert plan == (
        Unfill(FILLED, times=not kept),
        Remove(built, None),  # it never got its name
        MoveBack(PLACED, original=False),
        Remove(NEW, undone),
    )


@pytest.mark.parametrize(
    ("step", "completed", "lost"),
    [
        (Step.RECOVER_DATABASE, True, "to the database since then are not in the database that the undo"),
        (
            Step.SET_ASIDE_CONTENT,
            True,
            "Documents added since then are not in the content store that the undo",
        ),
        (Step.RESTORE_CONTENT, True, ""),
        (Step.RECOVER_DATABASE, False, ""),
    ],
)
def test_undoing_tells_what_has_been_written_since_a_restore(step: Step, completed: bool, lost: str):
    done = record(Created(NEW), PLACED, completed=completed, steps=[(step, "")])
    said = lost_by_undoing(done)
    assert (lost in said) if lost else (said == "")
    text = undo_text(done, discard=False)
    assert (said in text) and ("since then" in text) == bool(lost)


def test_the_newest_restore_must_be_undone_first():
    first = record(stamp="20261122T010000Z", state=RestoreState.COMPLETED)
    second = record(stamp="20261122T020000Z", state=RestoreState.COMPLETED)
    with pytest.raises(Refused, match="was followed by 20261122T020000Z, which must be undone"):
        choose_undo([first, second], first.restore_id)
    assert choose_undo([first, second], "latest") == second
    undone = record(stamp=second.restore_id, state=RestoreState.UNDONE)
    assert choose_undo([first, undone], "latest") == first


def test_what_is_over_or_unknown_cannot_be_undone():
    discarded = record(state=RestoreState.DISCARDED)
    with pytest.raises(Refused, match="cannot be undone: it is discarded"):
        choose_undo([discarded], STAMP)
    with pytest.raises(
        Refused, match=r"no restore for which this is possible; restores of this host: 2026.*discarded"
    ):
        choose_undo([discarded], "latest")
    with pytest.raises(Refused, match="there is no restore 20200101T000000Z; restores of this host: none"):
        choose_undo([], "20200101T000000Z")


def finished_restore(host: Host, stamp: str, days: float = 0) -> tuple[Path, Path]:
    """A restore that set a folder aside and kept a WAL folder, so many days ago."""
    folder = host.repository.restores(host.name) / stamp
    data = host.repository.root.parent / f"data-{stamp}"
    (folder / "wal").mkdir(parents=True)
    data.mkdir()
    journal = Journal.begin(folder, stamp, host.name, {})
    aside = data.with_name(f"{data.name}.before-restore-{stamp}")
    rename(journal, data, aside)
    journal.state(RestoreState.COMPLETED)
    age(journal.path, days)
    return aside, folder


def test_what_was_set_aside_goes_at_its_age_only_when_an_age_is_set(tmp_path):
    env = tmp_path / "env"
    env.touch(0o600)
    places = f"BACKUP_DIR={tmp_path}/backup\nALF_BASE_DIR={tmp_path}\nALF_HOST_NAME=demo\n"
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\n{places}")
    never = load_host(env)
    old, folder = finished_restore(never, "20200101T000000Z", days=31)
    new, _ = finished_restore(never, make_stamp(utc_now()))
    said: list[str] = []
    assert discard_expired(never, said.append) == [] and old.exists()
    env.write_text(f"{env.read_text()}SET_ASIDE_DAYS=30\n")
    older, _ = finished_restore(never, "20190101T000000Z", days=31)
    older.rename(older.with_name("elsewhere"))
    older.mkdir()
    assert discard_expired(load_host(env), said.append) == [old, folder / "wal"]
    assert len(said) == 1 and f"{older} is not what restore 20190101T000000Z set aside" in said[0]
    assert not old.exists() and new.exists()
    assert read_journal(folder / JOURNAL).state is RestoreState.DISCARDED
    assert discard_expired(load_host(env), str) == []


def test_what_an_undo_set_aside_gets_its_age_from_the_undo_not_from_the_restore(tmp_path):
    env = tmp_path / "env"
    env.touch(0o600)
    places = f"BACKUP_DIR={tmp_path}/backup\nALF_BASE_DIR={tmp_path}\nALF_HOST_NAME=demo\n"
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\n{places}SET_ASIDE_DAYS=7\n")
    host, stamp = load_host(env), "20200101T000000Z"
    aside, folder = finished_restore(host, stamp, days=7.1)
    data = aside.with_name(f"data-{stamp}")
    undone = data.with_name(f"{data.name}.undone-{stamp}")
    undone.mkdir()  # the week's changes
    aside.rename(data)
    journal = Journal(folder / JOURNAL)
    journal.state(RestoreState.UNDOING)
    assert discard_expired(host, str) == []
    journal.state(RestoreState.UNDONE)
    assert discard_expired(host, str) == [] and undone.exists()
    age(journal.path, 7)
    journal.state(RestoreState.DISCARDING)  # as when removing it was interrupted: the next backup goes on
    assert discard_expired(host, str) == [undone, folder / "wal"] and data.exists()


@contextmanager
def few_open_files() -> Iterator[None]:
    """Not enough to go down a deep tree, which stops root, too."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 30, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_was_removed_in_part_is_never_put_back_and_goes_at_the_next_try(tmp_path):
    env = tmp_path / "env"
    env.touch(0o600)
    places = f"BACKUP_DIR={tmp_path}/backup\nALF_BASE_DIR={tmp_path}\nALF_HOST_NAME=demo\n"
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\n{places}")
    aside, folder = finished_restore(load_host(env), STAMP)
    kept = folder / "wal"
    kept.joinpath(*["d"] * 300).mkdir(parents=True)
    (begun,) = list_restores(folder.parent)
    with few_open_files(), pytest.raises(BackupError, match="could not be removed") as failure:
        discard(begun)
    assert failure.value.hint == discard_command(STAMP, "demo")
    (half,) = list_restores(folder.parent)
    assert (half.state, aside.exists()) == (RestoreState.DISCARDING, False)
    with pytest.raises(Refused, match="it is partly discarded"):
        choose_undo([half], STAMP)
    with pytest.raises(Refused, match="was discarded; restore a backup"):
        make_undo_plan(half)
    assert discard(choose_discard([half], "latest")) == [kept]
    assert read_journal(folder / JOURNAL).state is RestoreState.DISCARDED


def test_nothing_of_an_unfinished_restore_can_be_discarded():
    with pytest.raises(Refused, match="it is unfinished") as refusal:
        choose_discard([record()], STAMP)
    assert refusal.value.hint == undo_command(STAMP, "demo")
    done = record(state=RestoreState.UNDONE)
    assert choose_discard([done], "latest") == done
