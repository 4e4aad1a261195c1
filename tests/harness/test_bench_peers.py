"""`make bench-peers`: what is missing is named, targets say met or missed, the plot is a picture."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from benchmarks import peers
from benchmarks.__main__ import measurements
from benchmarks.peers_report import Row, Target, Timing
from benchmarks.peers_store import Store, attempt, check, timed

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
    assert "apt-get install rsync restic borgbackup rsnapshot pgbackrest" in said


def test_a_target_that_is_missed_stays_in_the_table_with_its_reason(tmp_path: Path) -> None:
    rows = [row("rsync", 9.0, 10.0, 14.0), row("ours", 2.0, 1.0, 1.5), row("borg", note="not installed")]
    targets = [
        Target(WORK, "ours", "rsync", 1 / 5),
        Target(WORK, "ours", "rsync", 1 / 15, reason="it starts Python"),
        Target(WORK, "ours", "borg", 1 / 2),
    ]
    peers.write(tmp_path, rows, targets, {"cores": "2"})
    text = (tmp_path / "performance.md").read_text()
    assert "| rsync | 10.00 s | 9.00 to 14.00 | 5.00 s |  |" in text
    assert "| borg | left out: not installed | | | |" in text
    assert "- ours, target: at least 5 times as fast as rsync. 6.7 times as fast; met." in text
    assert (
        "- ours, target: at least 15 times as fast as rsync. 6.7 times as fast; missed: it starts Python."
        in text
    )
    assert "- ours, target: at least 2 times as fast as borg. not measured." in text
    written = json.loads((tmp_path / "performance.json").read_text())
    assert [item["tool"] for item in written["rows"]] == ["rsync", "ours", "borg"]


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
