"""Documents are found as they were at a time, in the live database or in one recovered beside it."""

from datetime import UTC, datetime

import pytest

from alfresco_backup.cli.commands import parse
from alfresco_backup.errors import Refused
from alfresco_backup.restore.planning.request import LATEST
from flows.documents import find_document
from tests.support.restore_worlds import local_zone


@pytest.mark.parametrize("text", ["yesterday", "2026-11-21T14:00:00"])
def test_a_time_without_its_offset_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["documents", "find", "--name", "a", "--changed-since", text])
    assert ended.value.code == 2
    assert "a time with its UTC offset" in capsys.readouterr().err


def test_a_form_gives_a_time_as_text_and_it_is_no_backup_id() -> None:
    taken = find_document.validate_parameters
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert taken({"as_of": "2026-11-22T13:00:00+01:00"})["as_of"] == noon
    assert taken({"as_of": "2026-11-22T12:00:00.000Z"})["as_of"] == noon
    assert taken({"as_of": "20261122T020000Z"})["as_of"] == "20261122T020000Z"
    assert taken({})["as_of"] == taken({"as_of": "latest"})["as_of"] == LATEST
    assert taken({"changed_since": "2026-11-22T13:00:00+01:00"})["changed_since"] == noon
    with local_zone("Europe/Berlin"):
        assert taken({"as_of": "2026-11-22T13:00:00", "deleted_since": ""}) == {
            **taken({"as_of": noon}),
            "deleted_since": None,
        }
        with pytest.raises(Refused, match="no time zone"):
            taken({"as_of": "2026-10-25T02:30:00"})


def test_the_form_names_each_field_once() -> None:
    fields = find_document.parameters.properties
    titles = [field["title"] for field in fields.values()]
    assert len(set(titles)) == len(titles)
