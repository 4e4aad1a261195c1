"""What several tests of snapshots need."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a file that rsync cannot read: for root, rsync is run without root's right to read any file."""

    def make(file: Path) -> None:
        file.chmod(0)
        if os.geteuid() == 0:
            bindir = tmp_path / "bin"
            bindir.mkdir(exist_ok=True)
            caps = "--bounding-set=-dac_override,-dac_read_search"
            (bindir / "rsync").write_text(f'#!/bin/sh\nexec setpriv {caps} {shutil.which("rsync")} "$@"\n')
            (bindir / "rsync").chmod(0o755)
            monkeypatch.setenv("PATH", f"{bindir}:{os.environ['PATH']}")

    return make
