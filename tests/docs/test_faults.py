"""docs/reference/faults.md names a test for every fault, and each of them exists."""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "reference" / "faults.md"


def test_every_row_of_the_page_of_faults_names_a_test_that_exists():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    assert rows
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, f"not four cells: {row}"
        named = re.fullmatch(r"`?(tests/[\w/]+\.py)::(test_\w+)`?", cells[3])
        assert named, f"not tests/FILE.py::test_NAME: {cells[3]}"
        assert f"def {named[2]}(" in (PROJECT / named[1]).read_text(), f"there is no {cells[3]}"
