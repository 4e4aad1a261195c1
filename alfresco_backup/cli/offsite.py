"""`offsite ACTION`: options, and the actions that need no Prefect."""

import argparse

from alfresco_backup.cli.entry import Answer, answer_of
from alfresco_backup.cli.flow_arguments import FlowCall
from alfresco_backup.cli.offsite_fetch import add_fetch_options, fetch_action, require_fetch
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.offsite.copy import engine_of, init, take_over
from alfresco_backup.offsite.far import FarSide, read_far, without_unfinished
from alfresco_backup.repository.sending import read_notes
from alfresco_backup.restore.planning.request import require_confirmed
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import Settings
from alfresco_backup.times import for_people

FLOWS = ("copy", "wal", "check", "prune")
ACTIONS = {
    "init": "make the repository there, or show that it opens; prints the recovery sheet",
    "copy": "send the backup sets that are not there yet",
    "wal": "send the WAL archive",
    "check": "check what is there, and read a share of it",
    "prune": "show, or with --execute remove, what is no longer needed there",
    "list": "show what is there",
    "fetch": "bring back what a restore reads into BACKUP_DIR, on a host that has lost it",
}


def add_offsite_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=ACTIONS,
        metavar="ACTION",
        help="; ".join(f"{name}: {words}" for name, words in ACTIONS.items()),
    )
    parser.add_argument("--execute", action="store_true", help="of prune: remove it")
    parser.add_argument(
        "--confirm", metavar="HOST", default="", help="of prune: the host's name, needed with --execute"
    )
    parser.add_argument(
        "--damaged",
        action="store_true",
        help="of prune: what uses packs that the last check found damaged, so that copy sends it again",
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="of init: go on from the copies that another machine sent under this host's name",
    )
    add_fetch_options(parser)


def offsite_call(typed: argparse.Namespace) -> FlowCall | None:
    """Raises Refused unless the host's name was repeated for what removes."""
    if typed.action not in FLOWS:
        return None
    if typed.action != "prune":
        return FlowCall(f"offsite {typed.action}", {})
    if typed.execute:
        require_confirmed("offsite prune", typed.confirm, load_settings().alf_host_name)
    return FlowCall(
        "offsite prune", {"mode": "execute" if typed.execute else "plan", "damaged": typed.damaged}
    )


def offsite(typed: argparse.Namespace) -> Answer:
    require_fetch(typed)
    if typed.action == "fetch":
        return fetch_action(typed)
    host = load_host()
    return _list(host) if typed.action == "list" else _init(host, with_take_over=typed.take_over)


def _init(host: Host, *, with_take_over: bool) -> Answer:
    engine = engine_of(host)
    host.require_repository()
    made = init(engine)
    words = "was made" if made else "is there, and the password opens it"
    others = take_over(host, engine) if with_take_over else ()
    words += f"; this host goes on from the copies of {', '.join(others)}" if others else ""
    return answer_of(
        f"the off-site repository {engine.shown} {words}\n\n{recovery_sheet(host.settings, engine.shown)}",
        made=made,
    )


def recovery_sheet(settings: Settings, shown: str) -> str:
    """What is to be kept elsewhere, on paper: all that a lost host is restored with, but the password."""
    named = {
        "ALF_HOST_NAME": settings.alf_host_name,
        "ALF_BASE_DIR": settings.alf_base_dir,
        "BACKUP_DIR": settings.backup_dir,
        "OFFSITE_REPOSITORY": shown,
        "PG_BINDIR": settings.pg_bindir or "# where PostgreSQL's programs are not found",
        "PG_DATA_DIR": settings.pg_data_dir or "# where the data directory is not found",
    }
    lines = [f"  {name}={value}" for name, value in named.items()]
    return "\n".join(
        [
            "RECOVERY SHEET: print it and keep it elsewhere, together with the password of the repository",
            "and the keys of its place. Without the password everything there is lost for ever.",
            "",
            *lines,
        ]
    )


def _list(host: Host) -> Answer:
    engine = engine_of(host)
    far = without_unfinished(read_far(engine, host.name), read_notes(host.repository))
    lines = [f"{item.stamp}  sent {for_people(item.taken_at)}" for item in far.sets.values()]
    wal = far.newest_wal
    lines.append(f"WAL archive as of {for_people(wal.taken_at)}" if wal else "no copy of the WAL archive")
    words = f"{len(far.sets)} backup IDs of {host.name} in {engine.shown}"
    return answer_of(
        "\n".join([words, *lines]), sets=_sets(far), wal=wal.taken_at.isoformat() if wal else None
    )


def _sets(far: FarSide) -> list[dict[str, str]]:
    return [
        {"backup_id": item.stamp, "snapshot": item.snapshot, "sent_at": item.taken_at.isoformat()}
        for item in far.sets.values()
    ]
