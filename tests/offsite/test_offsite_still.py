"""A check, a prune or a fetch that comes no further is ended and named, however long its limit is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from alfresco_backup.offsite import engine as engine_module
from alfresco_backup.offsite import fetch as fetch_module
from alfresco_backup.offsite.apply_prune import carry_out, make_prune_plan
from alfresco_backup.offsite.check import check
from alfresco_backup.offsite.engine import FarSideAway
from alfresco_backup.offsite.fetch import Fetching, fetch, learn, plan_for
from alfresco_backup.repository.layout import Repository
from alfresco_backup.restore.planning.request import LATEST
from alfresco_backup.times import utc_now
from tests.support.far_sides import FarDisk, with_checksums

pytestmark = pytest.mark.slow
SECONDS = 3.0
STILL = 'n=0; while :; do n=$((n + 1)); echo "[0:0$n] 40.00%  2 / 5 packs"; sleep 0.2; done'
GOES_ON = 'for n in 1 2 3 4 5 6; do echo "[0:0$n] 40.00%  $n / 6 packs"; sleep 0.7; done'
SLOWLY = """target=; for word; do [ "$last" != --target ] || target=$word; last=$word; done
for n in 1 2 3 4 5 6; do echo "$n" >"$target/slow"; sleep 0.7; done; rm $target/slow"""


@pytest.fixture
def restic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Lets a verb of restic do something before it begins."""

    def put(verb: str, what: str) -> None:
        program = tmp_path / "bin/restic"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\n[ "$1" != {verb} ] || {{ {what}\n}}\nexec /usr/bin/restic "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return put


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FarDisk:
    disk = FarDisk(tmp_path)
    with_checksums(disk.repository.base(disk.disk.run("1d")))
    disk.disk.wal("1d", "1h")
    disk.copy()
    disk.wal()
    monkeypatch.setattr(engine_module, "STILL_RUN_SECONDS", SECONDS)
    monkeypatch.setattr(fetch_module, "STILL_SECONDS", SECONDS)
    return disk


def test_a_check_that_comes_no_further_is_ended_and_one_that_is_slow_goes_on(
    far: FarDisk, restic: Callable[[str, str], None]
) -> None:
    restic("check", STILL)
    with pytest.raises(FarSideAway, match=r"`restic check` of the off-site .* came no further for 3 s"):
        check(far.host, far.engine, utc_now())
    restic("check", GOES_ON)
    assert check(far.host, far.engine, utc_now()).whole == 1


def test_a_prune_that_comes_no_further_is_ended(far: FarDisk, restic: Callable[[str, str], None]) -> None:
    plan = make_prune_plan(far.host, far.engine, utc_now())
    restic("prune", STILL)
    with pytest.raises(FarSideAway, match=r"`restic prune` of the off-site repository .* came no further"):
        carry_out(far.host, far.engine, plan)


def test_a_fetch_to_which_nothing_arrives_is_ended_and_the_next_one_completes(
    far: FarDisk, tmp_path: Path, restic: Callable[[str, str], None]
) -> None:
    fetching = Fetching(far.engine, "alf1", Repository(tmp_path / "new"))
    fetching.repository.root.mkdir()
    known = learn(fetching)
    restic("restore", "exec sleep 600")
    with pytest.raises(FarSideAway, match=r"nothing arrived from the off-site repository .* for 3 s"):
        fetch(fetching, known, plan_for(fetching, known, LATEST, None))
    restic("none", ":")
    known = learn(fetching)
    restic("restore", SLOWLY)
    fetch(fetching, known, plan_for(fetching, known, LATEST, None))
    restic("none", ":")
    known = learn(fetching)
    assert not plan_for(fetching, known, LATEST, None).pieces
