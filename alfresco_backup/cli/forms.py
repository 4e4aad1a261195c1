"""How a parameter of a flow reads in Prefect's form: a title and a line of help."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from alfresco_backup.restore.planning.request import (
    Latest,
    RunMode,
    Source,
    Strategy,
    aware_target,
    parse_target_time,
)
from alfresco_backup.times import machine_zone


def form_field(title: str, text: str = "", **schema: str) -> Any:
    """`Annotated[str, form_field("Backup", "which one")]` on a parameter.

    `default` is what the form presets where the parameter's own default is None, which a field cannot show.

    The title and description of `Field` would not do: Prefect 3.9.1 replaces them by the parameter's name and
    by what the docstring says of it, but keeps what is added to the schema.
    """
    words = {"title": title} | ({"description": text} if text else {})
    return Field(json_schema_extra={**words, **schema})


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
ZONE = machine_zone()
TEXT = WithJsonSchema({"type": "string"})
"""A field for text, whatever the parameter's types are.

Prefect's field for a time presets UTC and gives every day the offset that the zone chosen beside it has
today: in the other half of the year that is an hour off. Where None is possible it shows `Property is type
"None"` (read in the pages of 3.8.8 and 3.9.1).
"""


TIME = f"a time like 2026-11-23 09:22:10, in {ZONE} or with an offset such as +01:00"


def typed_time(value: object, *, words: Collection[str] = ()) -> object:
    """What a form or the API gives for a time, as a time: without an offset it is of this host's zone.

    An empty text is None; `words` are what may be in its place. Raises Refused for a text that is no time.
    """
    if isinstance(value, datetime):
        return aware_target(value)
    if not isinstance(value, str) or value in words:
        return value
    return parse_target_time(value, local=True) if value.strip() else None


TargetTime = Annotated[
    datetime | Latest,
    BeforeValidator(typed_time),
    TEXT,
    form_field("Target time", f"{TIME}; `latest`: the end of all WAL"),
]
OptionalTargetTime = Annotated[
    datetime | Latest | None,
    BeforeValidator(typed_time),
    TEXT,
    form_field(
        "Target time", f"{TIME}; `latest`: the end of all WAL; empty: the end of the backup", default=""
    ),
]
AUTOMATIC = "automatic"
Timeline = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(lambda value: None if value == AUTOMATIC else value),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": AUTOMATIC, "type": "string", "title": AUTOMATIC},
                {"type": "integer", "minimum": 1, "title": "number"},
            ]
        }
    ),
    form_field(
        "Timeline",
        "automatic: the one in use at the target time; a number where earlier restores have made several",
        default=AUTOMATIC,
    ),
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
