"""What is told of a stored file that is not what was copied."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN = 3


@dataclass(frozen=True)
class Damage:
    """A file that is not what was copied, in `tree` and wherever that is linked to.

    `name` is for people. `good` are snapshots that hold it whole, `live` says whether the live store does.
    """

    name: str
    tree: Path
    snapshots: tuple[str, ...]
    what: str
    good: tuple[str, ...]
    live: bool

    @property
    def sentence(self) -> str:
        where = [f"snapshot{'s' if len(self.good) > 1 else ''} {_some(self.good)}"] if self.good else []
        where += ["the live store"] if self.live else []
        whole = f"whole in {' and '.join(where)}" if where else "no other copy of it is known"
        return f"{self.tree}/{self.name} {self.what} (in {_some(self.snapshots)}); {whole}"


def _some(stamps: Sequence[str]) -> str:
    """The newest few of them."""
    more = f" and {len(stamps) - SHOWN} older" if len(stamps) > SHOWN else ""
    return ", ".join(list(stamps)[-SHOWN:]) + more
