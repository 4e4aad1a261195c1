"""Comparing a host's configuration with a set's. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

KEYSTORE = "keystore"
NAMED = 5


@dataclass(frozen=True)
class ConfigurationDifference:
    """Files by `part/path`: other content, in the set only, on the host only.

    `restored`: parts that were missing and came back.
    """

    stamp: str
    differing: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()

    @property
    def keystore(self) -> tuple[str, ...]:
        """The files of the keystore that are not as in the set."""
        changed = (*self.differing, *self.missing)
        return tuple(name for name in changed if name.partition("/")[0] == KEYSTORE)

    def sentences(self) -> list[str]:
        """What deserves a look, one sentence each; none when all is as in the set."""
        found = []
        if self.keystore:
            found.append(
                f"the keystore differs from that of set {self.stamp} ({_some(self.keystore)}): Alfresco does "
                "not start with another keystore than its database was encrypted with"
            )
        rest = [name for name in (*self.differing, *self.missing) if name not in self.keystore]
        if rest:
            found.append(f"configuration other than in set {self.stamp}: {_some(rest)}")
        if self.restored:
            found.append(f"{', '.join(self.restored)} was missing and came back from set {self.stamp}")
        return found


def compare_configuration(
    stamp: str, recorded: Mapping[str, str], found: Mapping[str, str], restored: tuple[str, ...] = ()
) -> ConfigurationDifference:
    """Compare checksums by `part/path`. Parts that neither side digests say nothing."""
    return ConfigurationDifference(
        stamp,
        tuple(sorted(name for name, digest in recorded.items() if found.get(name, digest) != digest)),
        tuple(sorted(recorded.keys() - found.keys())),
        tuple(sorted(found.keys() - recorded.keys())),
        restored,
    )


def _some(names: "list[str] | tuple[str, ...]") -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
