"""Which timelines of the archive are those of the host's own server. The others are foreign.

A copy of the data directory that somebody promoted with its archive_command unchanged archives a timeline of
its own here. Its system identifier is the same, its segments are sound, and its rows are not the host's. So
the word of the live server counts, which each audit keeps in a file: the timeline it is on, those it came
from, those it was on when audits asked, when base backups were made, and those that restores of ours began.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from alfresco_backup.postgres.timelines import TimelinePath, path_to
from alfresco_backup.repository.layout import Repository
from alfresco_backup.system.files import read_json, write_json

LARGEST = (1 << 32) - 1


@dataclass(frozen=True)
class OwnTimelines:
    """What is known of one cluster's server: the timeline it is on, asked at `seen_at`, and earlier ones.

    `live` is None where no server was ever asked: then no timeline is called foreign.
    """

    live: int | None = None
    seen_at: datetime | None = None
    earlier: frozenset[int] = frozenset()

    def foreign(
        self, timelines: Iterable[int], paths: Mapping[int, TimelinePath], witnessed: Iterable[int]
    ) -> frozenset[int]:
        """Those of an archive's `timelines` that the server was never on. `witnessed` are further own ones.

        Ancestors of own timelines are own. Where the history of one is lost, all lower ones may be.
        """
        if self.live is None:
            return frozenset()
        all_ = frozenset(timelines)
        own: set[int] = set()
        for timeline in {self.live, *self.earlier, *witnessed}:
            own |= {span.timeline for span in path_to(timeline, paths).spans}
            if timeline not in paths:
                own |= {each for each in all_ if each < timeline}
        return all_ - own


@dataclass(frozen=True)
class TimelineRecord:
    """What is known of each cluster, by system identifier. `defect` says why the file cannot be used."""

    clusters: Mapping[str, OwnTimelines] = field(default_factory=dict)
    defect: str = ""

    def of(self, owner: str) -> OwnTimelines:
        return self.clusters.get(owner, OwnTimelines())

    def with_live(self, owner: str, timeline: int, seen_at: datetime) -> "TimelineRecord":
        """The same after a cluster's server was seen on a timeline."""
        earlier = self.of(owner).earlier | {timeline}
        return replace(self, clusters={**self.clusters, owner: OwnTimelines(timeline, seen_at, earlier)})

    def with_earlier(self, owner: str, timelines: Iterable[int]) -> "TimelineRecord":
        """The same with timelines that a cluster's server was once on."""
        known = self.of(owner)
        added = replace(known, earlier=known.earlier.union(timelines))
        return replace(self, clusters={**self.clusters, owner: added})


def read_timelines(repository: Repository) -> TimelineRecord:
    """What audits and restores recorded. A file that is not there is no defect."""
    try:
        document = read_json(repository.timelines)
        return TimelineRecord({str(owner): _known(entry) for owner, entry in document["clusters"].items()})
    except FileNotFoundError:
        return TimelineRecord()
    except OSError as error:
        return TimelineRecord(defect=f"cannot be read: {error.strerror}")
    except (ValueError, LookupError, TypeError, AttributeError):
        return TimelineRecord(defect="is damaged")


def write_timelines(repository: Repository, record: TimelineRecord) -> None:
    """Replace the file. Raises OSError."""
    clusters = {
        owner: {
            "live": known.live,
            "seen_at": known.seen_at.isoformat() if known.seen_at else None,
            "earlier": sorted(known.earlier),
        }
        for owner, known in record.clusters.items()
    }
    write_json(repository.timelines, {"clusters": clusters})


def _known(entry: Mapping[str, Any]) -> OwnTimelines:
    live, seen_at = entry["live"], entry["seen_at"]
    known = OwnTimelines(
        None if live is None else int(live),
        None if seen_at is None else datetime.fromisoformat(seen_at),
        frozenset(map(int, entry["earlier"])),
    )
    numbers = known.earlier | ({known.live} if known.live is not None else set())
    if not all(0 < number <= LARGEST for number in numbers):
        raise ValueError("a timeline is a number from 1 on")
    if known.seen_at is not None and known.seen_at.tzinfo is None:
        raise ValueError("a time without offset")
    return known
