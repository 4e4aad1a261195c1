"""What is typed for the verbs that run a flow, except restores: options, and the call that comes of them."""

import argparse
from typing import Any, NamedTuple, get_args

from alfresco_backup.drill.plan import Named, SourceOfDrill
from alfresco_backup.repository.layout import COMPONENTS
from alfresco_backup.restore.planning.request import LATEST, parse_target_time, require_confirmed
from alfresco_backup.settings.env_file import load_settings


class FlowCall(NamedTuple):
    """A flow by the verb that stands for it, and its parameters."""

    verb: str
    parameters: dict[str, Any]


def add_backup_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        type=_components,
        default=tuple(COMPONENTS),
        metavar="COMPONENT,...",
        help=f"of {','.join(COMPONENTS)}; default: all",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--full", action="store_const", const="full", dest="mode", help="compare every content file"
    )
    mode.add_argument(
        "--checksum", action="store_const", const="checksum", dest="mode", help="and every byte"
    )
    # What backup.py has had before there was the verb `retention`.
    parser.add_argument("--plan-retention", action="store_true", help=argparse.SUPPRESS)


def _components(text: str) -> tuple[str, ...]:
    chosen = tuple(item.strip() for item in text.split(",") if item.strip())
    wrong = [item for item in chosen if item not in COMPONENTS]
    if wrong or not chosen:
        raise argparse.ArgumentTypeError(f"{text!r}: one or more of {','.join(COMPONENTS)} are expected")
    return chosen


def backup_call(typed: argparse.Namespace) -> FlowCall:
    if typed.plan_retention:
        return FlowCall("retention", {"mode": "plan"})
    return FlowCall("backup", {"components": list(typed.only), "contentstore_mode": typed.mode or "quick"})


def add_drill_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backup",
        metavar="ID",
        default=LATEST,
        help="backup ID; default: the newest backup from which the target time can be reached",
    )
    parser.add_argument(
        "--target-time",
        metavar="T",
        default="random",
        help="random: any second of the recovery window (default); latest: end of all WAL; end: end of the "
        "backup; or a time with its UTC offset: 2026-11-22T03:00:00+01:00",
    )
    parser.add_argument(
        "--source",
        choices=get_args(SourceOfDrill),
        help="local: BACKUP_DIR (default); offsite: the off-site copy, into an empty folder; alternate: the "
        "one that was not drilled last",
    )


def drill_call(typed: argparse.Namespace) -> FlowCall:
    """Raises Refused for a target time that cannot be understood."""
    text = typed.target_time
    target = text if text in get_args(Named) else parse_target_time(text)
    parameters = {"backup": typed.backup, "target_time": target}
    return FlowCall("drill", parameters | ({"source": typed.source} if typed.source else {}))


def add_retention_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--execute", action="store_true", help="remove it; without it the plan is shown")
    parser.add_argument(
        "--confirm", metavar="HOST", default="", help="the host's name, needed with --execute"
    )


def retention_call(typed: argparse.Namespace) -> FlowCall:
    """Raises Refused unless the host's name was repeated for what removes."""
    if typed.execute:
        require_confirmed("retention", typed.confirm, load_settings().alf_host_name)
    return FlowCall("retention", {"mode": "execute" if typed.execute else "plan"})


def wal_audit_call(_: argparse.Namespace) -> FlowCall:
    return FlowCall("wal-audit", {})


def content_check_call(_: argparse.Namespace) -> FlowCall:
    return FlowCall("content-check", {})
