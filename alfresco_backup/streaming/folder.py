"""The folder that WAL is received into: what may go into the archive, what may leave, where to begin. Pure.

pg_receivewal knows by the newest file alone where to go on: the highest segment, of several timelines the
highest of that. A whole one is followed by the next; a `.partial` one is received again from its beginning.
One of another size than a segment's stops it, an empty one does not (FindStreamingStart in pg_receivewal.c,
open_walfile in receivelog.c): so an empty `.partial` chooses where it begins. Without any file it begins at
the slot's position from 15 on, and before at the server's present one, which would be a gap that nobody sees.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from alfresco_backup.postgres.wal_files import ArchivedFile, Segment, parse_segment_name
from alfresco_backup.system.files import PARTIAL


@dataclass(frozen=True)
class Received:
    """A whole or, where `partial`, an unfinished segment in the folder."""

    name: str
    segment: Segment
    partial: bool

    @property
    def order(self) -> tuple[int, int, bool]:
        """As pg_receivewal compares them."""
        return self.segment.number, self.segment.timeline, not self.partial


@dataclass(frozen=True)
class FolderPlan:
    """What is to be done with the files. `finished`: to archive, in this order; `removable`: those of them
    that may be removed once they are in the archive; `away`: what would stop or mislead the receiver.

    `newest` is what it will go on from; None where there is nothing.
    """

    finished: tuple[str, ...]
    removable: frozenset[str]
    away: tuple[str, ...]
    newest: Received | None


def plan_folder(files: Iterable[ArchivedFile], segment_size: int) -> FolderPlan:
    """Look at the files by name and size.

    The newest whole segment stays until the next one is whole: between the two it alone says where to go on.
    `away` is meant for a folder that nobody receives into: a file that is being made has an odd size.
    """
    histories, received, away = [], [], []
    for file in files:
        if file.kind == "history":
            histories.append(file.name)
        elif file.kind in ("segment", "partial") and not file.compressed:
            partial = file.kind == "partial"
            segment = parse_segment_name(file.wal_name.removesuffix(PARTIAL), segment_size)
            if file.bytes == segment_size or (partial and file.bytes == 0):
                received.append(Received(file.name, segment, partial))
            else:
                away.append(file.name)
    received.sort(key=lambda item: item.order)
    whole = [item for item in received if not item.partial]
    last = whole[-1].order if whole else (-1, 0, True)
    away += [item.name for item in received if item.partial and item.order < last]
    return FolderPlan(
        (*histories, *(item.name for item in whole)),
        frozenset(item.name for item in whole[:-1]),
        tuple(away),
        received[-1] if received else None,
    )
