"""Reads of the metadata in the off-site repository what sets there refer to; of those gone here, too."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.far import FarSet, FarSide, versions_of
from alfresco_backup.repository.catalogue import Catalogue
from alfresco_backup.repository.layout import BASE_METADATA, COMPONENTS, Repository
from alfresco_backup.system.files import read_json
from alfresco_backup.system.folders import remove_tree, scratch_folder

INCLUDED = (
    f"/postgres/base-*/{BASE_METADATA}",
    "/contentstore/contentstore-*.json",
    "/stores/*/contentstore-*.json",
    "/configuration/configuration-*.json",
)
READ_SECONDS = 3600.0
ID = re.compile(r"(base|contentstore|configuration)-(\d{8}T\d{6}Z)")


def restore_metadata(engine: Engine, snapshot: str, target: Path) -> None:
    """The metadata of all sets as a snapshot contains them, below a folder. Raises as Engine.run."""
    words = (word for pattern in INCLUDED for word in ("--include", pattern))
    command = ("restore", "--no-lock", snapshot, "--target", str(target), *words)
    engine.run(*command, timeout_seconds=READ_SECONDS)


def read_far_sets(
    engine: Engine, far: FarSide, catalogue: Catalogue, repository: Repository
) -> dict[str, FarSet]:
    """What each ID there refers to: by the catalogue where it has it, else by the metadata there.

    An ID of whose set no metadata is found is one that others refer to, or the predecessor's: of no days.
    """
    found = {
        item.stamp: FarSet(item.stamp, frozenset(versions_of(item)), item.complete) for item in catalogue.sets
    }
    waiting = sorted((stamp for stamp in far.sets if stamp not in found), reverse=True)
    for stamp in waiting:
        if stamp not in found:
            scratch = repository.offsite / "metadata"
            if scratch.exists():  # left by a run that was killed
                remove_tree(scratch)
            with scratch_folder(scratch):
                restore_metadata(engine, far.sets[stamp].snapshot, scratch)
                found = {**_sets_in(scratch), **found}
            found.setdefault(stamp, FarSet(stamp, frozenset({stamp}), complete=False))
    return found


def _sets_in(folder: Path) -> dict[str, FarSet]:
    """The sets whose metadata is below a folder. Raises ValueError for what is no metadata."""
    parts: dict[str, list[Path]] = {}
    for path in folder.rglob("*.json"):
        name = path.parent.name if path.name == BASE_METADATA else path.stem
        if match := ID.fullmatch(name):
            parts.setdefault(match[2], []).append(path)
    return {stamp: _far_set(stamp, paths, folder) for stamp, paths in parts.items()}


def _far_set(stamp: str, paths: Iterable[Path], folder: Path) -> FarSet:
    """`postgres`, `contentstore`, `configuration` are the folders of the layout; of other stores `stores`."""
    versions, parts = {stamp}, set()
    for path in paths:
        parts.add(path.relative_to(folder).parts[0])
        document = read_json(path) if path.name.startswith("contentstore-") else {}
        for table in (document.get("days"), document.get("loose")):
            if isinstance(table, Mapping):
                versions |= {str(day["version"]) for day in table.values()}
    return FarSet(stamp, frozenset(versions), complete=COMPONENTS.keys() <= parts)
