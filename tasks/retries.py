"""Which failures of an idempotent step are worth another try."""

from typing import Any

from alfresco_backup.errors import ToolFailed, ToolTimedOut


def worth_another_try(_task: Any, _task_run: Any, state: Any) -> bool:
    """A program that failed may succeed the next time; settings, refusals and findings stay what they are.

    A program that ran into its limit, a day or more, is not started again by itself.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, (ToolFailed, OSError)) and not isinstance(error, ToolTimedOut)
