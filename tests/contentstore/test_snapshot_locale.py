"""Snapshots by a process whose locale is not UTF-8, as a host's LANG may make it: names are bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.contentstore.links import read_previous
from tests.support.stores import SampleStore

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def latin_1(tmp_path: Path) -> dict[str, str]:
    """The environment of a process with an 8-bit locale, made for this test."""
    place = tmp_path / "locales"
    place.mkdir()
    argv = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", place / "latin1"]
    try:
        subprocess.run(argv, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no localedef here")
    if not (place / "latin1/LC_CTYPE").exists():
        pytest.skip("no data for localedef here; next: apt-get install locales")
    return {"PATH": os.environ["PATH"], "LOCPATH": str(place), "LC_ALL": "latin1"}


def test_no_file_is_lost_to_a_locale_and_the_next_snapshot_finds_nothing_new(
    tmp_path: Path, latin_1: dict[str, str]
) -> None:
    store = SampleStore(tmp_path / "place")
    store.write("völ/2022/1/2/3/a.bin")
    store.write("löse.txt")
    code = (
        "import sys; from pathlib import Path; from tests.support.stores import SampleStore\n"
        "assert sys.getfilesystemencoding() == 'iso8859-1'\n"
        "print(SampleStore(Path(sys.argv[1]), exists=True).snapshot().files)\n"
    )
    argv = [sys.executable, "-c", code, str(store.root)]
    taken = subprocess.run(argv, cwd=PROJECT, env=latin_1, capture_output=True, text=True, check=False)
    assert (taken.stdout, taken.returncode) == ("2\n", 0), taken.stderr
    previous = read_previous(store.repository)
    assert previous is not None
    assert (set(previous.days), set(previous.loose)) == ({"völ/2022/1"}, {"löse.txt"})
    store.taken = 1
    again = store.snapshot("full")
    assert (again.files, again.new_files) == (2, 0)
    assert (again.path / "völ/2022/1/2/3/a.bin").read_text() == "content"
