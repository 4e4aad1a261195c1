"""The parameters of the restore flows, as Prefect's form shows them."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from alfresco_backup.restore_request import Latest, Mode, Strategy, aware_target

Backup = Annotated[str, Field(description="stamp of a backup as the table backup-sets lists it, or latest")]
Content = Annotated[
    Strategy,
    Field(
        description="fill: copy in what is missing or differs, delete nothing; "
        "replace: set the store aside and copy all of it"
    ),
]
TargetTime = Annotated[
    Annotated[datetime, AfterValidator(aware_target)] | Latest,
    Field(description="the moment to go back to, with its offset from UTC, or latest: the end of all WAL"),
]
OptionalTargetTime = Annotated[
    Annotated[datetime, AfterValidator(aware_target)] | Latest | None,
    Field(description="a moment with its offset from UTC, or latest; empty: the end of the backup"),
]
Timeline = Annotated[
    int | None, Field(ge=1, description="timeline of the moment; empty: the one in use at the moment")
]
PlanOrExecute = Annotated[
    Mode, Field(description="plan: show what would be done and touch nothing; execute: do it")
]
Confirm = Annotated[str, Field(description="the host's name, needed to execute")]
StartAlfresco = Annotated[bool, Field(description="start Alfresco when all is restored")]
"""Descriptions are what an operator reads in the form; the flows check every value again."""
