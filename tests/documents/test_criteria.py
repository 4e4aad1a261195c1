"""What is asked of a search is checked before anything is asked of a database."""

from datetime import UTC, datetime

import pytest

from alfresco_backup.documents.criteria import Criteria, like_pattern, require_sensible
from alfresco_backup.errors import SettingsError

TIME = datetime(2026, 11, 21, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "like"),
    [("budget*", "budget%"), ("b?dget", "b_dget"), ("100%_*", r"100\%\_%"), ("a\\b", "a\\\\b")],
)
def test_only_star_and_question_mark_stand_for_letters(pattern: str, like: str) -> None:
    assert like_pattern(pattern) == like


@pytest.mark.parametrize(
    ("asked", "as_of", "words"),
    [
        (Criteria(), "latest", "no condition"),
        (Criteria(nodes=("17",)), TIME, "node='17': expected: a node id"),
        (Criteria(path="Company Home"), TIME, "path='Company Home': expected: a path from the root"),
        (Criteria(path="/Company Home", site="hr"), TIME, "site and path: expected: one of them"),
        (Criteria(site="hr/x"), TIME, "site='hr/x': expected: the short name"),
        (Criteria(name="a", limit=0), TIME, "limit=0: expected: 1 or more"),
        (Criteria(missing=True), "latest", "missing: expected with it: as of a target time"),
        (Criteria(deleted_since=TIME), TIME, "deleted since: expected: as of `latest`"),
    ],
)
def test_what_makes_no_sense_is_named_with_what_is_expected(
    asked: Criteria, as_of: datetime | str, words: str
) -> None:
    with pytest.raises(SettingsError) as wrong:
        require_sensible(asked, as_of)
    assert words in str(wrong.value)
    assert "documents find --help" in str(wrong.value)
