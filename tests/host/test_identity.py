"""A host is known by its machine and its cluster."""

from pathlib import Path

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.host.host import load_host
from alfresco_backup.host.identity import HostIdentity, read_identity
from tasks.runs.identity import require_same

OWN = HostIdentity("4a" * 16, "7577000000000000001")


def test_machine_and_cluster_are_read_where_they_can_be(tmp_path: Path) -> None:
    home = tmp_path / "alfresco"
    control = home / "alf_data/postgresql/global/pg_control"
    control.parent.mkdir(parents=True)
    env = tmp_path / "host.env"
    env.write_text(f"PGHOST=localhost\nPGUSER=x\nBACKUP_DIR={tmp_path}\nALF_BASE_DIR={home}\n")
    env.chmod(0o600)
    machine = tmp_path / "machine-id"
    assert read_identity(load_host(env), machine) == HostIdentity("", "")
    machine.write_text(f"{OWN.machine_id}\n")
    control.write_bytes(int(OWN.system_identifier).to_bytes(8, "little") + b"the rest")
    assert read_identity(load_host(env), machine) == OWN


@pytest.mark.parametrize(
    "recorded",
    [OWN, HostIdentity("", OWN.system_identifier), HostIdentity(OWN.machine_id, ""), HostIdentity("", "")],
)
def test_what_could_not_be_read_makes_no_other_host(recorded: HostIdentity) -> None:
    require_same("alf1", OWN, recorded)
    require_same("alf1", recorded, OWN)
    assert recorded.completed_by(OWN) == OWN


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        (
            HostIdentity("5b" * 16, OWN.system_identifier),
            f"machine id {'4a' * 16}, recorded {'5b' * 16}",
        ),
        (HostIdentity(OWN.machine_id, "1"), f"system identifier {OWN.system_identifier}, recorded 1"),
    ],
    ids=["a copy of the data on another machine", "a clone of the virtual machine with a cluster of its own"],
)
def test_another_machine_or_another_cluster_is_refused(recorded: HostIdentity, words: str) -> None:
    with pytest.raises(Refused) as refused:
        require_same("alf1", OWN, recorded)
    assert refused.value.message == (
        f"this machine is not the host alf1 that its Prefect server knows: {words}. "
        "Two machines under one name would take each other's runs"
    )
    assert "deploy --take-over" in refused.value.hint.splitlines()[1]
