"""Sets of which a part cannot be read or seen for a while: nothing of them is removed meanwhile."""

from pathlib import Path

import pytest

from alfresco_backup.repository.layout import BASE_METADATA, metadata_of
from alfresco_backup.retention.apply import carry_out, make_retention_plan
from alfresco_backup.retention.policy import RetentionPlan
from tests.support.catalogues import NOW
from tests.support.repository_on_disk import DiskRepository, listing

WHENS = ("400d", "30d", "20d", "12d", "2d", "1d")


@pytest.fixture
def disk(tmp_path: Path) -> DiskRepository:
    made = DiskRepository(tmp_path / "backup")
    for when in WHENS:
        made.run(when)
    made.wal(*WHENS)
    return made


def planned(disk: DiskRepository) -> RetentionPlan:
    """The set of 400 days is kept for its year, that of 12 days leads into the window; two others go."""
    settings = disk.settings(retention_days=7, minimum_redundancy=1, keep_yearly=2)
    return make_retention_plan(settings, now=NOW)


def metadata(disk: DiskRepository, kind: str, stamp: str) -> Path:
    repository = disk.repository
    if kind == "base":
        return repository.base(stamp) / BASE_METADATA
    return metadata_of(
        repository.contentstore.snapshot(stamp) if kind == "contentstore" else repository.configuration(stamp)
    )


@pytest.mark.parametrize("kind", ["base", "contentstore", "configuration"])
def test_while_a_part_of_a_kept_set_cannot_be_read_its_other_parts_stay(
    disk: DiskRepository, kind: str
) -> None:
    stamps = sorted(path.name.removeprefix("base-") for path in disk.repository.postgres.iterdir())
    before = {name: kept for name, kept in listing(disk.repository.root).items() if stamps[0] in name}
    file = metadata(disk, kind, stamps[0])
    text = file.read_text()
    file.write_text(text[:20])
    plan = planned(disk)
    assert {stamp for stamp in stamps for item in plan.removals if stamp in item.path.name} == set(
        stamps[1:3]
    )
    reasons = {item.reason for item in plan.kept if item.path.name.endswith(stamps[0])}
    assert any(f"{kind}-{stamps[0]}" in reason and "cannot be read" in reason for reason in reasons), reasons
    carry_out(plan)
    file.write_text(text)
    assert {name: kept for name, kept in listing(disk.repository.root).items() if stamps[0] in name} == before


@pytest.mark.parametrize("name", ["postgres", "contentstore", "configuration"])
def test_while_the_place_of_one_kind_of_part_is_empty_nothing_is_removed(
    disk: DiskRepository, name: str
) -> None:
    place = disk.repository.root / name
    place.rename(disk.repository.root.with_name("elsewhere"))
    place.mkdir()
    plan = planned(disk)
    assert [item for item in plan.removals if item.kind != "log"] == []
    said = {item.reason for item in plan.kept if name not in str(item.path)}
    assert f"folder {name} is empty: a file system may not be mounted" in said
    place.rmdir()
    disk.repository.root.with_name("elsewhere").rename(place)
    assert {item.kind for item in planned(disk).removals} == {
        "base",
        "snapshot",
        "configuration",
        "wal",
    }
