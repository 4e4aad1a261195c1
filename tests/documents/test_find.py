"""Documents are found as they were at a time, in the live database or in one recovered beside it."""

import os
import pty
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from alfresco_backup.cli.commands import parse
from alfresco_backup.cli.entry import show
from alfresco_backup.cli.flow_arguments import FlowCall
from alfresco_backup.documents.content import Place
from alfresco_backup.documents.nodes import Node
from alfresco_backup.documents.results import Findings, Hit
from alfresco_backup.errors import Refused
from alfresco_backup.restore.planning.request import LATEST
from flows import by_hand
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


def test_node_ids_and_paths_are_whole_on_a_narrow_terminal_and_names_are_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a table rendered from markdown they end in dots, and __FINAL__ is FINAL in bold."""
    uuid, path = (
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        f"/Company Home/{'long ' * 30}/__FINAL__ *v2* `x`.txt",
    )
    hit = Hit(Node(1, uuid, "x", path, "cm:content"), Place("none"), "as then")
    monkeypatch.setattr(by_hand, "load_settings", lambda: SimpleNamespace(alf_host_name="demo"))
    monkeypatch.setattr(by_hand, "direct_run", nullcontext)
    monkeypatch.setattr(by_hand, "end_if_interrupted", lambda *_, **__: None)
    call = FlowCall("documents find", {})
    answer = by_hand.run_flow(lambda: Findings("x", "now", (hit,)), call, as_json=False)
    monkeypatch.setenv("COLUMNS", "80")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert sys.stdout.isatty()
        show(answer)
        shown = os.read(master, 1 << 16).decode()
        monkeypatch.undo()
    os.close(master)
    assert uuid in shown
    assert path in shown
