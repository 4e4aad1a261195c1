"""The steps of a run are named after what they do."""

import re
from importlib import import_module
from uuid import uuid4

import pytest
from prefect import Task
from prefect.client.schemas.objects import TaskRun

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tasks.alerts.facts import _task_name
from tasks.backup.base_backup import make_base_backup
from tasks.backup.contentstore import snapshot_store

MODULES = [
    ".".join(file.relative_to(PROJECT_DIRECTORY).with_suffix("").parts)
    for file in sorted((PROJECT_DIRECTORY / "tasks").rglob("[a-z]*.py"))
]


def test_each_step_has_a_name_that_people_read() -> None:
    steps = {
        item.name: str(item.task_run_name or "")
        for module in MODULES
        for item in vars(import_module(module)).values()
        if isinstance(item, Task)
    }
    assert len(steps) > 50
    odd = {name: run for name, run in steps.items() if not re.fullmatch(r"[A-Za-z][\w .{}-]+[a-zA-Z}]", run)}
    assert not odd
    assert make_base_backup.task_run_name == "base backup"
    assert snapshot_store.task_run_name == "snapshot of {store}"


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("base backup", "base backup"),
        ("snapshot of contentstore", "snapshot of contentstore"),
        ("snapshot of content-2", "snapshot of content-2"),  # the store's own name
        ("base-backup-1f0", "base-backup"),  # killed before it began: Prefect's name for it
    ],
)
def test_a_mail_names_the_step_as_prefect_shows_it(named: str, expected: str) -> None:
    run = TaskRun(name=named, flow_run_id=uuid4(), task_key="x", dynamic_key="0")
    assert _task_name(run) == expected
