"""Doctor asks the place of the off-site copy, and names what keeps it from being used."""

from pathlib import Path

import pytest

from alfresco_backup.doctor import offsite
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.doctor import run_checks
from alfresco_backup.doctor.offsite import check_offsite
from alfresco_backup.host.host import Host
from alfresco_backup.times import utc_now
from tests.support.far_sides import FarDisk
from tests.support.offsite_places import silent_port

pytestmark = pytest.mark.slow


def found(host: Host, tmp_path: Path) -> dict[str, tuple[str, str, str]]:
    context = CheckContext(host, tmp_path / ".env", utc_now(), {})
    report = run_checks(context, 120, [("off-site", "off-site copy", check_offsite)])
    return {item.subject: (item.level, item.sentence, item.fix) for item in report.findings}


def test_a_place_that_can_be_used_is_good_and_a_wrong_password_is_named(tmp_path: Path) -> None:
    far = FarDisk(tmp_path)
    far.disk.run("2d")
    far.copy()
    good = found(far.host, tmp_path)
    assert good["restic"][0] == "ok" and good["restic"][1].startswith("restic 0.")
    assert good["repository"] == (
        "ok",
        f"{far.place} opens with the password; 1 backup IDs are there",
        "",
    )
    [(level, sentence, fix)] = [
        item
        for item in found(far.host_with(offsite_password="not-this-one"), tmp_path).values()
        if item[0] == "error"
    ]
    assert level == "error" and sentence.endswith(
        f"OFFSITE_PASSWORD does not open the off-site repository {far.place}, or its keys are gone"
    )
    assert "OFFSITE_PASSWORD" in fix and "not-this-one" not in sentence


def test_a_place_that_never_answers_is_named_within_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsite, "ANSWER_SECONDS", 3.0)
    far = FarDisk(tmp_path)
    with silent_port() as port:
        host = far.host_with(offsite_repository=f"rest:http://me:a-secret@127.0.0.1:{port}/alf1")
        level, sentence, _ = found(host, tmp_path)["off-site copy"]
    assert level == "error" and "did not answer within 3 s" in sentence and "a-secret" not in sentence


def test_nothing_is_asked_where_no_second_copy_is_set_up(tmp_path: Path) -> None:
    host = FarDisk(tmp_path).host_with(offsite_repository="", offsite_password="")
    assert found(host, tmp_path) == {
        "off-site copy": ("ok", "none is set up: OFFSITE_REPOSITORY is empty", "")
    }
