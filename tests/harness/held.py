"""Tests that never end: test_interrupted.py runs them in a pytest of its own and kills it meanwhile."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.cluster import Cluster
from demo.host import DemoHost
from tests.support.places import own_folder


def hold(*folders: Path) -> None:
    """Tell whoever started this pytest which folders are in use, and wait to be killed."""
    file = Path(os.environ["HELD"], str(os.getpid()))
    partial = file.with_suffix(".partial")
    partial.write_text("\n".join(map(str, (own_folder(), *folders))))
    partial.rename(file)
    signal.pause()


def test_holds_a_host(demo_host: DemoHost, tmp_path: Path) -> None:
    assert "documents" in demo_host.answer()
    hold(tmp_path)


@pytest.mark.usefixtures("prefect_server")
def test_holds_a_cluster_and_a_prefect_server(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.running
    hold(tmp_path)


def test_holds_a_mount(bind: Callable[[Path, Path], None], tmp_path: Path) -> None:
    bind(tmp_path / "folder", tmp_path / "place")
    hold(tmp_path)
