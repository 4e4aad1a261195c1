"""How a parameter of a flow reads in Prefect's form: a title and a line of help."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from alfresco_backup.restore.planning.request import Latest, RunMode, Source, Strategy, aware_target


def form_field(title: str, text: str = "") -> Any:
    """`Annotated[str, form_field("Backup", "which one")]` on a parameter, or on one alternative of its type.

    The title and description of `Field` would not do: Prefect 3.8.8 replaces them by the parameter's name and
    by what the docstring says of it, but keeps what is added to the schema.
    """
    words = {"title": title} | ({"description": text} if text else {})
    return Field(json_schema_extra=dict(words))


# The parameters of the restore flows, as Prefect's form shows them.

Backup = Annotated[str, form_field("Backup", "ID of a backup as the table backup-sets lists it, or `latest`")]
Content = Annotated[
    Strategy,
    form_field(
        "Content store",
        "fill: copy in what is missing or differs, delete nothing; "
        "replace: set the store aside and copy all of it",
    ),
]
Moment = Annotated[datetime, form_field("a time")]
EndOfWal = Annotated[Latest, form_field("latest")]
TargetTime = Annotated[
    Annotated[Moment, AfterValidator(aware_target)] | EndOfWal,
    form_field(
        "Target time",
        "the time to restore to, in the time zone chosen beside it, or `latest`: the end of all WAL",
    ),
]
OptionalTargetTime = Annotated[
    Annotated[Moment, AfterValidator(aware_target)]
    | EndOfWal
    | Annotated[None, form_field("end of the backup")],
    form_field("Target time", "a time in the time zone chosen beside it, or `latest`: the end of all WAL"),
]
Timeline = Annotated[
    Annotated[int, Field(ge=1), form_field("number")] | Annotated[None, form_field("the one in use then")],
    form_field("Timeline", "timeline of the target time, where earlier restores have made several"),
]
PlanOrExecute = Annotated[
    RunMode, form_field("Mode", "plan: show what would be done and change nothing; execute: do it")
]
Confirm = Annotated[str, form_field("Confirm", "the host's name, needed to execute")]
From = Annotated[
    Source,
    form_field(
        "Source", "local: from BACKUP_DIR; offsite: fetch what is needed from the off-site copy first"
    ),
]
StartAlfresco = Annotated[bool, form_field("Start Alfresco", "when all is restored")]
"""Descriptions are what an operator reads in the form; the flows check every value again."""
