"""The parameters of the restore flows, as Prefect's form shows them."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from alfresco_backup.form_help import Help
from alfresco_backup.restore_request import Latest, Mode, Strategy, aware_target

Backup = Annotated[str, Help("stamp of a backup as the table backup-sets lists it, or latest")]
Content = Annotated[
    Strategy,
    Help(
        "fill: copy in what is missing or differs, delete nothing; "
        "replace: set the store aside and copy all of it"
    ),
]
TargetTime = Annotated[
    Annotated[datetime, AfterValidator(aware_target)] | Latest,
    Help("the moment to go back to, with its offset from UTC, or latest: the end of all WAL"),
]
OptionalTargetTime = Annotated[
    Annotated[datetime, AfterValidator(aware_target)] | Latest | None,
    Help("a moment with its offset from UTC, or latest; empty: the end of the backup"),
]
Timeline = Annotated[
    int | None,
    Field(ge=1),
    Help("timeline of the moment; empty: the one in use at the moment"),
]
PlanOrExecute = Annotated[Mode, Help("plan: show what would be done and touch nothing; execute: do it")]
Confirm = Annotated[str, Help("the host's name, needed to execute")]
StartAlfresco = Annotated[bool, Help("start Alfresco when all is restored")]
"""Descriptions are what an operator reads in the form; the flows check every value again."""
