"""The line of help beside a field of a run's form in Prefect."""

from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Help:
    """`Annotated[str, Help("what it is")]` on a flow's parameter.

    `Field(description=…)` would not do: Prefect 3.8.8 replaces it by what the docstring says, or by nothing.
    """

    text: str

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(core_schema), "description": self.text}
