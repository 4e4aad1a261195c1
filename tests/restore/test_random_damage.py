"""Random damage to any file of a repository: what is restored is what was claimed, or the cause is told.

`make test-damage` runs 200 cases with a seed of its own; DAMAGE_SEED repeats one run.
"""

import os
import sys
from collections.abc import Iterator

import pytest

from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from tests.support.common import temporary_demo_host
from tests.support.random_damage import KINDS, Case, Life

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("DAMAGE_CASES", len(KINDS)))
SEED = int(os.environ.get("DAMAGE_SEED", "20261128"))


@pytest.fixture(scope="module")
def life(prefect_server: None) -> Iterator[Life]:
    with temporary_demo_host(documents=25) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        made = Life(host)
        yield made
        told = ", ".join(f"{words}: {count}" for words, count in sorted(made.told.items()))
        sys.stdout.write(
            f"\nDAMAGE_SEED={SEED}, {CASES} cases, {made.used_cases} hit a file of the plan; {told}\n"
        )


@pytest.mark.parametrize("number", range(CASES))
def test_what_is_restored_from_a_damaged_repository_is_what_was_claimed(life: Life, number: int) -> None:
    case = Case(life, SEED * 1000 + number, KINDS[number % len(KINDS)])
    sys.stdout.write(f"\n{case}\n")
    assert case.run() == []
