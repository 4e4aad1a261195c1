"""`drill` and drill.py as cron and people run them: any folder, a bare environment, meaningful exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.backup.proof import read_proof
from alfresco_backup.host.host import load_host
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.commands import program_command
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from tests.support.common import temporary_demo_host
from tests.support.prefect_database import give_database

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
LIMIT_SECONDS = 600


def run(program: str, *arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    """Run it as cron does: from the root folder, with next to nothing in the environment."""
    return subprocess.run(
        [sys.executable, PROJECT / program, *map(str, arguments)],
        cwd="/",
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def verb(name: str, *words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Type a verb as messages print it, in a shell with an empty environment but for HOME."""
    return subprocess.run(
        ["env", "-i", f"HOME={home}", "sh", "-c", program_command(name, *words)],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.mark.slow
def test_a_set_is_proven_by_one_command_and_a_missing_document_is_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_database(tmp_path / ".prefect")
    with temporary_demo_host(documents=60) as host:
        assert run("backup.py", host.env_file, home=tmp_path).returncode == 0
        repository = load_host(host.env_file).repository
        (base,) = read_catalogue(repository).bases
        proven = run("drill.py", host.env_file, "--target-time", "end", home=tmp_path)
        assert proven.returncode == 0, proven.stderr
        assert f"# Restore drill of base backup {base.stamp}" in proven.stdout
        proof = read_proof(base.path, base.stamp)
        assert proof is not None and proof.sound and proof.documents > 50
        stored = sorted(repository.store("contentstore").days.glob("*Z/*/*/*/*/*/*.bin"))
        stored[0].unlink()
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        missing = verb("drill", "--target-time", "end", "--json", home=tmp_path)
        error = json.loads(missing.stdout)["error"]
        assert (missing.returncode, error["kind"]) == (4, "DocumentsMissing"), missing.stderr
        assert error["message"].startswith("1 document")
        assert host.answer()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--target-time", "2026-11-22T03:00:00"], 3, "has no time zone; add a UTC offset"),
        (["--target-time", "yesterday"], 3, "target time 'yesterday' is not a date and time in ISO 8601"),
        (["--no-such-flag"], 2, "unrecognized arguments: --no-such-flag"),
    ],
)
def test_what_was_typed_wrongly_is_refused_before_prefect_is_loaded(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    settings = (PROJECT / ".env.example").read_text()
    env_file = tmp_path / ".env"
    env_file.write_text(settings)
    done = run("drill.py", env_file, *arguments, home=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert not (tmp_path / ".prefect").exists()
