"""What the progress of a long step tells: how far it is, never going back, and how fast."""

import logging

import pytest

from tasks.runs import progress
from tasks.runs.progress import Progress, _rate_for_people


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def told(monkeypatch):
    """What was reported: percent and sentence; the clock moves ten seconds with each look."""
    clock, reports = Clock(), []
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(progress, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(Progress, "_publish", lambda self, *report: reports.append(report))

    def report(step, done, total):
        clock.now += 10
        step(done, total)
        return reports

    return report


def test_progress_never_goes_back(told):
    step = Progress("demo", "recover database", "segments")
    for done in (4, 8, 0, 3, 8, 9):  # a second replay of the same WAL counts from 0 again
        reports = told(step, done, 10)
    assert [percent for percent, _ in reports] == [40, 80, 80, 90]


def test_a_total_that_grows_does_not_make_progress_go_back(told):
    step = Progress("demo", "recover database", "segments")
    for done, total in ((5, 10), (6, 20), (15, 20)):
        reports = told(step, done, total)
    assert [percent for percent, _ in reports] == [50, 75]


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0, "0/s"), (0.02, "1.2/min"), (0.4, "24.0/min"), (2.54, "2.5/s"), (10, "10/s"), (1234.5, "1,234/s")],
)
def test_a_rate_below_one_a_second_is_told(rate, words):
    assert _rate_for_people(rate) == words


def test_the_rate_of_a_replay_of_a_segment_every_few_seconds_is_not_nothing(told):
    step = Progress("demo", "recover database", "segments")
    told(step, 3, 10)
    ((_, sentence),) = told(step, 2, 10)
    assert sentence == "recover database: 30 %, 3 of 10 segments, 18.0/min, time left 23 s"
