"""`documents ACTION`: options, and the flow that comes of them."""

import argparse
import os
from datetime import datetime

from alfresco_backup.cli.flow_arguments import FlowCall
from alfresco_backup.documents.criteria import LIMIT
from alfresco_backup.errors import SettingsError
from alfresco_backup.restore.planning.request import LATEST, parse_target_time
from alfresco_backup.settings.commands import program_command
from alfresco_backup.times import LEGACY_PATTERN, STAMP_PATTERN

ACTIONS = {
    "find": "list documents and folders as they were at a time",
    "restore": "export documents as they were at a time into a new folder, or upload them",
}
GIVEN = (
    *("name", "path", "site", "node", "creator", "modifier"),
    *("changed_since", "deleted_since", "missing", "limit"),
)
FOREIGN_TO_FIND = ("nodes", "to", "versions", "upload", "execute", "confirm")
TIME_HELP = "a time with its UTC offset: 2026-11-22T03:00:00+01:00"


def add_documents_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=ACTIONS,
        metavar="ACTION",
        help="; ".join(f"{name}: {words}" for name, words in ACTIONS.items()),
    )
    parser.add_argument(
        "nodes",
        nargs="*",
        metavar="UUID",
        help="of restore: node ids as find lists them; a folder's restores all below it",
    )
    parser.add_argument(
        "--as-of",
        metavar="TIME",
        default=LATEST,
        help=f"{TIME_HELP}; or a backup ID; default: latest, which asks the live database and its trashcan",
    )
    find = parser.add_argument_group("of find, all that is given must hold")
    find.add_argument("--node", action="append", default=[], metavar="UUID", help="node id, alf_node.uuid")
    find.add_argument("--name", metavar="P", default="", help="* any letters, ? one; capitals do not matter")
    find.add_argument("--path", metavar="P", default="", help="of a document, or a folder with all below it")
    find.add_argument("--site", metavar="S", default="", help="short name of a site")
    find.add_argument("--creator", metavar="USER", default="")
    find.add_argument("--modifier", metavar="USER", default="")
    find.add_argument("--changed-since", metavar="TIME", type=_time)
    find.add_argument("--deleted-since", metavar="TIME", type=_time, help="in the trashcan of now")
    find.add_argument("--missing", action="store_true", help="what is gone, changed or moved by now")
    restore = parser.add_argument_group("of restore")
    restore.add_argument(
        "--to", metavar="DIR", default="", help="a new folder; default: BACKUP_DIR/exports/ID"
    )
    restore.add_argument("--versions", action="store_true", help="earlier versions, too")
    restore.add_argument(
        "--upload", action="store_true", help="bring them back into Alfresco: shows the plan of it"
    )
    restore.add_argument("--execute", action="store_true", help="carry out the plan of the upload")
    restore.add_argument("--confirm", metavar="HOST", default="", help="the host's name, needed to execute")
    parser.add_argument("--limit", type=int, default=LIMIT, help="at most so many; default: %(default)s")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {TIME_HELP} is expected") from error
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone; {TIME_HELP} is expected")
    return time


def documents_call(typed: argparse.Namespace) -> FlowCall:
    """Raises Refused for a time that is none."""
    verb = f"documents {typed.action}"
    as_of = parse_as_of(typed.as_of)
    foreign = [
        name for name in (FOREIGN_TO_FIND if typed.action == "find" else GIVEN[:-1]) if getattr(typed, name)
    ]
    if foreign:
        options = ", ".join("UUID" if name == "nodes" else f"--{name.replace('_', '-')}" for name in foreign)
        raise SettingsError(
            [f"{options}: not an option of {verb}"], program_command("documents", "--help"), "argument"
        )
    if typed.action == "find":
        return FlowCall(verb, {**{name: getattr(typed, name) for name in GIVEN}, "as_of": as_of})
    to = os.path.abspath(typed.to) if typed.to else ""  # noqa: PTH100 - follows no link
    parameters = {"node": typed.nodes, "to": to, "versions": typed.versions, "limit": typed.limit}
    if typed.upload:
        mode = "execute" if typed.execute else "plan"
        parameters |= {"action": "upload", "mode": mode, "confirm": typed.confirm}
    elif typed.execute or typed.confirm:
        raise SettingsError(
            ["--execute and --confirm: only with --upload; an export is made at once"],
            program_command("documents", "--help"),
            "argument",
        )
    return FlowCall(verb, {**parameters, "as_of": as_of})


def parse_as_of(text: str, *, local: bool = False) -> datetime | str:
    """A backup ID as it is; else a target time, or `latest`. Raises Refused for a time that is none."""
    if STAMP_PATTERN.fullmatch(text) or LEGACY_PATTERN.fullmatch(text):
        return text
    return parse_target_time(text, local=local)
