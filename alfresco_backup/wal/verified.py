"""How much of the window's WAL has been read to its last byte, and when. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from alfresco_backup.findings import Finding, ok
from alfresco_backup.postgres.versions import facts_of_wal
from alfresco_backup.postgres.wal_files import Segment, parse_segment_name
from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.settings.commands import install_postgresql_command, program_command
from alfresco_backup.times import for_people
from alfresco_backup.wal.chain import WalMap
from alfresco_backup.wal.contents import ArchiveContents, SegmentLook


@dataclass(frozen=True)
class Verification:
    """Of the `segments` that recovery may read from the oldest base backup on, those that were verified.

    Verified is the content: pages, records and their checksums, not only names and headers. `damaged` are
    among `segments`. `reasons`: why others could not be verified, with their number; the rest is `waiting`
    for an audit or a drill. `oldest` and `newest`: when the ones verified longest ago and last were.
    """

    segments: int = 0
    verified: int = 0
    damaged: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    oldest: datetime | None = None
    newest: datetime | None = None
    fix: str = ""

    @property
    def waiting(self) -> int:
        return self.segments - self.verified - self.damaged - sum(self.reasons.values())

    @property
    def sentence(self) -> str:
        """`1,203 of 1,204 segments verified, the first of them 2026-11-01 …; 1 not yet`."""
        words = f"{self.verified:,} of {self.segments:,} segments verified"
        if self.oldest:
            words += f", the one longest ago {for_people(self.oldest)}"
        parts = [words]
        parts += [f"{self.damaged:,} damaged"] if self.damaged else []
        parts += [f"{self.waiting:,} not yet"] if self.waiting else []
        parts += [f"{count:,} could not be verified: {reason}" for reason, count in self.reasons.items()]
        return "; ".join(parts)

    @property
    def finding(self) -> Finding:
        if self.reasons or (self.segments and not self.verified):
            return Finding("unknown", "verified WAL", self.sentence, self.fix)
        return ok("verified WAL", self.sentence)


def summarize(contents: ArchiveContents, wal: WalMap, bases: Sequence[BaseBackup]) -> Verification:
    """What is known of the segments from the oldest base backup of the archive's cluster on."""
    starts = [base.start_lsn for base in bases if base.system_identifier == wal.owner]
    first = min(starts).segment(wal.segment_size) if starts else 0
    looks: dict[Segment, SegmentLook] = {}
    for file in contents.files:
        look = contents.looks.get(file.name)
        if look is None or file.kind != "segment":
            continue
        try:
            segment = parse_segment_name(file.wal_name, wal.segment_size)
        except ValueError:
            continue
        if segment.number >= first and (wal.time_of(segment) or segment in wal.damaged):
            looks[segment] = _better(looks.get(segment), look)
    good = [look for segment, look in looks.items() if look.verified_at and segment not in wal.damaged]
    moments = [look.verified_at for look in good if look.verified_at]
    unverified = [look for look in looks.values() if not look.verified_at and look.unverified]
    return Verification(
        segments=len(looks),
        verified=len(good),
        damaged=sum(segment in wal.damaged for segment in looks),
        reasons=Counter(look.unverified for look in unverified),
        oldest=min(moments, default=None),
        newest=max(moments, default=None),
        fix=_fix(unverified),
    )


def _better(one: SegmentLook | None, other: SegmentLook) -> SegmentLook:
    """Of a segment stored twice, the copy that was verified."""
    return one if one is not None and not one.defect and one.verified_at else other


def _fix(unverified: Sequence[SegmentLook]) -> str:
    magics = {look.header.magic for look in unverified if look.header}
    versions = [facts.label.rpartition(".")[0] for magic in magics if (facts := facts_of_wal(magic))]
    return "\n".join([*map(install_postgresql_command, sorted(versions)), program_command("wal-audit")])
