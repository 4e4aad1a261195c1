"""What failed runs left of databases and configurations goes before the next one copies them anew."""

from pathlib import Path

from alfresco_backup.repository.catalogue import old_leftovers
from alfresco_backup.repository.layout import Repository
from alfresco_backup.system.folders import remove_tree

OURS = "20261122T020000Z"


def test_only_older_leftovers_of_the_parts_that_are_made_anew_are_removed(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    older = [repository.base(f"202611{day}T020000Z.partial") for day in (19, 20, 21)]
    spared = [
        repository.base(f"{OURS}.partial"),
        repository.base("20261123T020000Z.partial"),
        repository.base("20261119T020000Z"),
        repository.base("by-hand.partial"),
        repository.contentstore.snapshot("20261119T020000Z.partial"),
        repository.configuration("20261119T020000Z.partial"),
    ]
    for path in (*older, *spared):
        path.mkdir(parents=True)
        (path / "base.tar.zst").write_bytes(b"half")
    metadata = repository.configurations / "configuration-20261119T020000Z.json.partial"
    metadata.write_text("{")
    for path in old_leftovers(repository, OURS, ["postgres", "contentstore"]):
        remove_tree(path)
    assert [path for path in (*older, *spared) if path.exists()] == spared
    assert list(old_leftovers(repository, OURS, ["configuration"])) == [metadata, spared[-1]]
    remove_tree(metadata)
    assert not metadata.exists()
