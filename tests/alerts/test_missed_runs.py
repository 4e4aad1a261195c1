"""After an outage of the worker the newest of the missed runs does the work, once."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow_sync
from prefect.states import Failed, Scheduled

from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from alfresco_backup.times import for_people, utc_now
from flows.backup import backup

pytestmark = pytest.mark.usefixtures("prefect_server")
WEEKLY = {"components": ["contentstore"], "contentstore_mode": "full"}


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A host whose BACKUP_DIR is not there: a run that does its work is refused at once."""
    (tmp_path / "home/alf_data/postgresql").mkdir(parents=True)
    file = tmp_path / "host.env"
    name = f"host-{uuid4()}"
    file.write_text(
        f"PGHOST=localhost\nPGUSER=x\nBACKUP_DIR={tmp_path}/none\nALF_BASE_DIR={tmp_path}/home\n"
        f"ALF_HOST_NAME={name}\n"
    )
    file.chmod(0o600)
    monkeypatch.setenv(ENV_FILE_VARIABLE, str(file))
    return name


def deploy(name: str) -> UUID:
    with get_client(sync_client=True) as client:
        return client.create_deployment(client.create_flow_from_name("backup"), name)


def due(deployment: UUID, hours_ago: float, *tags: str, **parameters: Any) -> FlowRun:
    """A run that was due and has not started; with no tags the scheduler's."""
    state: State[None] = Scheduled(scheduled_time=utc_now() - timedelta(hours=hours_ago))
    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(
            deployment, state=state, tags=tags or ("auto-scheduled",), parameters=parameters
        )


def carry_out(run: FlowRun) -> State[Any]:
    """What the worker does with a run."""
    state = run_flow_sync(backup, flow_run=run, parameters=run.parameters, return_type="state")
    assert isinstance(state, State)
    return state


def test_of_missed_nights_the_newest_alone_is_made_up_for(host: str) -> None:
    nightly = deploy(host)
    nights = [due(nightly, hours) for hours in (54, 30, 6)]
    due(nightly, -18)
    weekly = due(nightly, 3, **WEEKLY)
    for night in nights[:2]:
        state = carry_out(night)
        assert state.name == "Skipped" and night.expected_start_time and nights[2].expected_start_time
        assert state.message == (
            f"skipped: it was due {for_people(night.expected_start_time)} and could not start then; "
            f"the run due {for_people(nights[2].expected_start_time)} replaces it"
        )
    assert "BACKUP_DIR" in (carry_out(nights[2]).message or "")
    assert "BACKUP_DIR" in (carry_out(weekly).message or "")


def test_a_run_by_hand_is_never_skipped_nor_a_reason_to_skip(host: str) -> None:
    nightly = deploy(host)
    by_hand, night = due(nightly, 30, "by-hand"), due(nightly, 20)
    due(nightly, 2, "by-hand")
    assert "BACKUP_DIR" in (carry_out(night).message or "")
    assert "BACKUP_DIR" in (carry_out(by_hand).message or "")


def test_a_later_run_that_failed_does_nobodys_work(host: str) -> None:
    nightly = deploy(host)
    night, failed = due(nightly, 30), due(nightly, 6)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(failed.id, Failed(message="it broke"), force=True)
    assert "BACKUP_DIR" in (carry_out(night).message or "")
