"""The result of a set's last restore drill, in `proven.json` beside the base backup's backup.json.

It is removed with its base backup. A set without one is not yet verified by a restore drill.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from alfresco_backup.contentstore.reread import Reread
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.json_fields import Document, Fields, plain, time_text
from alfresco_backup.times import duration_for_people

PROOF = "proven.json"
T = TypeVar("T")


@dataclass(frozen=True)
class Proof:
    """One drill. `reached` is the target time it recovered to, None: the end of the base backup.

    `rto_seconds` is how long a restore would have taken. Of the `documents` checked, `missing` had no content
    file. `findings` says what else was wrong, one sentence each; with any the set is not verified.
    `restorable_until` is the newest time that could be restored when the drill began, `rpo_seconds` how old
    it was then. `steps`: seconds by step. `reread`: the stored content that was read again; None: none was.
    """

    stamp: str
    proven_at: datetime
    reached: datetime | None
    rto_seconds: float
    documents: int
    missing: int
    findings: tuple[str, ...] = ()
    restorable_until: datetime | None = None
    rpo_seconds: float | None = None
    steps: Mapping[str, float] = field(default_factory=dict)
    reread: Reread | None = None

    @property
    def sound(self) -> bool:
        return not self.damaged

    @property
    def damaged(self) -> bool:
        return bool(self.findings or self.missing)

    @property
    def sentence(self) -> str:
        """`2026-11-22, RTO 14 min 05 s, 0 of 1,203,411 documents missing`; the day in local time."""
        head = f"{self.proven_at.astimezone():%Y-%m-%d}, RTO {duration_for_people(self.rto_seconds)}"
        told = "".join(f"; {finding}" for finding in self.findings)
        return f"{head}, {self.missing:,} of {self.documents:,} documents missing{told}"

    def to_metadata(self) -> dict[str, Any]:
        return {
            "stamp": self.stamp,
            "proven_at": time_text(self.proven_at),
            "reached": time_text(self.reached) if self.reached else None,
            **plain(self, "rto_seconds documents missing"),
            "findings": list(self.findings),
            "restorable_until": time_text(self.restorable_until) if self.restorable_until else None,
            "rpo_seconds": self.rpo_seconds,
            "steps": dict(self.steps),
            "reread": self.reread.to_metadata() if self.reread else None,
        }

    @classmethod
    def from_metadata(cls, document: Document) -> "Proof":
        take = Fields(document)

        def given(name: str, read: Callable[[str], T]) -> T | None:
            return read(name) if document.get(name) is not None else None

        reread = given("reread", take.table)
        return cls(
            take.text("stamp"),
            take.time("proven_at"),
            given("reached", take.time),
            take.number("rto_seconds"),
            take.whole("documents"),
            take.whole("missing"),
            tuple(take.texts("findings")),
            given("restorable_until", take.time),
            given("rpo_seconds", take.number),
            {name: float(seconds) for name, seconds in (given("steps", take.table) or {}).items()},
            Reread.from_metadata(reread) if reread is not None else None,
        )


def read_proof(base: Path, stamp: str) -> Proof | None:
    """The drill result of the base backup in a folder; None: no drill yet. Raises OSError or ValueError."""
    try:
        proof = Proof.from_metadata(read_json(base / PROOF))
    except FileNotFoundError:
        return None
    if proof.stamp != stamp:
        raise ValueError(f"it is of the set {proof.stamp!r}")
    return proof


def write_proof(base: Path, proof: Proof) -> None:
    """Write a drill result beside the base backup's metadata, over an older one; on disk when it returns."""
    write_json(base / PROOF, proof.to_metadata())
