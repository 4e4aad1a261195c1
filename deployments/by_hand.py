"""What `prefect deploy --all`, typed by hand, ends with: the first entry of prefect.yaml leads here.

That command would take `{{ $ALF_HOST_NAME }}` as the name of the host, and make neither its work pool nor its
limit. An error that Prefect knows would be shown below pages of traceback, or passed over; the end of the
process is neither (3.8.8).
"""

import sys
from typing import NoReturn

from alfresco_backup.settings.commands import make_command


def __getattr__(name: str) -> NoReturn:
    """End the process when the flow `refuse` is asked for, as by Prefect."""
    if name != "refuse":
        raise AttributeError(name)
    sys.exit(
        "\nprefect.yaml is a template: it is filled in from the host's .env, whose settings are checked, "
        f"with the host's work pool and limit. Nothing was deployed.\nHINT: {make_command('deploy')}"
    )
