"""How a parameter of a flow reads in Prefect's form: a title and a line of help."""

from typing import Any

from pydantic import Field


def form_field(title: str, text: str = "") -> Any:
    """`Annotated[str, form_field("Backup", "which one")]` on a parameter, or on one alternative of its type.

    The title and description of `Field` would not do: Prefect 3.8.8 replaces them by the parameter's name and
    by what the docstring says of it, but keeps what is added to the schema.
    """
    words = {"title": title} | ({"description": text} if text else {})
    return Field(json_schema_extra=dict(words))
