"""Run a program with the Prefect settings of the host's `.env`: python -m deployments.prepared PROGRAM …

For the worker: it must talk to the server that runs by hand talk to, or the two would not see each other's
hold on the host. The `.env` is the one that ALFRESCO_BACKUP_ENV names, else the project's. Variables that are
set win.
"""

import os
import sys

from alfresco_backup.cli.entry import prefect_values, prepare_environment
from alfresco_backup.settings.env_file import env_file_path

SERVER = "PREFECT_API_URL"


def main(arguments: list[str]) -> None:
    """Become the program. Says so where the `.env` names another server than the environment, or none."""
    written = prefect_values(env_file_path()).get(SERVER, "")
    used = os.environ.get(SERVER, written)
    path = prepare_environment(None)
    if used and used != written:
        sys.stderr.write(
            f"warning: {SERVER}={used} is set, but {path} has {written or 'none'}: runs by hand would not "
            f"see those of the worker and could run beside them; write {SERVER}={used} into {path}\n"
        )
        sys.stderr.flush()
    os.execvp(arguments[0], arguments)  # noqa: S606 - to remain the process that the shell script ends


if __name__ == "__main__":
    main(sys.argv[1:])
