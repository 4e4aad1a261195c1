"""Prove that this host's backups restore: `python drill.py [ENV_FILE] [--backup ID] [--target-time T]`.

The flow `restore-drill` without a worker: the live host is not touched. Needs no server: without
PREFECT_API_URL Prefect runs embedded. Exit codes: 0 it restores, 1 it failed or found damage, 2 settings or
arguments, 3 refused or another run holds the host, 4 documents are missing.
"""

import argparse
import sys
from typing import get_args

from alfresco_backup.cli.entry import add_env_file, env_file_of, prepare_environment, run_to_exit_code
from alfresco_backup.drill.plan import Named
from alfresco_backup.restore.planning.request import LATEST, parse_target_time
from alfresco_backup.settings.env_file import load_settings


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Restore a backup beside the live host, check it.")
    add_env_file(parser)
    parser.add_argument(
        "--backup", metavar="ID", default=LATEST, help="stamp of the backup; default: the one that suits"
    )
    parser.add_argument(
        "--target-time",
        metavar="T",
        default="random",
        help="random: any second of the window (default); latest: end of all WAL; end: end of the backup; "
        "or a moment with its offset: 2026-11-22T03:00:00+01:00",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the flow in this process and print its report; its error decides the exit code."""
    chosen = parse_arguments(arguments)
    prepare_environment(env_file_of(chosen))

    def work() -> None:
        settings = load_settings()  # complaints about settings come before Prefect is even loaded
        typed = chosen.target_time
        target = typed if typed in get_args(Named) else parse_target_time(typed)
        from flows.restore_drill import restore_drill  # noqa: PLC0415 - Prefect reads the environment when imported
        from tasks.runs.embedded_server import direct_run  # noqa: PLC0415 - likewise
        from tasks.runs.history import report_of  # noqa: PLC0415 - likewise

        with direct_run(settings.alf_host_name):
            print(report_of(restore_drill, backup=chosen.backup, target_time=target))

    return run_to_exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
