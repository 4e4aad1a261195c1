"""A restore drill, decided: what is restored where, and against what it is checked. Pure.

A drill is planned like a restore, from the same backups and the same WAL, for an empty host: every place the
plan writes to is in the drill's own folder. WAL that only the live host has is not used, since a drill is to
verify what is in the repository.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from alfresco_backup.errors import Refused
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.choose_backup import (
    Choice,
    choose_set,
    choose_target_time,
    passed_over,
)
from alfresco_backup.restore.planning.choose_content import choose_content
from alfresco_backup.restore.planning.facts import HostFacts, Space
from alfresco_backup.restore.planning.plan import DatabasePlan, RestorePlan, StorePlan
from alfresco_backup.restore.planning.plan_database import plan_database
from alfresco_backup.restore.planning.planner import configuration_for
from alfresco_backup.restore.planning.request import LATEST, Latest, RestoreRequest
from alfresco_backup.restore.planning.window import Reachable, find_reachable
from alfresco_backup.settings.commands import edit_setting, program_command
from alfresco_backup.times import size_for_people

Named = Literal["latest", "random", "end"]
SourceOfDrill = Literal["local", "offsite", "alternate"]
SPACE_FACTOR = 1.1
SOCKET_PATH_BYTES = 100  # the kernel's limit is 107
WAL_BYTES = 1 << 30
PREFIX = "drill-"


@dataclass(frozen=True)
class Scratch:
    """The places of one recovery beside the live host, all below `root` in the folder of all drills."""

    folder: Path
    stamp: str
    prefix: str = PREFIX

    @property
    def root(self) -> Path:
        return self.folder / f"{self.prefix}{self.stamp}"

    @property
    def data_directory(self) -> Path:
        return self.root / "data"

    @property
    def sockets(self) -> Path:
        return self.root / "socket"

    @property
    def tablespaces(self) -> Path:
        return self.root / "tablespaces"

    @property
    def restores(self) -> Path:
        return self.root / "restores"


@dataclass(frozen=True)
class DrillPlan:
    """A drill. `target_time` is that of the resulting state; `stores` are the folders of content files."""

    scratch: Scratch
    plan: RestorePlan
    target_time: datetime
    stores: dict[str, Path]
    damaged: tuple[str, ...] = ()
    """Newer base backups that cannot be used, each with the reason."""
    planned_at: datetime | None = None
    restorable_until: datetime | None = None
    """The newest time that can be restored from the archive."""

    @property
    def rpo_seconds(self) -> float | None:
        """How old that was when the drill was planned: what would have been lost."""
        if self.planned_at is None or self.restorable_until is None:
            return None
        return max(0.0, round((self.planned_at - self.restorable_until).total_seconds(), 3))

    @property
    def database(self) -> DatabasePlan:
        if self.plan.database is None:
            raise Refused("a drill needs a base backup")
        return self.plan.database


def check_place(folder: Path, live: Iterable[Path]) -> None:
    """Refuse a folder for drills that is, contains, or is in a place of the live host. Links are resolved."""
    scratch = folder.resolve()
    for path in live:
        place = path.resolve()
        if scratch == place or scratch in place.parents or place in scratch.parents:
            raise Refused(
                f"DRILL_DIR={folder} overlaps with {place}, which belongs to the live host; a drill "
                "removes everything in its folder, so it needs one of its own",
                edit_setting("DRILL_DIR"),
            )


def random_target_time(
    reachable: Reachable, chance: random.Random, not_after: datetime | None = None
) -> datetime | Latest:
    """A time of the recovery window, each as likely as any other; `latest` where it is too short."""
    ends = [(start, min(end, not_after) if not_after else end) for start, end in reachable.spans]
    spans = [(start, end) for start, end in ends if end - start > timedelta(seconds=2)]
    if not spans:
        return LATEST
    start, end = chance.choices(spans, [(end - start).total_seconds() for start, end in spans])[0]
    return start + timedelta(seconds=1) + chance.random() * (end - start - timedelta(seconds=2))


@dataclass(frozen=True)
class DrillRequest:
    """Which backup, an ID or `latest`, to which target time.

    `random`: any second of the window; `latest`: the end of all WAL; `end`: the end of the backup.
    """

    backup: str = LATEST
    target: datetime | Named = "random"


def plan_drill(
    asked: DrillRequest,
    catalogue: Catalogue,
    facts: HostFacts,
    scratch: Scratch,
    space: Space,
    *,
    not_after: datetime | None = None,
) -> DrillPlan:
    """The drill that answers a request. Raises Refused; nothing has been changed then.

    `not_after`: a random target time is before it, since there are no later documents.
    """
    _check_socket(scratch)
    alone = replace(
        facts,
        restores_directory=scratch.restores,
        data_directory=scratch.data_directory,
        live=None,
        saved_wal=(),
        existing=(),
        mount_points=(),
        solr_indexes=(),
    )
    reachable = find_reachable(alone, catalogue.bases)
    request = _request(asked.backup, asked.target, reachable, not_after)
    stamp = scratch.stamp
    choose = choose_set if request.target_time is None else choose_target_time
    choice = choose(request, catalogue, alone, reachable)
    _check_tablespaces(choice, facts)
    database = _moved(plan_database(choice, alone, stamp), scratch)
    _check_space(database, space)
    content = choose_content(request, catalogue, facts, choice.backup_set, choice.state_time, stamp)
    plan = RestorePlan(
        restore_id=stamp,
        host=facts.host,
        kind=request.kind,
        database=database,
        content=(),
        configuration=configuration_for(catalogue, choice),
        indexes=(),
        start_alfresco=False,
        steps=(),
        space=(),
        lost="nothing: the live host is not changed",
        restorable=reachable.sentence,
        warnings=(*choice.warnings, *content.warnings),
    )
    return DrillPlan(
        scratch,
        plan,
        choice.state_time,
        _folders(content.stores),
        passed_over(catalogue, choice.base, facts.now),
        facts.now,
        reachable.spans[-1][1] if reachable.spans else None,
    )


def _request(
    backup: str, target: datetime | Named, reachable: Reachable, not_after: datetime | None
) -> RestoreRequest:
    if target == "end":
        return RestoreRequest("full", backup=backup)
    time: datetime | Latest = LATEST
    if target == "random":
        time = random_target_time(reachable, random.SystemRandom(), not_after)
        if time == LATEST and not_after is not None:
            return RestoreRequest("full", backup=backup)
    elif isinstance(target, datetime):
        time = target
    timeline = None
    if isinstance(time, datetime) and reachable.foreign_to(time):  # a drill takes the host's own
        timeline = next((way.timeline for way in reachable.ways_to(time)), None)
    return RestoreRequest("pitr", backup=backup, target_time=time, timeline=timeline)


def _check_tablespaces(choice: Choice, facts: HostFacts) -> None:
    """Refuse where replay would create a tablespace in a folder that the live server uses.

    Replaying CREATE TABLESPACE empties the folder it names.
    """
    known = {space.oid for space in choice.base.tablespaces}
    newer = [
        space.location for space in (facts.live.tablespaces if facts.live else ()) if space.oid not in known
    ]
    if newer:
        raise Refused(
            f"tablespaces in {', '.join(newer)} are newer than base backup {choice.base.stamp}: replaying "
            "their creation would empty these folders of the live server. Make a base backup with them, "
            "then drill that",
            program_command("backup", "--only", "postgres"),
        )


def _moved(database: DatabasePlan, scratch: Scratch) -> DatabasePlan:
    """The plan with its tablespaces in the drill's folder."""
    spaces = tuple(
        replace(space, location=scratch.tablespaces / str(space.oid), set_aside=None)
        for space in database.tablespaces
    )
    return replace(database, tablespaces=spaces)


def _check_space(database: DatabasePlan, space: Space) -> None:
    size = database.base.segment_size
    wal = min(database.segments * size, WAL_BYTES)
    needed = int(database.base.database_bytes * SPACE_FACTOR) + wal
    if space.free_bytes < needed:
        raise Refused(
            f"not enough space: a drill of base backup {database.base.stamp} needs "
            f"{size_for_people(needed)} in {space.path}, {size_for_people(space.free_bytes)} are free",
            edit_setting("DRILL_DIR"),
        )


def _check_socket(scratch: Scratch) -> None:
    longest = len(bytes(scratch.sockets / ".s.PGSQL.65535"))
    if longest > SOCKET_PATH_BYTES:
        raise Refused(
            f"the path of DRILL_DIR is too long: the server's socket {scratch.sockets} would have {longest} "
            f"characters, {SOCKET_PATH_BYTES} are possible",
            edit_setting("DRILL_DIR"),
        )


def _folders(stores: Iterable[StorePlan]) -> dict[str, Path]:
    """Where content files are looked for: the snapshots, then the live stores that a restore would use."""
    found: dict[str, Path] = {}
    live: dict[str, Path] = {}
    for store in stores:
        for source in store.sources:
            if source.snapshot is None:
                live[f"{store.store} (live)"] = store.path
            else:
                found[f"{store.store} {source.snapshot.stamp}"] = source.snapshot.path
    return found | live
