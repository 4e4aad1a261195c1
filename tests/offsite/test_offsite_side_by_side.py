"""Backup IDs of which hardly anything is new are sent side by side, each of them as one snapshot."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError
from alfresco_backup.offsite.copy import (
    AT_ONCE,
    Sent,
    Watching,
    begin,
    read_own,
    send_set,
    send_side_by_side,
    this_machine,
)
from alfresco_backup.offsite.far import FarSide, tags_of
from alfresco_backup.offsite.shipments import Shipment, plan_copy
from alfresco_backup.repository.catalogue import read_catalogue
from tests.support.catalogues import age
from tests.support.far_sides import FarDisk
from tests.support.repository_on_disk import DAYS

HOURS = ("6h", "5h", "4h", "3h", "2h", "1h")
HOT = DAYS[-1]
RESTIC = """#!/bin/sh
case " $* " in *" backup "*) ;; *) exec /usr/bin/restic "$@";; esac
noted={folder}
: >$noted/live/$$; echo $$ >$noted/begun/$$; echo "$*" >>$noted/calls
{what}
find $noted/live -type f | wc -l >>$noted/beside
/usr/bin/restic "$@"; code=$?
rm $noted/live/$$; exit $code
"""
UNTIL_ALL = """
turns=0; until [ "$(find $noted/begun -type f | wc -l)" -ge 4 ]; do
    sleep 0.1; turns=$((turns + 1)); [ $turns -lt 1200 ] || exit 9
done
"""


def hourly_sets(folder: Path) -> tuple[FarDisk, list[str]]:
    """A complete set, and hourly ones after it, each of which copied the hot day again."""
    far = FarDisk(folder)
    whole = far.disk.run("2d")
    later = [far.disk.snapshot(far.disk.now - age(hour), copied=(HOT,)).stamp for hour in HOURS]
    return far, [whole, *later]


def planned(far: FarDisk) -> list[tuple[str, bool]]:
    return [
        (item.stamp, item.small) for item in plan_copy(read_catalogue(far.repository), FarSide("alf1", ()))
    ]


def test_what_a_newer_version_of_a_day_contains_too_is_small_and_sent_last(tmp_path: Path) -> None:
    far, (whole, *later, newest) = hourly_sets(tmp_path)
    assert planned(far) == [(whole, False), (newest, False), *((stamp, True) for stamp in later)]


def test_what_the_newest_complete_set_needs_is_not_sent_after_others(tmp_path: Path) -> None:
    far, (first, *later, needed) = hourly_sets(tmp_path)
    complete = far.disk.run("30m")
    newest = far.disk.snapshot(far.disk.now - age("10m"), copied=(HOT,)).stamp
    urgent = [(stamp, False) for stamp in (first, needed, complete, newest)]
    assert planned(far) == [*urgent, *((stamp, True) for stamp in later)]


@pytest.fixture
def restic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a restic in place that does something before it sends; gives the folder of what it notes."""

    def put(what: str) -> Path:
        folder = tmp_path / "noted"
        for name in ("begun", "live", "bin"):
            (folder / name).mkdir(parents=True)
        program = folder / "bin/restic"
        program.write_text(RESTIC.format(folder=folder, what=what))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
        return folder

    return put


def large_sent(far: FarDisk) -> list[Shipment]:
    """The small ones that are left once the large ones are there."""
    shipments = begin(far.host, far.engine)[1]
    for item in shipments:
        if not item.small:
            assert send_set(far.host, far.engine, item, Watching())
    return [item for item in shipments if item.small]


def ended(folder: Path) -> bool:
    return not any(Path("/proc", path.name).exists() for path in (folder / "live").iterdir())


@pytest.mark.slow
def test_some_are_sent_at_once_each_is_a_snapshot_and_they_share_the_bandwidth(
    tmp_path: Path, restic: Callable[[str], Path]
) -> None:
    far, stamps = hourly_sets(tmp_path)
    small = large_sent(far)
    folder = restic(UNTIL_ALL)
    told: list[tuple[float, float]] = []
    sent: list[Sent] = []
    limited = replace(far.engine, bandwidth_limit_kib=10_000)
    watching = Watching(on_progress=lambda done, total: told.append((done, total)))
    send_side_by_side(far.host, limited, small, watching, sent.append)
    assert {item.stamp for item in sent} == {item.stamp for item in small}
    beside = [int(line) for line in (folder / "beside").read_text().split()]
    assert max(beside) == AT_ONCE and len(beside) == len(small)
    calls = (folder / "calls").read_text().splitlines()
    assert all(f"--limit-upload {10_000 // AT_ONCE} " in call for call in calls)
    assert told[-1] == (5, 5) and told == sorted(told)
    there = far.far
    assert len(there.snapshots) == len(stamps) == len(there.sets)
    assert all(read_own(far.host, far.engine).has(item) for item in read_catalogue(far.repository).sets)
    found = {tag for item in json.loads(far.restic("snapshots", "--json").stdout) for tag in item["tags"]}
    named = [tags_of("set", far.identity, id=stamp, machine=this_machine()) for stamp in stamps]
    assert found == {tag for tags in named for tag in tags.split(",")}


@pytest.mark.slow
def test_the_first_error_ends_the_others_and_what_arrived_before_is_told(
    tmp_path: Path, restic: Callable[[str], Path]
) -> None:
    far, _ = hourly_sets(tmp_path)
    small = large_sent(far)
    good, bad = small[0].stamp, small[1].stamp
    folder = restic(
        f"""case "$*" in *{good}*) ;;
        *{bad}*) until [ -e $noted/done-{good} ]; do sleep 0.1; done
            echo "Fatal: the hook of a test" >&2; rm $noted/live/$$; exit 1;;
        *) exec sleep 600;; esac"""
    )
    sent: list[str] = []

    def arrived(item: Sent) -> None:
        sent.append(item.stamp)
        (folder / f"done-{item.stamp}").touch()

    with pytest.raises(BackupError, match="the hook of a test"):
        send_side_by_side(far.host, far.engine, small, Watching(), arrived)
    assert sent == [good] and ended(folder)
    os.environ["PATH"] = "/usr/bin:/bin"
    assert sorted(far.copy()) == [item.stamp for item in small[1:]]
    assert all(read_own(far.host, far.engine).has(item) for item in read_catalogue(far.repository).sets)


@pytest.mark.slow
def test_an_interruption_ends_all_of_them(tmp_path: Path, restic: Callable[[str], Path]) -> None:
    far, _ = hourly_sets(tmp_path)
    small = large_sent(far)
    folder = restic(f'case "$*" in *{small[0].stamp}*) ;; *) exec sleep 600;; esac')

    def interrupt(_: Sent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send_side_by_side(far.host, far.engine, small, Watching(), interrupt)
    assert ended(folder)
