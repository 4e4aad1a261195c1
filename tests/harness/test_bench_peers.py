"""`make bench-peers`: what is missing is named, targets say met or missed, the plot is a picture."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from benchmarks import peers
from benchmarks.__main__ import measurements
from benchmarks.peers_report import STARTS, Row, Target, Timing
from benchmarks.peers_store import SNAPSHOT, Store, attempt, check, store_targets, timed
from tests.support.common import wait_until

WORK = "unchanged, 60,000 files in 17,000 folders"


def row(tool: str, *seconds: float, note: str = "", folders: int = 17_000) -> Row:
    return Row(WORK, tool, [Timing(value, value / 2) for value in seconds], folders=folders, note=note)


def test_an_ordinary_user_is_told_what_is_missing_and_nothing_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    missing = peers.missing_programs()
    assert set(missing) == set(peers.PACKAGES)
    assert missing["borg"] == "the package borgbackup is not installed"
    said = capsys.readouterr().out
    assert "apt-get install rsync restic borgbackup rsnapshot pgbackrest barman" in said


def test_a_target_that_is_missed_stays_in_the_table_with_its_reason_from_what_was_measured(
    tmp_path: Path,
) -> None:
    ours = Row(WORK, "ours", [Timing(1.5, 1.0, 0.25, {"its flush to disk": 0.125})], ours=True)
    walk = Row(WORK, "the bare walk", [Timing(0.2, 0.2)], floor=True)
    start = Row(STARTS, "start of Python", [Timing(1.1, 1.1)], floor=True)
    elsewhere = Row("first copy", "cp -a", [Timing(7.7, 7.7)], floor=True)
    rows = [row("rsync", 9.0, 10.0, 14.0), ours, row("borg", note="not installed"), walk, start, elsewhere]
    targets = [
        Target(WORK, "ours", "rsync", 1 / 5),
        Target(WORK, "ours", "rsync", 1 / 15),
        Target(WORK, "ours", "borg", 1 / 2),
        Target(WORK, "ours", "", 0, 1.0),
    ]
    peers.write(tmp_path, rows, targets, {"cores": "2"})
    text = (tmp_path / "performance.md").read_text()
    why = (
        "missed: of 1.50 s: the step itself takes 0.25 s, its flush to disk 0.12 s, "
        "alone take the bare walk 0.20 s, start of Python 1.10 s."
    )
    assert "| rsync | 10.00 s | 9.00 to 14.00 | 5.00 s |  |" in text
    assert "| borg | left out: not installed | | | |" in text
    assert "- ours, target: at least 5 times as fast as rsync. 6.7 times as fast; met." in text
    assert f"- ours, target: at least 15 times as fast as rsync. 6.7 times as fast; {why}" in text
    assert "- ours, target: at least 2 times as fast as borg. not measured." in text
    assert f"- ours, target: at most 1 s. 1.50 s; {why}" in text
    written = json.loads((tmp_path / "performance.json").read_text())
    assert [item["tool"] for item in written["rows"]][:3] == ["rsync", "ours", "borg"]
    assert written["rows"][1]["timings"][0]["parts"] == {"its flush to disk": 0.125}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (300_000, "4.0 times as fast; missed: of 2.00 s"),
        (6_000, "4.0 times as fast; not judged at this size, the target is of 300,000 files."),
        (1_500_000, "at least 25 times as fast as rsync. 4.0 times as fast; missed: of 2.00 s"),
    ],
)
def test_a_target_is_judged_at_the_size_it_was_set_for(tmp_path: Path, files: int, said: str) -> None:
    rows = [Row(WORK, "rsync", [Timing(8.0, 1.0)], size=files)]
    rows.append(Row(WORK, SNAPSHOT, [Timing(2.0, 1.0)], ours=True, size=files))
    peers.write(tmp_path, rows, store_targets(rows), {})
    assert said in (tmp_path / "performance.md").read_text()


def test_the_sizes_of_the_targets_are_asked_for_by_name_and_no_slow_tool_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PEERS", raising=False)
    assert max(peers.sizes()[0]) < 100_000, "it ends within ten minutes"
    monkeypatch.setenv("PEERS", "targets")
    files, _, effort = peers.sizes()
    assert 300_000 in files and not effort.everything
    slow, fast = Row(WORK, "rsync"), Row(WORK, "ours")
    for _ in range(effort.rounds):
        attempt(slow, lambda: Timing(45.0, 45.0), effort.patience)
        attempt(fast, lambda: Timing(3.0, 3.0), effort.patience)
    assert (len(slow.timings), len(fast.timings)) == (1, 3)
    monkeypatch.setenv("PEERS", "300 900")
    assert peers.sizes()[0] == (300, 900)


def test_the_plot_has_a_line_for_each_tool_within_the_picture(tmp_path: Path) -> None:
    sizes = (1_700, 17_000, 85_000)
    rows = [row(tool, at / 1000, folders=at) for tool in ("rsync", "ours") for at in sizes]
    peers.write(tmp_path, rows, [], {})
    picture = ElementTree.parse(tmp_path / "performance.svg").getroot()  # noqa: S314 - written just now
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    points = [tuple(map(float, pair.split(","))) for pair in lines[0].attrib["points"].split()]
    assert len(points) == 3 and points == sorted(points)
    assert all(0 < x < peers_width(picture) for x, _ in points)


def peers_width(picture: ElementTree.Element) -> float:
    return float(picture.attrib["viewBox"].split()[2])


def test_it_runs_when_asked_for_only() -> None:
    assert not [name for name in measurements() if name.startswith("peers")]
    assert "-m benchmarks.peers" in (PROJECT_DIRECTORY / "Makefile").read_text()


def test_a_tool_that_fails_says_so_in_its_row_and_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PEERS_LOG", str(tmp_path / "said.log"))
    tried = []

    def broken() -> Timing:
        tried.append("borg")
        return timed(["sh", "-c", "echo 'no | space' >&2; exit 2"])

    first, again = row("borg"), row("borg", 1.0)
    attempt(first, lambda: timed(["true"]))
    attempt(again, broken)
    attempt(again, broken)
    assert tried == ["borg"]
    assert len(first.timings) == 1 and not first.note
    peers.write(tmp_path, [again], [Target(WORK, "ours", "borg", 1)], {})
    text = (tmp_path / "performance.md").read_text()
    assert "| borg | failed: sh -c echo 'no / space' >&2; exit 2 ended with 2: ... no / space | | | |" in text
    assert "1 times as fast as borg. not measured." in text


def test_a_copy_that_differs_in_a_byte_was_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PEERS_LOG", str(tmp_path / "said.log"))
    store = SimpleNamespace(
        check=lambda tool: timed(["diff", "-rq", str(tmp_path / "a"), str(tmp_path / "b")])
    )
    for folder, content in (("a", b"1234"), ("b", b"1235")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(content)
    first, again = row("restic", 1.0), row("restic", 2.0, 3.0)
    check(cast(Store, store), first, again)
    assert first.broke and again.broke and not first.timings and not again.timings
    assert "differ" in again.note


BESIDE_RSYNC_ALONE = """
import sys
from benchmarks import peers
peers.missing_programs = lambda: {tool: "left out" for tool in peers.PACKAGES if tool != "rsync"}
if sys.argv[2] == "base backup":
    peers.sizes = lambda: ((), 30_000, peers.DEFAULT)
    peers.measure_starts = lambda *_: []
sys.exit(peers.run(sys.argv[1:2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["first copy", "base backup"])
def test_a_sigterm_in_the_middle_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    place = Path(tempfile.mkdtemp(prefix="bp-", dir="/var/tmp"))  # short, for the server's socket
    place.chmod(0o755)
    environment = {**os.environ, "PEERS": "300", "PEERS_DIR": str(place)}
    said = tmp_path / "said"
    with said.open("wb") as log:
        argv = [sys.executable, "-c", BESIDE_RSYNC_ALONE, str(tmp_path), moment]
        process = subprocess.Popen(argv, env=environment, cwd=PROJECT_DIRECTORY, stdout=log, stderr=log)
    try:
        wait_until(lambda: moment in said.read_text() or process.poll() is not None, f"{moment} begins", 900)
        assert process.poll() is None, said.read_text()
        assert processes_of(place)
        process.terminate()
        assert process.wait(300) == 1, said.read_text()
        assert "interrupted; what was made for it is removed" in said.read_text()
        assert list(place.iterdir()) == [] and processes_of(place) == []
        assert not list(tmp_path.glob("performance.*"))
    finally:
        process.kill()
        shutil.rmtree(place)


def processes_of(place: Path) -> list[str]:
    """The command lines of processes that name a folder or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(place) in line or (entry / "cwd").readlink().is_relative_to(place):
                found.append(line)
        except OSError:
            continue
    return found
