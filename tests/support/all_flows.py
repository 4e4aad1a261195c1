"""All flows of the project, by the names of their functions."""

from importlib import import_module
from typing import Any

from prefect import Flow

from alfresco_backup.settings.model import PROJECT_DIRECTORY

FLOWS: dict[str, Flow[Any, Any]] = {
    name: item
    for file in sorted((PROJECT_DIRECTORY / "flows").glob("[a-z]*.py"))
    if file.stem != "by_hand"
    for name, item in vars(import_module(f"flows.{file.stem}")).items()
    if isinstance(item, Flow)
}


def entrypoint(name: str) -> str:
    """A flow's entrypoint as prefect.yaml names it."""
    return f"{FLOWS[name].fn.__module__.replace('.', '/')}.py:{name}"
