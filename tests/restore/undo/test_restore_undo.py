"""Undoing, discarding, accepting: data moved, removed or worked in meanwhile; documents afterwards."""

import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from alfresco_backup.cli.restore_arguments import Order
from alfresco_backup.cli.restore_prompts import Dialogue, Offer
from alfresco_backup.errors import BackupError, DocumentsMissing, Refused, ToolFailed
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.postgres.conf_file import AUTO_CONF
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.journal.journal import Journal
from alfresco_backup.restore.journal.journal_record import Record, Renamed, RestoreState, list_restores
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.recovery.recovery_settings import RESTRICTED_FILES, without_block
from alfresco_backup.restore.undo.undo_plan import accept_lines, choose_accept
from alfresco_backup.settings.commands import accept_command, discard_command, undo_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from demo.host import DemoHost
from flows.backup import backup
from flows.restore_contentstore import restore_contentstore
from flows.undo_restore import undo_restore
from tasks.restore.undo import discard, find_restore, undo, undo_text
from tests.support.common import full_disk, temporary_demo_host
from tests.support.repository_on_disk import sets_until_an_hour_ago
from tests.support.restoring import forget_slot, killed_restore, loaded, restores_of

EXECUTE = {"mode": "execute", "confirm": "demo"}
STAMP = "20261122T020000Z"
OTHER_DEVICE = 1


@dataclass(frozen=True)
class Aside:
    """A restore that set a folder aside; nothing else was done."""

    host: Host
    data: Path
    journal: Journal

    @property
    def target(self) -> Path:
        return self.data.with_name(f"{self.data.name}.before-restore-{STAMP}")

    def record(self) -> Record:
        (record,) = list_restores(self.journal.path.parent.parent)
        return record

    def set_aside(self, *, link: bool = False, device: int = 0) -> None:
        if link:
            (self.data.parent / "elsewhere").mkdir()
            self.data.symlink_to("elsewhere")
        else:
            self.data.mkdir()
        (self.data / "old").touch()
        status = self.data.lstat()
        self.journal.act(Renamed(self.data, self.target, status.st_dev + device, status.st_ino))
        self.data.rename(self.target)


@pytest.fixture
def aside(tmp_path: Path) -> Aside:
    env = tmp_path / "env"
    env.touch(0o600)
    places = f"BACKUP_DIR={tmp_path}/backup\nALF_BASE_DIR={tmp_path}\nALF_HOST_NAME=demo\n"
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\n{places}")
    host = load_host(env)
    folder = host.repository.restores("demo") / STAMP
    folder.mkdir(parents=True)
    return Aside(host, tmp_path / "data", Journal.begin(folder, STAMP, "demo", {}))


def test_data_whose_disk_got_another_number_at_a_reboot_is_put_back(aside: Aside) -> None:
    aside.set_aside(device=OTHER_DEVICE)
    undo(aside.host, find_restore(aside.host, STAMP, discard=False), str)
    assert (aside.data / "old").exists() and not aside.target.exists()
    undo(aside.host, aside.record(), str)  # as after an undo that broke off at its very end
    assert (aside.data / "old").exists()


def test_discarding_refuses_what_something_is_mounted_in_before_anything_is_removed(
    aside: Aside, bind: Callable[[Path, Path], None]
) -> None:
    aside.set_aside()
    bind(aside.data.with_name("volume"), aside.target / "mounted")
    aside.journal.state(RestoreState.COMPLETED)
    with pytest.raises(BackupError, match=f"{aside.target}/mounted is mounted in {aside.target}"):
        discard(aside.record())
    assert (aside.target / "old").exists() and aside.record().state is RestoreState.COMPLETED


def test_an_undo_that_a_full_disk_keeps_from_beginning_touches_nothing_and_says_what_to_do(
    aside: Aside,
) -> None:
    aside.set_aside()
    said = r"journal\.jsonl cannot be written: .*File too large"
    for work, again in (
        (partial(undo, aside.host, aside.record(), str), undo_command(STAMP, "demo")),
        (partial(discard, aside.record()), discard_command(STAMP, "demo")),
    ):
        with full_disk(), pytest.raises(BackupError, match=said) as failure:
            work()
        folder = aside.journal.path.parent
        assert failure.value.hint == f"df -h {folder}; df -i {folder}\n{again}"
        assert (aside.target / "old").exists() and aside.record().state is RestoreState.UNFINISHED
    undo(aside.host, aside.record(), str)
    assert (aside.data / "old").exists()


def test_data_whose_disk_got_another_number_at_a_reboot_is_discarded(aside: Aside) -> None:
    aside.set_aside(device=OTHER_DEVICE)
    aside.journal.state(RestoreState.COMPLETED)
    assert discard(aside.record()) == [aside.target]
    assert not aside.target.exists()


def test_a_discard_never_passes_over_something_else_in_the_place_of_what_was_set_aside(aside: Aside) -> None:
    aside.set_aside()
    aside.journal.state(RestoreState.COMPLETED)
    aside.target.rename(aside.data)
    aside.target.mkdir()
    with pytest.raises(BackupError, match=f"{aside.target} is not what restore {STAMP} set aside"):
        discard(aside.record())
    assert aside.record().state is RestoreState.COMPLETED and aside.target.exists()


def test_of_a_link_that_was_set_aside_only_the_link_is_discarded(aside: Aside) -> None:
    aside.set_aside(link=True)
    aside.journal.state(RestoreState.COMPLETED)
    assert discard(aside.record()) == [aside.target]
    assert not aside.target.is_symlink()
    assert (aside.data.parent / "elsewhere/old").exists()


@pytest.mark.parametrize(
    ("state", "way_out"),
    [
        (RestoreState.UNFINISHED, accept_command),
        (RestoreState.UNDOING, accept_command),
        (RestoreState.COMPLETED, discard_command),
    ],
)
def test_set_aside_data_that_somebody_removed_refuses_the_undo_and_names_the_way_out(
    aside: Aside, state: RestoreState, way_out: Callable[[str, str], str]
) -> None:
    aside.set_aside()
    aside.journal.state(state)
    (aside.target / "old").unlink()
    aside.target.rmdir()
    with pytest.raises(Refused, match="is neither there nor at") as refusal:
        find_restore(aside.host, STAMP, discard=False)
    assert refusal.value.hint.splitlines()[1].startswith(
        f"{way_out(STAMP, 'demo')}  # only if it was removed"
    )
    assert aside.record().state is state


def test_an_accepted_restore_is_complete_and_what_it_left_out_stays_written(aside: Aside) -> None:
    aside.journal.path.unlink()
    steps = ["recover-database", "check-content", "start-alfresco"]
    journal = Journal.begin(aside.journal.path.parent, STAMP, "demo", {"steps": steps})
    for step, error in (("recover-database", ""), ("check-content", "the disk is full")):
        journal.step_started(step)
        journal.step_ended(step, 1, error)
    record = choose_accept([aside.record()], "latest")
    assert record.not_done == ("check-content", "start-alfresco")
    assert accept_lines(record)[0] == "steps not done: check-content, start-alfresco"
    assert "steps not done: check-content, start-alfresco\n" in undo_text(record, discard=False, accept=True)
    journal.accept(record.not_done)
    done = aside.record()
    assert (done.state, done.completed) == (RestoreState.COMPLETED, True)
    assert '"not_done": ["check-content", "start-alfresco"]' in journal.path.read_text()
    with pytest.raises(Refused, match="is completed; only an unfinished one can be accepted"):
        choose_accept([done], STAMP)
    with pytest.raises(Refused, match="discard and accept exclude each other"):
        find_restore(aside.host, STAMP, discard=True, accept=True)


@pytest.mark.parametrize(
    ("state", "second"), [(RestoreState.UNFINISHED, "accept"), (RestoreState.COMPLETED, "discard")]
)
def test_the_dialogue_offers_what_the_state_of_a_restore_allows(
    aside: Aside, monkeypatch: pytest.MonkeyPatch, state: RestoreState, second: str
) -> None:
    aside.journal.state(state)
    console = Console(file=StringIO(), width=120)
    offer = Offer("demo", Catalogue(), "restorable from X to Y", (aside.record(),))
    monkeypatch.setattr("sys.stdin", StringIO("undo\n1\n2\n"))
    order = Dialogue(console, offer).ask_order()
    accept = second == "accept"
    assert order == Order("undo", backup=STAMP, discard=not accept, accept=accept)


def test_the_dialogue_offers_the_off_site_copy_where_one_is_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (sets_until_an_hour_ago(tmp_path / name) for name in ("here", "there"))
    there.run("30m")
    catalogue, far = (read_catalogue(disk.repository) for disk in (here, there))
    console = Console(file=StringIO(), width=120)
    for typed, source, of in (("offsite", "offsite", far), ("1", "local", catalogue)):
        offer = Offer("demo", catalogue, "restorable from X to Y", (), lambda: far)
        monkeypatch.setattr("sys.stdin", StringIO(f"full\n{typed}\n1\n1\nyes\n"))
        order = Dialogue(console, offer).ask_order()
        assert (order.source or "local", order.backup) == (source, of.complete_sets[-1].stamp)
        assert ("--source offsite" in order.command()) is (source == "offsite")
    monkeypatch.setattr("sys.stdin", StringIO("full\n1\n1\nyes\n"))
    assert Dialogue(console, Offer("demo", catalogue, "", ())).ask_order().source is None


@pytest.fixture(scope="module")
def demo(prefect_server: None) -> Iterator[DemoHost]:
    """A running host with one set."""
    with temporary_demo_host(documents=40) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        backup()
        host.writer.close()
        yield host


def test_a_restore_finished_by_hand_is_accepted_once_its_database_is_open(demo: DemoHost) -> None:
    entry = {"entry": "step-end", "step": Step.RESTORE_CONTENT.value}
    assert killed_restore(demo, "restore_full", entry, 1, EXECUTE)
    forget_slot(demo)
    with pytest.raises(Refused, match="was interrupted; this host is only partly restored") as refusal:
        backup(components=["contentstore"])
    (record,) = restores_of(demo)
    assert accept_command(record.restore_id, "demo") in refusal.value.hint
    demo.stop()
    end_recovery(demo)
    assert "steps not done: check-content" in undo_restore(accept=True)
    with pytest.raises(Refused, match="cannot be accepted: the database does not answer"):
        undo_restore(accept=True, **EXECUTE)
    assert restores_of(demo)[0].state is RestoreState.UNFINISHED
    demo.start()
    said = undo_restore(accept=True, **EXECUTE)
    assert f"restore {record.restore_id} of demo counts as complete; steps not done: check-content" in said
    assert "all are there" in said
    backup(components=["contentstore"])
    undo_restore(discard=True, **EXECUTE)
    assert [item.state for item in restores_of(demo)] == [RestoreState.DISCARDED]


def end_recovery(demo: DemoHost) -> None:
    """The end of the recovery as the documents describe it, but for the restart."""
    auto_conf = demo.cluster.directory / AUTO_CONF
    auto_conf.write_text(without_block(auto_conf.read_text()))
    for name in RESTRICTED_FILES:
        (demo.cluster.directory / name).unlink()


@pytest.mark.parametrize("opening_begun", [False, True])
def test_a_database_that_a_restore_left_closed_is_opened_when_it_is_accepted(
    demo: DemoHost, opening_begun: bool
) -> None:
    entry = {"entry": "step-end", "step": Step.CHECK_CONTENT.value}
    assert killed_restore(demo, "restore_full", entry, 1, EXECUTE)
    forget_slot(demo)
    with pytest.raises(ToolFailed, match=r"pg_hba\.conf rejects connection"):
        loaded(demo).database.value("SELECT 1")
    if opening_begun:
        end_recovery(demo)
    assert "it is restarted with its normal pg_hba.conf" in undo_restore(accept=True)
    said = undo_restore(accept=True, **EXECUTE)
    assert "steps not done: compare-configuration, set-aside-indexes, open-database, start-alfresco" in said
    assert "all are there" in said
    assert not any((demo.cluster.directory / name).exists() for name in RESTRICTED_FILES)
    demo.start("tomcat")
    assert demo.answer().endswith(" documents")
    undo_restore(**EXECUTE)
    assert demo.answer().endswith(" documents")


def test_documents_written_since_a_store_was_replaced_are_named_by_its_undo_and_can_be_brought_back(
    demo: DemoHost,
) -> None:
    restore_contentstore(contentstore="replace", **EXECUTE)
    newer = demo.writer.add(3)
    demo.writer.close()
    record = restores_of(demo)[-1]
    with pytest.raises(DocumentsMissing, match="3 documents missing") as missing:
        undo_restore(**EXECUTE)
    assert missing.value.exit_code == 4
    assert restores_of(demo)[-1].state is RestoreState.UNDONE
    store = demo.layout.contentstore
    kept = store.with_name(f"{store.name}.undone-{record.restore_id}")
    (line,) = [line for line in missing.value.hint.splitlines() if str(kept) in line]
    assert line.endswith("# copies those written since the restore")
    subprocess.run(shlex.split(line, comments=True), check=True)
    assert all((store / document.path).exists() for document in newer.documents)
