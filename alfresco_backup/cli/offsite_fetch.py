"""`offsite fetch`: options, and what it does. It needs no Prefect and few settings: the host may be empty."""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from alfresco_backup.cli.entry import Answer, answer_of
from alfresco_backup.offsite.copy import CACHE, offsite_folder
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.fetch import Fetching, fetch, forget_metadata, learn, plan_for
from alfresco_backup.offsite.known import Known
from alfresco_backup.offsite.locks import lock_in
from alfresco_backup.repository.layout import Repository
from alfresco_backup.restore.planning.request import LATEST, parse_target_time
from alfresco_backup.settings.env_file import env_file_path, load_settings
from alfresco_backup.times import for_people, size_for_people

WHERE_ONLY_FETCHED = {"PGHOST": "localhost", "PGUSER": "alfresco"}
"""Nothing connects to a server; they need not be known yet on a host that is set up again."""


def add_fetch_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--backup", metavar="ID", help="of fetch: backup ID, or latest (default)")
    add(
        "--target-time",
        metavar="T",
        help="of fetch: only what a restore to this time reads: 2026-11-22T03:00:00+01:00",
    )
    add("--to", type=Path, metavar="DIR", help="of fetch: another folder, in BACKUP_DIR's place")
    add("--catalogue", action="store_true", help="of fetch: list what is there, fetch none of it")


def require_fetch(typed: argparse.Namespace) -> None:
    """End the process with code 2, as argparse does, for options of fetch with another action."""
    options = ("backup", "target_time", "to", "catalogue")
    given = [f"--{name.replace('_', '-')}" for name in options if getattr(typed, name)]
    if given and typed.action != "fetch":
        typed.parser.error(f"{given[0]} belongs to fetch")


def fetch_action(typed: argparse.Namespace) -> Answer:
    settings = load_settings(defaults=WHERE_ONLY_FETCHED)
    target = parse_target_time(typed.target_time) if typed.target_time else LATEST
    until = target if isinstance(target, datetime) else None
    repository = Repository(typed.to.absolute() if typed.to else settings.backup_dir)
    repository.require()
    engine = Engine.of(settings, offsite_folder(repository) / CACHE)
    limit = settings.contentstore_limit_hours * 3600
    fetching = Fetching(
        engine,
        settings.alf_host_name,
        repository,
        env_file_path() if repository.root == settings.backup_dir else None,
        limit,
        _say_progress,
    )
    backup = typed.backup or LATEST
    with lock_in(repository, settings.alf_host_name, "fetch"):
        return _fetch(fetching, backup, until, only_catalogue=typed.catalogue)


def _fetch(fetching: Fetching, backup: str, until: datetime | None, *, only_catalogue: bool) -> Answer:
    known = learn(fetching, until, backup)
    if only_catalogue:
        answer = _catalogue(known, fetching.engine)
        forget_metadata(fetching)
        return answer
    plan = plan_for(fetching, known, backup, until)
    _say(f"{plan.wanted.words}: {size_for_people(plan.bytes)} to fetch into {fetching.repository.root}")
    findings = fetch(fetching, known, plan)
    size, root = size_for_people(plan.bytes), fetching.repository.root
    words = [f"fetched {size} into {root}: {plan.wanted.words}"]
    words += [f"WARNING: was not whole when it was sent: {finding}" for finding in findings]
    return answer_of(
        "\n".join(words),
        backup_id=plan.wanted.base.stamp if plan.wanted.base else None,
        bytes=plan.bytes,
        findings=findings,
    )


def _catalogue(known: Known, engine: Engine) -> Answer:
    """What is there, without fetching any of it."""
    rows = [
        {"backup_id": item.stamp, "complete": item.complete, "whole": known.far.has(item)}
        for item in known.catalogue.sets
    ]
    lines = [
        f"{row['backup_id']}  {'complete set' if row['complete'] else 'part of a set'}"
        f"{'' if row['whole'] else ', not whole there'}"
        for row in rows
    ]
    segments = [file.modified for file in known.wal.files if file.kind == "segment"] if known.wal else []
    until = for_people(max(segments)) if segments else ""
    lines.append(f"WAL written until {until}" if until else "no WAL")
    return answer_of(
        "\n".join([f"{len(rows)} backup IDs of {known.far.host} in {engine.shown}", *lines]),
        sets=rows,
        wal_until=max(segments).isoformat() if segments else None,
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _say_progress(done: float, total: float) -> None:
    _say(f"{size_for_people(done)} of {size_for_people(total)}")
