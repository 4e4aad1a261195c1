"""The result of a set's last restore drill, in `proven.json` beside the base backup's backup.json.

It is removed with its base backup. A set without one is not yet verified by a restore drill.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from alfresco_backup.contentstore.check import places_in_words
from alfresco_backup.contentstore.reread import Reread
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.json_fields import Number, Text, Time, Whole, document_of, read_record
from alfresco_backup.times import duration_for_people

PROOF = "proven.json"


@dataclass(frozen=True)
class Proof:
    """One drill. `reached` is the target time it recovered to, None: the end of the base backup.

    `rto_seconds` is how long a restore would have taken. Of the `documents` checked, `missing` had no content
    file; `not_checked` counts by place those that no store of the set holds. `findings` says what else was
    wrong with the set, one sentence each; with any it is not verified, nor with anything in `unverified`:
    what could not be verified, and why. `elsewhere` is what the drill found wrong with anything else; `later`
    is why a later drill of the set ended without a result. Neither speaks against the set.
    `restorable_until` is the newest time that could be restored when the drill began, `rpo_seconds` how old
    it was then. `steps`: seconds by step. `reread`: the stored content that was read again; None: none was.
    `source` is the copy that was restored; a proof of the off-site copy says nothing of the one here.
    """

    stamp: Text
    proven_at: Time
    reached: Time | None
    rto_seconds: Number
    documents: Whole
    missing: Whole
    findings: tuple[Text, ...] = ()
    restorable_until: Time | None = None
    rpo_seconds: Number | None = None
    steps: Mapping[str, Number] = field(default_factory=dict)
    reread: Reread | None = None
    unverified: tuple[Text, ...] = ()
    not_checked: Mapping[str, Whole] = field(default_factory=dict)
    source: Literal["local", "offsite"] = "local"
    elsewhere: tuple[Text, ...] = ()
    later: tuple[Text, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether all was verified, and nothing was wrong."""
        return not self.damaged and not self.unverified

    @property
    def damaged(self) -> bool:
        return bool(self.findings or self.missing)

    @property
    def sentence(self) -> str:
        """`2026-11-22, RTO 14 min 05 s, 0 of 1,203,411 documents missing`; the day in local time."""
        head = f"{self.proven_at.astimezone():%Y-%m-%d}, RTO {duration_for_people(self.rto_seconds)}"
        unverified = (f"could not be verified: {words}" for words in self.unverified)
        later = (f"a later drill ended without a result: {words}" for words in self.later)
        besides = (f"found elsewhere: {finding}" for finding in self.elsewhere)
        told = "".join(f"; {words}" for words in (*self.findings, *unverified, *later, *besides))
        others = sum(self.not_checked.values())
        left = f", {others:,} not checked ({places_in_words(self.not_checked)})" if others else ""
        return f"{head}, {self.missing:,} of {self.documents:,} documents missing{left}{told}"


def read_proof(base: Path, stamp: str) -> Proof | None:
    """The drill result of the base backup in a folder; None: no drill yet. Raises OSError or ValueError."""
    try:
        proof = read_record(Proof, read_json(base / PROOF))
    except FileNotFoundError:
        return None
    if proof.stamp != stamp:
        raise ValueError(f"it belongs to set {proof.stamp!r}")
    return proof if proof.source == "local" else None


def read_far_proof(folder: Path) -> Proof | None:
    """The last drill of the off-site copy, noted in BACKUP_DIR/offsite. Raises OSError or ValueError."""
    try:
        return read_record(Proof, read_json(folder / PROOF))
    except FileNotFoundError:
        return None


def write_proof(base: Path, proof: Proof) -> None:
    """Write a drill result beside the base backup's metadata, over an older one; on disk when it returns."""
    write_json(base / PROOF, document_of(proof))


def write_unfinished(base: Path, proof: Proof) -> None:
    """Write the result of a drill that an error ended.

    One that found no damage has no result: what an earlier drill of the set verified or found stays then, and
    the error is noted with it.
    """
    earlier: Proof | None = None
    with suppress(FileNotFoundError, ValueError):
        earlier = read_record(Proof, read_json(base / PROOF))
    same = earlier is not None and (earlier.stamp, earlier.source) == (proof.stamp, proof.source)
    if earlier and same and (earlier.sound or earlier.damaged) and not proof.damaged:
        elsewhere = tuple(dict.fromkeys((*earlier.elsewhere, *proof.elsewhere)))
        proof = replace(earlier, later=proof.unverified, elsewhere=elsewhere)
    write_proof(base, proof)
