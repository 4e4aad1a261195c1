"""Waiting: the first true answer, and what is said when none comes in time."""

import pytest

from alfresco_backup.errors import BackupError, NotInTime, Refused, ToolFailed
from alfresco_backup.system.waiting import wait_until


def test_the_first_true_answer_is_given_back():
    answers = iter(["", "", "up", "later"])
    assert wait_until(lambda: next(answers), 600, "it is not up", every=0) == "up"


def test_the_last_answer_counts_although_the_limit_has_passed():
    assert wait_until(lambda: "up", -1, "it is not up") == "up"


def test_what_did_not_happen_in_time_is_said_as_it_is_then():
    asked = []
    with pytest.raises(NotInTime) as late:
        wait_until(lambda: asked.append(1), 0, lambda: f"down {len(asked)} times", hint="less log", every=0)
    assert late.value.message == f"down {len(asked)} times" and late.value.hint == "less log"


def test_a_failing_question_is_asked_again_and_its_last_error_is_raised():
    asked = []

    def ask() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise ToolFailed("psql", 2, f"refused {len(asked)}")
        return "answer"

    assert wait_until(ask, 600, "no answer", failing=ToolFailed, every=0) == "answer"
    del asked[:]
    with pytest.raises(ToolFailed, match="refused 1"):
        wait_until(ask, -1, "no answer", failing=ToolFailed)


def test_any_other_error_ends_the_wait():
    def ask() -> str:
        raise Refused("no")

    with pytest.raises(Refused):
        wait_until(ask, 600, "no answer", failing=ToolFailed)
    with pytest.raises(BackupError, match="no"):
        wait_until(ask, 600, "no answer")
