"""Where deployments differ from prefect.yaml: what somebody changed in Prefect, or a new version changes.

Prefect's own rule (3.8.8, measured): deploying makes everything as prefect.yaml has it, the schedules of a
deployment as a whole. Only a deployment without schedules there keeps those that were added by hand.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """What is there, in words, and what deploying does to it."""

    words: str
    fate: Literal["replaced", "removed", "added", "kept"] = "replaced"


def differences(client: SyncPrefectClient, items: Mapping[str, Item]) -> list[Difference]:
    """What is not as prefect.yaml has it, its entries given by full name. What is missing does not count."""
    found = []
    for name, item in items.items():
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound:
            continue
        found += [Difference(f"{name}: {it.words}", it.fate) for it in _differing(item, deployment)]
    for item in items.values():
        for trigger in item.get("triggers") or ():
            if any(not automation.enabled for automation in client.read_automations_by_name(trigger["name"])):
                found.append(Difference(f"automation `{trigger['name']}`: off, prefect.yaml has on"))
    return found


def _differing(item: Item, deployment: DeploymentResponse) -> Iterator[Difference]:
    if deployment.paused:
        yield Difference("paused, prefect.yaml has it on")
    wanted = item.get("parameters") or {}
    if deployment.parameters != wanted:
        yield Difference(f"parameters {deployment.parameters}, prefect.yaml has {wanted}")
    yield from _differing_schedules(item.get("schedules") or (), deployment.schedules)


def _differing_schedules(wanted: Iterable[Item], found: list[DeploymentSchedule]) -> Iterator[Difference]:
    by_slug = {entry["slug"]: entry for entry in wanted}
    for entry in found:
        if entry.slug not in by_slug:
            # where prefect.yaml has no schedules Prefect leaves those that are there
            fate: Literal["removed", "kept"] = "removed" if by_slug else "kept"
            yield Difference(f"schedule {_found_words(entry)}, not in prefect.yaml", fate)
    slugs = {entry.slug: entry for entry in found}
    for slug, item in by_slug.items():
        has = _wanted_words(item)
        if slug not in slugs:
            yield Difference(f"schedule {slug} is missing, prefect.yaml has {has}", "added")
        elif (found_words := _found_words(slugs[slug])) != has:
            yield Difference(f"schedule {slug} {found_words}, prefect.yaml has {has}")


def _wanted_words(entry: Item) -> str:
    active, parameters = entry.get("active", True), entry.get("parameters") or {}
    return _words(f"{entry['cron']} {entry['timezone']}", active=active, parameters=parameters)


def _found_words(entry: DeploymentSchedule) -> str:
    times = entry.schedule
    said = f"{times.cron} {times.timezone or 'UTC'}" if isinstance(times, CronSchedule) else f"{times!r}"
    return _words(said, active=entry.active, parameters=entry.parameters)


def _words(times: str, *, active: bool, parameters: Item) -> str:
    return " ".join(
        [times, *([str(dict(parameters))] if parameters else []), *([] if active else ["(paused)"])]
    )
