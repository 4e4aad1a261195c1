"""Which machine and which database cluster a host is, so that a second one under its name is noticed."""

from dataclasses import asdict, dataclass
from pathlib import Path

from alfresco_backup.host.host import Host
from alfresco_backup.postgres.database import system_identifier

MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True)
class HostIdentity:
    """What tells a host from another of its name. A field that could not be read is empty and tells nothing.

    Clones of a virtual machine can have one machine ID; a copy of the data on another machine has the same
    system identifier. So a host is the same when neither differs.
    """

    machine_id: str
    system_identifier: str

    def differences(self, recorded: "HostIdentity") -> list[str]:
        """What is another one than recorded, in words."""
        return [
            f"{name.replace('_', ' ')} {own}, recorded {known}"
            for (name, own), known in zip(asdict(self).items(), asdict(recorded).values(), strict=True)
            if own and known and own != known
        ]

    def completed_by(self, other: "HostIdentity") -> "HostIdentity":
        """This identity, with what it lacks taken from another of the same host."""
        return HostIdentity(
            self.machine_id or other.machine_id, self.system_identifier or other.system_identifier
        )


def read_machine_id(file: Path | None = None) -> str:
    """The ID of the machine this process runs on; empty where it cannot be read."""
    try:
        return (file or MACHINE_ID).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def read_identity(host: Host, machine_id: Path = MACHINE_ID) -> HostIdentity:
    """The identity of the machine this process runs on, and of the cluster in the host's data directory."""
    return HostIdentity(read_machine_id(machine_id), system_identifier(host.installation.data_directory))
