"""`make demo` after one that was interrupted, and `make demo-clean`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import demo.__main__ as command
from demo.host import DemoHost
from tests.support.places import reachable_directory


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a small demo host can be made."""
    monkeypatch.setattr(command, "DOCUMENTS", 20)
    monkeypatch.setattr(command, "UPLOADS", 1)
    with reachable_directory() as root:
        yield root / "demo"
        command.clean(root / "demo")


def half_made(place: Path) -> None:
    """What a Ctrl-C in the first seconds leaves."""
    DemoHost.install(place)
    (place / command.UNFINISHED).touch()


@pytest.mark.slow
def test_a_demo_host_that_was_not_finished_is_made_anew(place: Path) -> None:
    half_made(place)
    host = command.prepare(place)
    assert host.answer().endswith(" documents")
    made = host.read_state().live_documents()
    again = command.prepare(place)
    assert again.cluster.port == host.cluster.port
    assert again.read_state().live_documents() == made


@pytest.mark.parametrize("gone", ["alfresco/alfresco.sh", "demo.json"])
def test_a_demo_host_that_is_half_made_or_half_removed_can_be_removed(
    place: Path, gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    half_made(place)
    (place / gone).unlink()
    assert command.clean(place) == 0
    assert not place.exists()
    assert capsys.readouterr().out == f"The demo host in {place} is stopped and removed.\n"


def test_a_folder_with_something_else_is_left_as_it_is(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.mkdir()
    (place / "mine").write_text("kept")
    with pytest.raises(SystemExit, match=r"contains something else\nHINT: make -C /\S+ demo DEMO_DIR="):
        command.prepare(place)
    assert command.clean(place) == 0
    assert capsys.readouterr().out == f"There is no demo host in {place}.\n"
    assert (place / "mine").read_text() == "kept"
