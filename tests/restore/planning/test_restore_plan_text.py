"""A restore's plan as people and programs read it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.findings import error
from alfresco_backup.restore.planning.plan_text import plan_document, plan_markdown
from tests.support.restore_worlds import STAMP, World, base, live_server, local_zone, snapshot, wal_map

WORLD = World(
    [base(3), base(20)],
    wal_map((1, 1, 50)),
    [snapshot(30), snapshot(40)],
    live_server((1, 49, 55)),
    facts={"solr_indexes": (Path("/alf/solr4/index"),)},
)
EXPECTED = Path(__file__).with_name("expected") / "restore-pitr-plan.md"


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    with local_zone("Europe/Berlin"):
        yield


def test_a_plan_tells_all_that_an_operator_has_to_know():
    assert plan_markdown(WORLD.pitr(34.5)) == EXPECTED.read_text()


def test_the_same_plan_is_told_in_the_readers_time_zone():
    with local_zone("Asia/Kolkata"):
        text = plan_markdown(WORLD.pitr(34.5))
    assert "- database: 2026-11-22 16:04:30 +05:30 (10:34:30 UTC) on timeline 1" in text
    with local_zone("UTC"):
        assert "- database: 2026-11-22 10:34:30 +00:00 (UTC) on timeline 1" in plan_markdown(WORLD.pitr(34.5))


def test_a_day_that_differs_in_utc_is_written_out():
    with local_zone("Pacific/Auckland"):
        text = plan_markdown(WORLD.pitr(34.5))
    assert "2026-11-22 23:34:30 +13:00 (10:34:30 UTC)" in text
    with local_zone("Pacific/Kiritimati"):
        assert "2026-11-23 00:34:30 +14:00 (2026-11-22 10:34:30 UTC)" in plan_markdown(WORLD.pitr(34.5))


def test_warnings_come_after_everything_else():
    world = replace(WORLD, facts={"eager_cleanup": True})
    text = plan_markdown(world.pitr(34.5))
    assert "## Warnings\n\n- Store contentstore: Alfresco purges deleted files at once" in text
    assert text.index("## Warnings") > text.index("## Space")


def test_every_kind_of_plan_can_be_told():
    full = plan_markdown(WORLD.plan("full", start_alfresco=False))
    assert "- database: the end of base backup 20261122T102000Z on timeline 1" in full
    assert "- Alfresco: not started" in full
    latest = plan_markdown(WORLD.plan("postgres", target_time="latest"))
    assert "- database: the end of all WAL on timeline 1" in latest
    assert "- content: not changed, but checked against the database" in latest
    content = plan_markdown(WORLD.plan("contentstore", contentstore="replace"))
    assert "- database: not changed" in content
    assert "copy all of /alf/contentstore from snapshot 20261122T104000Z" in content
    assert "Nothing: the present store is kept as /alf/contentstore.before-restore-" in content


def test_the_document_is_plain_json_with_times_in_utc():
    document = json.loads(json.dumps(plan_document(WORLD.pitr(34.5))))
    assert document["database"]["target_time"] == "2026-11-22T10:34:30+00:00"
    assert document["database"]["timeline"] == 1
    assert document["restore_id"] == STAMP
    assert document["database"]["backup_id"] == "20261122T102000Z"
    assert document["configuration_backup_id"] == "20261122T102000Z"
    assert document["content"][0]["sources"][0] == {"role": "after", "backup_id": "20261122T104000Z"}
    assert document["steps"][0]["step"] == "stop-alfresco"
    assert json.loads(json.dumps(plan_document(WORLD.plan("contentstore"))))["database"] is None


def test_what_stops_its_execution_is_told_first_each_with_its_fix():
    obstacle = error("control script", "there is no alfresco.sh", "edit /etc/alf.env: ALF_START_COMMAND=...")
    plan = replace(WORLD.pitr(34.5), obstacles=(obstacle,))
    text = plan_markdown(plan)
    assert (
        "It cannot be executed until the errors below are fixed.\n\n## Errors\n\n"
        "- control script: there is no alfresco.sh\n"
        "  - HINT: `edit /etc/alf.env: ALF_START_COMMAND=...`\n\n## What is restored"
    ) in text
    (told,) = plan_document(plan)["obstacles"]
    assert (told["level"], told["subject"], told["fix"]) == ("error", "control script", obstacle.fix)
