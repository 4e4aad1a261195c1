"""Six clients that write at once get good answers. For minutes: python -m benchmarks.prefect_load."""

from pathlib import Path

from tests.support.prefect_lab import API_LOGIN, prefect_lab
from tests.support.prefect_load import write_at_once


def test_six_writers_get_a_good_answer_to_every_request(tmp_path: Path) -> None:
    """With the application that `prefect server start` has, two fifths of the answers were bad (3.9.1)."""
    with prefect_lab(tmp_path) as lab:
        load = write_at_once(lab.address, API_LOGIN, seconds=30)
        assert load.bad == {}, load
        assert len(load.seconds) > 50, load
        running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
        assert lab.post("/flow_runs/filter", running) == []  # every state that was accepted is there
