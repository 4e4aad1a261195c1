"""What is typed after `restore` and `undo`, and what becomes of it."""

import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pkgutil import resolve_name
from typing import Any

import pytest

from alfresco_backup.cli.commands import VERBS, env_file_of, parse
from alfresco_backup.cli.restore_arguments import Order
from alfresco_backup.cli.works import WORKS
from alfresco_backup.errors import Refused
from alfresco_backup.restore.planning.request import require_confirmed
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from flows.by_hand import DOCUMENTS, FLOWS, RESTORES

STAMP = "20261122T020000Z"
MOMENT = datetime(2026, 11, 22, 2, 30, tzinfo=UTC)
PLAN = {"mode": "plan", "confirm": "", "start_alfresco": True}


@pytest.mark.parametrize(
    ("typed", "flow", "parameters"),
    [
        ("--mode full", "restore_full", {**PLAN, "backup": "latest", "contentstore": "fill"}),
        (
            f"--mode full --backup {STAMP} --contentstore replace --no-start --execute --confirm demo",
            "restore_full",
            {
                "mode": "execute",
                "confirm": "demo",
                "start_alfresco": False,
                "backup": STAMP,
                "contentstore": "replace",
            },
        ),
        (
            "--mode pitr --target-time 2026-11-22T03:30:00+01:00 --timeline 3",
            "restore_pitr",
            {**PLAN, "backup": "latest", "target_time": MOMENT, "timeline": 3, "contentstore": "fill"},
        ),
        (
            f"--mode pitr --target-time latest --backup {STAMP}",
            "restore_pitr",
            {**PLAN, "backup": STAMP, "target_time": "latest", "timeline": None, "contentstore": "fill"},
        ),
        (
            f"--mode postgres --backup {STAMP}",
            "restore_postgres",
            {**PLAN, "backup": STAMP, "target_time": None, "timeline": None},
        ),
        (
            "--mode contentstore",
            "restore_contentstore",
            {**PLAN, "backup": "latest", "contentstore": "fill"},
        ),
        (
            "--mode undo",
            "undo_restore",
            {"mode": "plan", "confirm": "", "restore": "latest", "discard": False, "accept": False},
        ),
        (
            f"--mode undo --backup {STAMP} --discard --execute --confirm demo",
            "undo_restore",
            {"mode": "execute", "confirm": "demo", "restore": STAMP, "discard": True, "accept": False},
        ),
        (
            f"--mode undo --backup {STAMP} --accept --execute --confirm demo",
            "undo_restore",
            {"mode": "execute", "confirm": "demo", "restore": STAMP, "discard": False, "accept": True},
        ),
    ],
)
def test_flags_become_a_flow_and_its_parameters(typed: str, flow: str, parameters: dict[str, Any]) -> None:
    order = order_of("restore", *typed.split())
    assert order is not None
    assert (resolve_name(RESTORES[order.mode]).__name__, order.parameters) == (flow, parameters)


@pytest.mark.parametrize(
    "order",
    [
        Order("full", backup=STAMP, contentstore="replace", start_alfresco=False),
        Order("pitr", target_time=MOMENT, timeline=2, execute=True, confirm="demo's host"),
        Order("pitr", target_time="latest", contentstore="fill"),
        Order("undo", backup=STAMP, discard=True),
        Order("undo", backup=STAMP, accept=True, execute=True, confirm="demo"),
    ],
)
def test_the_command_shown_for_an_order_gives_that_order(order: Order) -> None:
    words = shlex.split(order.command())
    assert words[:6] == ["cd", str(PROJECT_DIRECTORY), "&&", ".venv/bin/python", "-m", "alfresco_backup"]
    typed = order_of(*words[6:])
    assert typed is not None
    assert (typed.mode, typed.parameters) == (order.mode, order.parameters)


def order_of(*words: str) -> Order | None:
    """What becomes of the words after the program's name."""
    verb, typed = parse(words)
    assert verb.order
    return verb.order(typed)


def test_without_a_mode_everything_is_asked() -> None:
    assert order_of("restore") is None
    _, typed = parse(["restore", "--env", "/etc/alfresco-backup.env"])
    assert str(env_file_of(typed)) == "/etc/alfresco-backup.env"
    assert order_of("restore", "--env", "/etc/alfresco-backup.env") is None


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("--mode everything", "argument --mode: invalid choice: 'everything'"),
        ("--mode full --contentstore keep", "argument --contentstore: invalid choice: 'keep'"),
        ("--execute", "--execute needs --mode: full, pitr, postgres, contentstore, undo"),
        ("--json", "--json needs --mode"),
        ("--mode contentstore --timeline 2", "--timeline does not go with --mode contentstore"),
        ("--mode full --target-time latest", "--target-time does not go with --mode full"),
        ("--mode postgres --contentstore fill", "--contentstore does not go with --mode postgres"),
        ("--mode full --discard", "--discard does not go with --mode full; it belongs to undo"),
        ("--mode pitr --accept", "--accept does not go with --mode pitr; it belongs to undo"),
        ("--mode undo --accept --discard", "--discard does not go with --accept"),
        ("--mode undo --no-start", "--no-start does not go with --mode undo"),
        ("--mode full --exec", "unrecognized arguments: --exec"),
        ("--mode pitr --timeline one", "invalid int value: 'one'"),
        ("full", "unrecognized arguments: full"),
    ],
)
def test_wrong_arguments_end_with_code_2_and_say_what_is_expected(
    typed: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        order_of("restore", *typed.split())
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("text", ["2026-11-22T03:00:00", "2026-11-22 03:00"])
def test_a_time_without_offset_is_refused_with_the_forms_that_are_accepted(text: str) -> None:
    with pytest.raises(Refused, match="has no time zone; add a UTC offset") as refused:
        order_of("restore", "--mode", "pitr", "--target-time", text)
    local = datetime(2026, 11, 22, 3).astimezone().isoformat()
    assert refused.value.hint == f"type {local} (this host's time zone) or 2026-11-22T03:00:00Z (UTC)"
    assert refused.value.exit_code == 3


def test_an_order_without_confirmation_is_refused_by_name() -> None:
    for confirm, said in (("", "is missing"), ("other", "is 'other'")):
        request = Order("full", execute=True, confirm=confirm).request
        assert request is not None
        with pytest.raises(
            Refused, match=f"confirm {said}; to execute a restore it must be the host's name, demo"
        ):
            require_confirmed("a restore", request.confirm, "demo")


def test_every_flag_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("restore", "undo"):
        with pytest.raises(SystemExit):
            parse([verb, "--help"])
    flags = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(flags) == 13
    text = (PROJECT_DIRECTORY / "docs/reference/restore.md").read_text()
    assert {flag for flag in flags if f"| `{flag}" not in text} == set()


def test_every_verb_that_works_without_prefect_has_its_work() -> None:
    assert set(WORKS) == {verb.name for verb in VERBS if verb.work}


@pytest.mark.parametrize(
    ("name", "flow"), [(verb.replace(" ", "-"), where) for verb, where in {**DOCUMENTS, **FLOWS}.items()]
)
def test_each_verb_runs_the_flow_of_its_name(name: str, flow: str) -> None:
    other = {
        "drill": "restore-drill",
        "documents-find": "find-document",
        "documents-restore": "restore-document",
    }
    assert resolve_name(flow).name == other.get(name, name)


@pytest.mark.slow
def test_a_verb_imports_its_own_flow_and_no_other() -> None:
    """All of them take half a second more than one, each time."""
    code = (
        "import sys; from flows.by_hand import load_flow; load_flow('backup')\n"
        "print(*sorted(name for name in sys.modules if name.startswith('flows.')))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True
    ).stdout
    assert said == "flows.backup flows.by_hand\n"
