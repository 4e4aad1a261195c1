"""What a Prefect server knows of a host, asked over its HTTP API: this package does not import Prefect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from alfresco_backup.host.schedules import Schedule
from alfresco_backup.repository.layout import is_everything

ASK_SECONDS = 20.0
BACKUP, DRILL = "backup", "restore-drill"
Document = Mapping[str, Any]


@dataclass(frozen=True)
class ServerAddress:
    """Where the Prefect server is, and how to log in there."""

    url: str
    auth: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "ServerAddress | None":
        """From Prefect's own variables; None where no server is configured."""
        url = environment.get("PREFECT_API_URL", "").rstrip("/")
        if not url:
            return None
        return cls(
            url, environment.get("PREFECT_API_AUTH_STRING", ""), environment.get("PREFECT_API_KEY", "")
        )


@dataclass(frozen=True)
class PrefectView:
    """What the server said. `problem` is why it could not be asked; the rest is empty then.

    `deployments` are those that doctor looks for, by flow; `next_runs` when they start next, if scheduled.
    """

    address: str
    problem: str = ""
    version: str = ""
    lease_storage: str = ""
    pool: Document | None = None
    workers: tuple[Document, ...] = ()
    limit: Document | None = None
    deployments: Mapping[str, Document] = field(default_factory=dict)
    next_runs: Mapping[str, datetime] = field(default_factory=dict)
    automations: tuple[Document, ...] = ()
    mail_block: Document | None = None

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """Schedules of backups that are on."""
        found = self.deployments.get(BACKUP)
        if found is None or found.get("paused"):
            return ()
        listed = [item for item in found.get("schedules") or () if item.get("active")]
        return tuple(self._schedule(found, item) for item in listed)

    def _schedule(self, deployment: Document, entry: Document) -> Schedule:
        times = entry.get("schedule") or {}
        parameters = {**(deployment.get("parameters") or {}), **(entry.get("parameters") or {})}
        components = parameters.get("components")
        whole = components is None or is_everything(components)
        source = f"deployment {BACKUP}/{deployment['name']}"
        return Schedule(source, str(times.get("cron") or ""), str(times.get("timezone") or "UTC"), whole)


def view_prefect(address: ServerAddress, host: str, block: str) -> PrefectView:
    """Ask the server about a host and its mail block; what it cannot be asked about is in `problem`."""
    headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
    user, _, password = address.auth.partition(":")
    login = httpx.BasicAuth(user, password) if address.auth else None
    try:
        with httpx.Client(timeout=ASK_SECONDS, headers=headers, auth=login) as client:
            return _asked(_Api(client, address.url), address.url, host, block)
    except httpx.HTTPStatusError as refusal:
        code = refusal.response.status_code
        what = "refuses the login" if code in (401, 403) else f"answers {code} to {refusal.request.url.path}"
        return PrefectView(address.url, what)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as failure:
        return PrefectView(address.url, f"does not answer: {failure or type(failure).__name__}")


@dataclass(frozen=True)
class _Api:
    client: httpx.Client
    url: str

    def get(self, path: str) -> Any:
        """The document, None where there is none of that name."""
        answer = self.client.get(f"{self.url}{path}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return answer.json()

    def find(self, path: str, **wanted: Any) -> list[Any]:
        answer = self.client.post(f"{self.url}{path}", json=wanted)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        answer.raise_for_status()
        return list(answer.json())


def _asked(api: _Api, url: str, host: str, block: str) -> PrefectView:
    settings = api.get("/admin/settings") or {}
    flows = (BACKUP, DRILL)
    found = {flow: api.get(f"/deployments/name/{flow}/{host}") for flow in flows}
    deployments = {flow: item for flow, item in found.items() if item is not None}
    place = f"/block_types/slug/email-server-credentials/block_documents/name/{block}"
    stored = api.get(place) or {}
    return PrefectView(
        url,
        version=str(api.get("/admin/version") or ""),
        lease_storage=str(settings.get("server", {}).get("concurrency", {}).get("lease_storage", "")),
        pool=api.get(f"/work_pools/{host}"),
        workers=tuple(api.find(f"/work_pools/{host}/workers/filter")),
        limit=api.get(f"/v2/concurrency_limits/{host}"),
        deployments=deployments,
        next_runs=dict(_next_runs(api, deployments)),
        automations=tuple(api.find("/automations/filter")),
        mail_block=stored.get("data"),
    )


def _next_runs(api: _Api, deployments: Mapping[str, Document]) -> list[tuple[str, datetime]]:
    runs = []
    for flow, item in deployments.items():
        listed = api.find(
            "/flow_runs/filter",
            deployments={"id": {"any_": [item["id"]]}},
            flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}},
            sort="EXPECTED_START_TIME_ASC",
            limit=1,
        )
        runs += [(flow, datetime.fromisoformat(run["expected_start_time"])) for run in listed]
    return runs
