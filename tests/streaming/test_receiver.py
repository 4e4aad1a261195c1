"""The receiver beside archive_command and in its place: what arrives, and what it survives. Real servers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alfresco_backup.backup.make import base_backup
from alfresco_backup.doctor.archive import check_streaming
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.host.host import load_host
from alfresco_backup.notify.messages import RunFacts, streaming_mail
from alfresco_backup.postgres.wal_files import Segment
from alfresco_backup.preflight.database import check_database
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.streaming import slot
from alfresco_backup.streaming.report import SUBJECT, guard_streaming, judge_streaming, streaming_of
from alfresco_backup.streaming.slot import drop_slot, make_slot, read_slot, slot_name
from alfresco_backup.streaming.state import ReceiverState, read_receiver_state
from alfresco_backup.times import utc_now
from alfresco_backup.wal.observe import audit_host
from demo.host import DemoHost
from tasks.backup.wal_audit import with_streaming
from tests.support.common import every_version, full_disk, run_on, temporary_demo_host, wait_until
from tests.support.streaming import (
    Receiver,
    archived,
    commit,
    folder,
    is_active,
    received,
    receiving,
    set_settings,
    wire_to,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(slow: None) -> Iterator[DemoHost]:
    with temporary_demo_host(documents=20) as host:
        host.cluster.sql("SELECT pg_create_physical_replication_slot('of_a_standby')")
        base_backup(run_on(host), lambda *_: None)
        set_settings(host, WAL_STREAMING="yes")
        yield host


def switch(demo: DemoHost, word: str) -> str:
    """Commit something and finish the segment it is in; its name."""
    commit(demo, word)
    return demo.cluster.switch_segment()


def wait_archived(demo: DemoHost, name: str) -> None:
    wait_until(lambda: name in archived(demo), f"{name} is archived: {archived(demo)}", 120)


def test_finished_segments_arrive_once_beside_archive_command(demo: DemoHost) -> None:
    with receiving(demo) as receiver:
        first = switch(demo, "beside")
        wait_archived(demo, first)
        wait_until(lambda: not (folder(demo) / f"{first}.partial").exists(), receiver.said)
        last = switch(demo, "beside again")
        wait_until(lambda: first not in received(demo), lambda: f"{first} leaves: {received(demo)}")
        wait_archived(demo, last)
        wait_until(lambda: noted(demo).heard_at, lambda: f"it catches up: {receiver.said}")
        assert receiver.stop() == 0
    assert audited(demo) == ()
    names = archived(demo)
    assert len(names) == len(set(names)), "a segment is stored twice"
    failed = demo.cluster.sql("SELECT failed_count FROM pg_stat_archiver")
    assert failed == [("0",)]
    assert (folder(demo) / last).stat().st_size == 16 << 20, "the newest stays: it tells where to go on"
    slots = {name for (name,) in demo.cluster.sql("SELECT slot_name FROM pg_replication_slots")}
    assert slots == {"of_a_standby", slot_name(demo.name)}


def audited(demo: DemoHost) -> tuple[str, ...]:
    """The errors of the audit that runs every quarter of an hour, the stream's among them."""
    host = load_host(demo.env_file)
    return tuple(item.line for item in with_streaming(host, audit_host(host)).errors)


def test_it_goes_on_after_a_kill_and_after_a_restart_of_the_server(demo: DemoHost) -> None:
    with receiving(demo) as receiver:
        assert receiver.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not is_active(demo), "pg_receivewal dies with it")
    names = [switch(demo, f"while it is down {number}") for number in range(3)]
    with receiving(demo) as receiver:
        demo.cluster.stop()
        demo.cluster.start()
        names.append(switch(demo, "after the restart"))
        receiver.wait_active()
        wait_until(lambda: names[-1] in received(demo), lambda: f"{names[-1]} arrives: {receiver.said}")
        assert receiver.stop() == 0
    assert set(names) <= set(archived(demo))


def test_it_replaces_archive_command(demo: DemoHost) -> None:
    demo.cluster.sql("ALTER SYSTEM SET archive_mode = off")
    demo.cluster.stop()
    demo.cluster.start()
    try:
        with receiving(demo):
            name = switch(demo, "without archive_command")
            wait_archived(demo, name)
            assert (demo.wal_archive / f"{name}.zst").is_file()
            host = load_host(demo.env_file)
            found = {item.subject: item for item in check_database(host)}
            assert found["archive_mode"].sentence == "is off; WAL is streamed"
            assert {item.level for item in found.values()} <= {"ok", "warning"}
            made = base_backup(run_on(demo), lambda *_: None)
            assert made.stop_wal in archived(demo)
            assert audited(demo) == ()
        wait_until(lambda: not is_active(demo), "it has ended")
        hour = [switch(demo, f"five minutes without it {number}") for number in range(12)]
        assert not set(hour) & set(archived(demo)), "nobody else archives"
        set_settings(demo, WAL_STREAMING_MAX_LAG_SECONDS="1")
        (down,) = wait_until(lambda: audited(demo), "it is down for too long", 60)
        assert re.search(r"WAL streaming.*the receiver is down; the server keeps \d{3}\.\d MiB of WAL", down)
        set_settings(demo, WAL_STREAMING_MAX_LAG_SECONDS="300")
        with receiving(demo):
            wait_archived(demo, hour[-1])
            assert set(hour) <= set(archived(demo))
            wait_until(lambda: not audited(demo), lambda: f"it has caught up: {audited(demo)}")
            assert audit_host(load_host(demo.env_file)).gaps == ()
    finally:
        set_settings(demo, WAL_STREAMING_MAX_LAG_SECONDS="300")
        demo.cluster.sql("ALTER SYSTEM RESET archive_mode")
        demo.cluster.stop()
        demo.cluster.start()


def test_a_partial_file_of_an_odd_size_does_not_stop_it(demo: DemoHost) -> None:
    with receiving(demo) as receiver:
        wait_until(lambda: any(name.endswith(".partial") for name in received(demo)), "it writes")
        receiver.stop()
    (partial,) = folder(demo).glob("*.partial")
    os.truncate(partial, 5000)
    with receiving(demo) as receiver:
        wait_archived(demo, switch(demo, "after an odd size"))
        assert f"{partial.name} was moved to" in receiver.said


def test_a_full_disk_delays_it_only(demo: DemoHost) -> None:
    with receiving(demo) as receiver:
        receiver.stop()
    with full_disk(1 << 20):
        receiver = Receiver(demo)
    try:
        name = switch(demo, "while the disk is full")
        wait_until(
            lambda: "pg_receivewal ended" in receiver.said or "File too large" in receiver.said,
            "it fails",
            120,
        )
    finally:
        receiver.process.kill()
        receiver.process.wait()
    with receiving(demo):
        wait_until(lambda: name in received(demo), lambda: f"{name} arrives: {received(demo)}", 120)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Callable[[str], None]]:
    """An empty tmpfs there, for the account that owns the place; what is called with a size resizes it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    owner = place.stat()
    options = f"mode=0700,uid={owner.st_uid},gid={owner.st_gid},size="
    mount = ["mount", "-t", "tmpfs", "-o", f"{options}{size}", "none", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let root mount a file system")

    def resize(new: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={new}", str(place)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_behind_its_first_segment_is_told_and_nothing_is_missing_later(
    demo: DemoHost,
) -> None:
    with receiving(demo) as receiver:
        receiver.stop()
    for path in folder(demo).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with small_disk(folder(demo), "24m") as resize, receiving(demo) as receiver:
        names = [switch(demo, f"on a small disk {number}") for number in range(3)]
        state = wait_until(lambda: (found := noted(demo)).error and found, lambda: receiver.said, 120)
        assert "No space left on device" in state.error and state.failing_since
        assert names[-1] not in received(demo)
        resize("200m")
        wait_until(lambda: names[-1] in received(demo), lambda: f"it arrives: {receiver.said}", 120)
        wait_until(lambda: not noted(demo).error, "that it is well again is noted", 120)
        assert audited(demo) == ()
        assert not noted(demo).lost
        receiver.stop()


def test_a_network_that_is_cut_and_one_that_forgets_its_connections_delay_it_only(demo: DemoHost) -> None:
    with wire_to(demo) as (wire, env_file), receiving(demo, env_file) as receiver:
        wire.cut()
        wait_until(lambda: not is_active(demo), "the server notices")
        report = streaming_of(load_host(demo.env_file).settings, utc_now())
        assert report is not None and report.sentence.startswith("the receiver is down; the server keeps ")
        name = switch(demo, "while the network is cut")
        wire.mend()
        wait_until(lambda: name in received(demo), lambda: f"{name} arrives: {receiver.said}", 120)
        demo.cluster.sql("ALTER SYSTEM SET wal_sender_timeout = 3000")
        demo.cluster.reload()
        wire.forget()
        wait_until(lambda: not is_active(demo), "the server gives the receiver up", 120)
        name = switch(demo, "while the receiver waits for a dead connection")
        wait_until(lambda: name in received(demo), lambda: f"{name} arrives: {receiver.said}", 120)
        assert "the server has no connection of the receiver" in receiver.said
        demo.cluster.sql("ALTER SYSTEM RESET wal_sender_timeout")
        demo.cluster.reload()
        wait_until(lambda: not audited(demo), lambda: f"it is well: {audited(demo)}", 60)


def test_a_receiver_that_hangs_is_as_far_behind_as_it_hangs_whatever_lag_was_measured_last(
    demo: DemoHost,
) -> None:
    host = load_host(demo.env_file)
    if host.server.major < 120000:
        pytest.skip("before 12 the server does not say when it last heard of a receiver")
    settings = host.settings.model_copy(update={"wal_streaming_max_lag_seconds": 2})
    with receiving(demo) as receiver:
        commit(demo, "while it is well")
        wait_until(lambda: (found := read_slot(host)) and found.lag is not None, "the server has measured")
        program = receiver.program
        os.kill(program, signal.SIGSTOP)
        try:
            commit(demo, "while it hangs")
            report = wait_until(
                lambda: (found := streaming_of(settings, utc_now())).findings[0].level == "error" and found,
                "the alarm",
            )
        finally:
            os.kill(program, signal.SIGCONT)
        slot = report.slot
        assert slot is not None and slot.age is not None and slot.lag is not None
        assert slot.age > 2.0 and slot.age > slot.lag
        assert report.sentence.startswith("commits are safe up to ") and slot.behind
        wait_until(lambda: streaming_of(settings, utc_now()).findings[0].level == "ok", "it goes on")


def test_a_slot_that_is_dropped_under_the_receiver_is_made_again_and_nothing_is_missing(
    demo: DemoHost,
) -> None:
    with receiving(demo) as receiver:
        switch(demo, "with the first slot")
        drop_slot(load_host(demo.env_file))
        name = switch(demo, "without a slot")
        receiver.wait_active()
        wait_until(lambda: name in received(demo), lambda: f"{name} arrives: {receiver.said}", 120)
        wait_until(lambda: not noted(demo).error, "that it is well again is noted", 120)
        assert audited(demo) == ()
        assert not noted(demo).lost


def test_status_says_how_far_behind_the_commits_are_and_alarms_when_it_is_down(demo: DemoHost) -> None:
    settings = load_host(demo.env_file).settings.model_copy(update={"wal_streaming_max_lag_seconds": 1})
    with receiving(demo) as receiver:
        commit(demo, "measured")
        wait_until(
            lambda: noted(demo).heard_at and not noted(demo).error,
            lambda: f"it notes that it is heard: {receiver.said}",
        )
        report = read_status(settings, utc_now())
        assert report.streaming is not None and report.streaming.problems == ()
        assert re.match(r"commits are safe up to (\d+ ms|0 bytes) behind", report.streaming.sentence)
        assert f"WAL streaming: {report.streaming.sentence}" in status_text(report)
        receiver.stop()
    wait_until(lambda: not is_active(demo), "the server notices")
    report = wait_until(
        lambda: (found := read_status(settings, utc_now())).streaming.alarms and found, "the alarm", 60
    )
    (alarm,) = report.streaming.alarms
    assert alarm.sentence.startswith("the receiver is down; the server keeps ")
    assert "systemctl restart wal-receiver@demo" in alarm.fix
    assert report.exit_code in (5, 6)
    set_settings(demo, WAL_STREAMING_MAX_LAG_SECONDS="1")
    host = load_host(demo.env_file)
    assert [item for item in with_streaming(host, audit_host(host)).errors if item.subject == SUBJECT]
    argv = [sys.executable, "deployments/freshness", str(demo.env_file), "--no-mail"]
    done = subprocess.run(argv, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "WAL streaming: the receiver is down; " in done.stdout
    (mail,) = [
        streaming_mail(facts_of_mail(demo), [(item.line, item.fix) for item in report.streaming.alarms])
    ]
    assert "WAL streaming needs attention" in mail.subject and "wal-receiver@demo" in mail.body
    set_settings(demo, WAL_STREAMING_MAX_LAG_SECONDS="300")


def facts_of_mail(demo: DemoHost) -> RunFacts:
    return RunFacts(demo.name, "", "backup", "deployments/freshness", "is overdue", utc_now())


def test_a_whole_segment_that_only_the_receiver_has_counts_as_covered(demo: DemoHost) -> None:
    with receiving(demo) as receiver:
        last = switch(demo, "in its folder only")
        wait_archived(demo, last)
        wait_until(lambda: last in received(demo), lambda: f"{last} stays: {received(demo)}")
        receiver.stop()
    (stored,) = demo.wal_archive.glob(f"{last}*")
    stored.rename(demo.directory / stored.name)
    audit = audit_host(load_host(demo.env_file), ask_server=False)
    (demo.directory / stored.name).rename(stored)
    names = {audit.wal.name_of(Segment(1, number)) for number in audit.wal.times[1]}
    assert last in names
    assert audit.gaps == ()


def test_what_the_archive_refuses_is_told_and_does_not_stop_the_stream(demo: DemoHost) -> None:
    with receiving(demo) as receiver:
        demo.cluster.sql("ALTER SYSTEM SET archive_command = '/bin/true'")
        demo.cluster.reload()
        commit(demo, "begins the segment")  # at the end of one the server names that one
        name = demo.cluster.current_segment()
        (demo.wal_archive / name).write_bytes(b"another server's")
        first = switch(demo, "refused")
        later = switch(demo, "not refused")
        wait_archived(demo, later)
        state = wait_until(lambda: (found := noted(demo)).error and found, lambda: receiver.said, 60)
        assert first == name and f"{name} exists with other content" in state.error
        assert (demo.wal_archive / name).read_bytes() == b"another server's"
        (demo.wal_archive / name).unlink()
        wait_until(lambda: name in archived(demo), lambda: f"it is tried again: {receiver.said}", 120)
        wait_until(lambda: not noted(demo).error, "that is noted, too", 120)
        demo.cluster.sql("ALTER SYSTEM RESET archive_command")
        demo.cluster.reload()


def test_wal_that_is_gone_with_the_slot_is_told_and_the_next_set_is_whole(
    demo: DemoHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = load_host(demo.env_file)
    with receiving(demo) as receiver:
        wait_archived(demo, switch(demo, "before"))
        receiver.stop()
    demo.cluster.sql("ALTER SYSTEM SET archive_command = '/bin/true'")
    demo.cluster.reload()
    wait_until(lambda: not is_active(demo), "the server notices")
    monkeypatch.setattr(slot, "_room", lambda _folder: (1 << 30, 1 << 34))
    assert guard_streaming(host) == "", "it keeps less than is free, so it is not what fills the disk"
    gone = [switch(demo, f"gone {number}") for number in range(3)]
    monkeypatch.setattr(slot, "_room", lambda _folder: (1 << 20, 1 << 34))
    dropped = guard_streaming(host)
    assert dropped.startswith("replication slot alfresco_backup_demo was dropped: it kept ")
    assert demo.cluster.sql("SELECT slot_name FROM pg_replication_slots") == [("of_a_standby",)]
    monkeypatch.undo()
    for _ in range(3):
        demo.cluster.sql("CHECKPOINT")
        switch(demo, "after")
    with receiving(demo) as receiver:
        state = wait_until(lambda: (found := noted(demo)).lost and found, lambda: receiver.said, 60)
        assert "the server has removed the WAL before it" in state.lost
        wait_archived(demo, switch(demo, "received again"))
        assert not set(gone) <= set(archived(demo))
        demo.cluster.sql("ALTER SYSTEM RESET archive_command")
        demo.cluster.reload()
        made = base_backup(run_on(demo), lambda *_: None)
        report = judge_streaming(host.settings, read_slot(host), "", noted(demo), utc_now())
        assert [item.level for item in report] == ["ok", "warning"] and state.lost in report[1].sentence
    audit = audit_host(host)
    missing = set(gone) - set(archived(demo))
    assert all(any(gap.first <= name <= gap.last for gap in audit.gaps) for name in missing)
    windows = {item.stamp: item for item in audit.bases}
    assert windows[made.stamp].intervals and not windows[made.stamp].gaps


def noted(demo: DemoHost) -> ReceiverState:
    return read_receiver_state(load_host(demo.env_file).repository) or ReceiverState("")


def configured(demo: DemoHost, *words: str) -> dict[str, Any]:
    argv = [
        sys.executable,
        "-m",
        "alfresco_backup",
        "configure",
        *words,
        "--json",
        "--env",
        str(demo.env_file),
    ]
    done = subprocess.run(
        argv, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, timeout=300, check=False
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_configure_sets_it_up_and_undoes_it_and_doctor_checks_it(demo: DemoHost) -> None:
    wait_until(lambda: not is_active(demo), "no receiver runs")
    demo.cluster.sql(f"SELECT pg_drop_replication_slot('{slot_name(demo.name)}')")
    set_settings(demo, WAL_STREAMING="no")
    before = demo.env_file.read_text()
    unasked = [item["subject"] for item in configured(demo)["changes"]]
    assert not {".env", f"replication slot {slot_name(demo.name)}"} & set(unasked)
    context = CheckContext(load_host(demo.env_file), demo.env_file, utc_now(), {})
    assert check_streaming(context) == []
    applied = configured(demo, "--wal-streaming", "--apply")
    assert [item["subject"] for item in applied["changes"]][-2:] == [
        ".env",
        f"replication slot {slot_name(demo.name)}",
    ]
    assert load_host(demo.env_file).settings.wal_streaming
    with receiving(demo) as receiver:
        context = CheckContext(load_host(demo.env_file), demo.env_file, utc_now(), {})
        good = {item.subject: item for item in check_streaming(context)}
        assert {item.level for item in good.values()} == {"ok"}
        assert good["replication slot"].sentence.startswith("nothing limits the WAL it keeps")
        assert good["pg_receivewal"].sentence.startswith("is that of /")
        receiver.stop()
    wait_until(lambda: not is_active(demo), "it has ended")
    assert configured(demo)["changes"] == applied["changes"][:-2]
    set_settings(demo, WAL_STREAMING="no")
    context = CheckContext(load_host(demo.env_file), demo.env_file, utc_now(), {})
    assert [item.sentence for item in check_streaming(context)] == [
        "alfresco_backup_demo keeps WAL that nobody receives: WAL_STREAMING is no"
    ]
    (left,) = [item for item in configured(demo)["changes"] if item["subject"].startswith("replication slot")]
    assert left["new"] == "dropped"
    set_settings(demo, WAL_STREAMING="yes")
    configured(demo, "--undo")
    assert demo.env_file.read_text() == before
    assert demo.cluster.sql("SELECT slot_name FROM pg_replication_slots") == [("of_a_standby",)]


def test_it_ends_once_streaming_is_turned_off_and_configure_drops_the_slot(demo: DemoHost) -> None:
    with receiving(demo) as receiver:
        set_settings(demo, WAL_STREAMING="no")
        assert receiver.process.wait(120) == 3
        assert "WAL streaming is not set up" in receiver.said
    wait_until(lambda: not is_active(demo), "it has ended")
    configured(demo, "--apply")
    assert demo.cluster.sql("SELECT slot_name FROM pg_replication_slots") == [("of_a_standby",)]
    set_settings(demo, WAL_STREAMING="yes")


@every_version
def test_the_slot_is_made_read_and_dropped_on_every_version(bindir: Path) -> None:
    with temporary_demo_host(bindir, documents=1) as demo:
        host = load_host(demo.env_file)
        assert read_slot(host) is None
        make_slot(host)
        found = read_slot(host)
        assert found is not None and not found.active
        assert (found.flushed, found.age, found.silence) == (None, None, None)
        assert found.restart is not None and found.restart <= found.current
        drop_slot(host)
        assert read_slot(host) is None
