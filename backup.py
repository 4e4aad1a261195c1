"""Back up this Alfresco host: `python backup.py [ENV_FILE] [--only COMPONENT,…] [--full | --checksum]`.

Needs no server: without PREFECT_API_URL Prefect runs embedded. Exit codes: 0 success, 1 failed, 2 settings
or arguments, 3 another run holds the host.
"""

import argparse
import sys

from alfresco_backup.cli.entry import add_env_file, env_file_of, prepare_environment, run_to_exit_code
from alfresco_backup.repository.layout import COMPONENTS
from alfresco_backup.settings.env_file import load_settings


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Back up this Alfresco host.")
    add_env_file(parser)
    parser.add_argument(
        "--only", type=_components, default=tuple(COMPONENTS), help=f"of {','.join(COMPONENTS)}"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--full", action="store_const", const="full", dest="mode", help="compare every content file"
    )
    mode.add_argument(
        "--checksum", action="store_const", const="checksum", dest="mode", help="and every byte"
    )
    parser.add_argument(
        "--plan-retention", action="store_true", help="only print what retention would remove"
    )
    return parser.parse_args(arguments)


def _components(text: str) -> tuple[str, ...]:
    chosen = tuple(item.strip() for item in text.split(",") if item.strip())
    wrong = [item for item in chosen if item not in COMPONENTS]
    if wrong or not chosen:
        raise argparse.ArgumentTypeError(f"{text!r}: one or more of {','.join(COMPONENTS)} are expected")
    return chosen


def run_flow(chosen: argparse.Namespace) -> None:
    """Run the chosen flow and print what it returns: the report, or what retention would remove."""
    from tasks.runs.history import report_of  # noqa: PLC0415 - Prefect reads the environment when imported

    if chosen.plan_retention:
        from flows.retention import retention  # noqa: PLC0415 - likewise

        print(report_of(retention))
    else:
        from flows.backup import backup  # noqa: PLC0415 - likewise

        components, mode = list(chosen.only), chosen.mode or "quick"
        print(report_of(backup, components=components, contentstore_mode=mode))


def main(arguments: list[str]) -> int:
    """Run the flow in this process; its error decides the exit code."""
    chosen = parse_arguments(arguments)
    prepare_environment(env_file_of(chosen))

    def work() -> None:
        settings = load_settings()  # complaints about settings come before Prefect is even loaded
        from tasks.runs.embedded_server import direct_run  # noqa: PLC0415 - Prefect reads the environment when imported

        with direct_run(settings.alf_host_name):
            run_flow(chosen)

    return run_to_exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
