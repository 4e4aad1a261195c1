"""Documents are found as they were at a time, in the live database or in one recovered beside it."""

import pytest

from alfresco_backup.cli.commands import parse


@pytest.mark.parametrize("text", ["yesterday", "2026-11-21T14:00:00"])
def test_a_time_without_its_offset_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["documents", "find", "--name", "a", "--changed-since", text])
    assert ended.value.code == 2
    assert "a time with its UTC offset" in capsys.readouterr().err
