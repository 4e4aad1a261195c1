"""The Prefect server that tests share: the product's, without a password, which frees what a killed run held.

Without a password Prefect's server takes itself for one that lives as long as a single run, and leaves out
the service that revokes leases which nobody renews: one killed run would keep its host from all later tests.
"""

import sys

from fastapi import FastAPI

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tasks.runs import server_app


def argv(port: int) -> list[str]:
    """What starts it on a port of this machine."""
    program = [sys.executable, "-m", "uvicorn", "--app-dir", str(PROJECT_DIRECTORY), "--factory"]
    place = ["--host", "127.0.0.1", "--port", str(port), "--lifespan", "on", "--log-level", "error"]
    return [*program, *place, f"{__name__}:create_app"]


def create_app() -> FastAPI:
    from prefect.server.services import perpetual_services, repossessor  # noqa: PLC0415 - reads the environment

    [service] = [
        service
        for service in perpetual_services._PERPETUAL_SERVICES
        if service.function is repossessor.monitor_expired_leases
    ]
    service.run_in_ephemeral = True
    return server_app.create_app()
