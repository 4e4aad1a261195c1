"""What the sets in the off-site repository refer to, those that are gone here included, by their metadata."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alfresco_backup.offsite.engine import Engine, FarSideDamaged
from alfresco_backup.offsite.far import FarSet, FarSide, versions_of
from alfresco_backup.offsite.known import METADATA, read_far_catalogue, restore
from alfresco_backup.repository.catalogue import Catalogue
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.sending import make_offsite_folder
from alfresco_backup.repository.sets import BackupSet
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.folders import remove_tree, scratch_folder

COMPARED = ("postgres/base-*/backup.json", "configuration/*.json", "contentstore/*.json", "stores/*/*.json")
"""Metadata that is never changed once it is published."""


def read_far_sets(
    engine: Engine, far: FarSide, catalogue: Catalogue, repository: Repository
) -> dict[str, FarSet]:
    """What each ID there refers to: by the catalogue where it has it, else by the metadata there.

    An ID of whose set no metadata is found is one that others refer to, or the predecessor's: of no days.
    Raises FarSideDamaged where metadata there cannot be read: what it refers to is not known then.
    """
    found = {item.stamp: _far_set(item) for item in catalogue.sets}
    for stamp in sorted((stamp for stamp in far.sets if stamp not in found), reverse=True):
        if stamp not in found:
            with _restored(engine, far.sets[stamp].snapshot, repository) as folder:
                older = read_far_catalogue(folder, repository)
                found = {**{item.stamp: _far_set(item) for item in older.sets}, **found}
            if older.problems:
                raise FarSideDamaged(
                    f"metadata in the off-site repository cannot be read: {older.problems[0].path}: "
                    f"{older.problems[0].reason}",
                    program_command("offsite", "check"),
                )
            found.setdefault(stamp, FarSet(stamp, frozenset({stamp}), complete=False))
    return found


def compare_metadata(engine: Engine, far: FarSide, repository: Repository) -> tuple[int, list[str]]:
    """Compare the metadata of the newest shipment with what is here: of how many files, and which differ.

    What retention has removed here meanwhile is not compared. Raises as Engine.run.
    """
    newest = max(far.sets.values(), key=lambda item: item.taken_at)
    compared, different = 0, []
    with _restored(engine, newest.snapshot, repository) as folder:
        for file in (file for pattern in COMPARED for file in sorted(folder.glob(pattern))):
            name = file.relative_to(folder)
            try:
                here = (repository.root / name).read_bytes()
            except FileNotFoundError:
                continue
            compared += 1
            if file.read_bytes() != here:
                different.append(str(name))
    return compared, different


def _far_set(item: BackupSet) -> FarSet:
    return FarSet(item.stamp, frozenset(versions_of(item)), item.complete)


@contextmanager
def _restored(engine: Engine, snapshot: str, repository: Repository) -> Iterator[Path]:
    """The metadata of all sets as a snapshot contains them, in a folder that is removed afterwards."""
    make_offsite_folder(repository)
    scratch = repository.offsite / f"metadata-{snapshot[:8]}"
    if scratch.exists():  # left by a run that was killed
        remove_tree(scratch)
    with scratch_folder(scratch):
        restore(engine, snapshot, scratch, METADATA)
        yield scratch
