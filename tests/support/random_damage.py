"""A repository damaged at random, and an oracle of its own: what may be restored from it, byte by byte."""

import os
import random
import shutil
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from alfresco_backup.errors import BackupError, NotVerified
from alfresco_backup.postgres.timelines import read_histories
from alfresco_backup.postgres.wal_files import list_archive, parse_segment_name
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.restore.planning.plan import RestorePlan
from alfresco_backup.restore.planning.planner import make_restore_plan
from alfresco_backup.restore.planning.request import RestoreKind, RestoreRequest
from alfresco_backup.restore.planning.window import find_reachable
from alfresco_backup.restore.recovery.observe import inspect_host
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.times import utc_now
from demo.host import DemoHost
from demo.state import State
from flows.backup import backup
from flows.restore_drill import restore_drill
from flows.restore_full import restore_full
from flows.restore_pitr import restore_pitr
from flows.restore_postgres import restore_postgres
from tests.support.damaged_wal import finish_segment, forget_server_copies
from tests.support.restoring import loaded

Kind = Literal["base tar", "pg_wal tar", "wal", "day tree", "metadata", "history"]
KINDS: tuple[Kind, ...] = ("base tar", "pg_wal tar", "wal", "day tree", "metadata", "history")
HOWS = ("bit", "truncation", "zeros", "swap")
EXECUTE = {"mode": "execute", "confirm": "demo", "start_alfresco": False}
USED_SHARE = 0.75
"""How many cases hit a file that the plan of a sound repository uses."""


@dataclass(frozen=True)
class Goal:
    """What is asked for: a whole set, a target time, or the end of all WAL."""

    kind: RestoreKind
    backup: str = "latest"
    target_time: datetime | Literal["latest"] | None = None

    @property
    def request(self) -> RestoreRequest:
        return RestoreRequest(self.kind, backup=self.backup, target_time=self.target_time)


@dataclass
class Life:
    """A host with two sets on two timelines, a sound copy of its repository, and what its database held."""

    host: DemoHost
    sound: Path = field(init=False)
    ends: dict[str, State] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    used: dict[Goal, set[str]] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    used_cases: int = 0

    def __post_init__(self) -> None:
        host, writer = self.host, self.host.writer
        first = self._set()
        back = writer.add(3).committed_at
        writer.update()
        finish_segment(host)
        writer.add(2)
        writer.rewind(back)
        restore_postgres(target_time=back, **EXECUTE)  # type: ignore[arg-type]
        writer.add(3)
        writer.delete()
        finish_segment(host)
        second = self._set()
        target = writer.add(4).committed_at
        writer.update()
        finish_segment(host)
        writer.add(2)
        finish_segment(host)
        backup(components=["contentstore"])
        forget_server_copies(host)
        host.wipe()
        self.sound = host.directory / "sound"
        shutil.rmtree(host.backup_dir / "restores")
        shutil.copytree(host.backup_dir, self.sound, symlinks=True)
        self._copy_owners()
        self.goals = [
            Goal("pitr", first, target),
            Goal("pitr", target_time=target),
            Goal("full", second),
            Goal("pitr", target_time="latest"),
        ]
        self.used = {goal: self._files_of(goal) for goal in self.goals}

    def _set(self) -> str:
        backup()
        stamp = read_catalogue(loaded(self.host).repository).sets[-1].stamp
        self.ends[stamp] = self.host.writer.state.copy()
        self.host.writer.close()
        return stamp

    def _copy_owners(self) -> None:
        for path in (self.host.backup_dir, *self.host.backup_dir.rglob("*")):
            status = path.lstat()
            place = self.sound / path.relative_to(self.host.backup_dir)
            os.lchown(place, status.st_uid, status.st_gid)

    def plan(self, goal: Goal) -> RestorePlan:
        host = loaded(self.host)
        catalogue = read_catalogue(host.repository)
        return make_restore_plan(goal.request, catalogue, inspect_host(host, catalogue), "20260101T000000Z")

    def _files_of(self, goal: Goal) -> set[str]:
        """The files that a restore of the sound repository reads, by their path in it."""
        plan, root = self.plan(goal), self.host.backup_dir
        assert plan.database is not None
        database = plan.database
        files = list_archive(self.host.wal_archive)
        path = read_histories(self.host.wal_archive, files).paths.get(database.timeline)
        size = database.base.segment_size
        first, last = (
            parse_segment_name(name, size).number for name in (database.first_segment, database.last_segment)
        )
        names = {
            path.segment(number, size).name(size) if path else f"{database.timeline:08X}"
            for number in range(first, last + 1)
        }
        used = {file for file in database.base.path.iterdir() if file.name != "proven.json"}
        used |= {self.host.wal_archive / file.name for file in files if file.wal_name in names}
        if database.timeline != database.base.timeline:
            used |= set(self.host.wal_archive.glob("*.history*"))
        for store in plan.content:
            for source in store.sources:
                if source.snapshot is not None:
                    used.add(source.snapshot.path.with_name(source.snapshot.path.name + ".json"))
                    used |= set(_files_below(source.snapshot.path))
        return {str(file.resolve().relative_to(root.resolve())) for file in used if file.is_file()}

    def files(self, kind: Kind) -> list[str]:
        """All files of a kind in the sound repository."""
        found = [str(path.relative_to(self.sound)) for path in _files_below(self.sound)]
        return sorted(name for name in found if _kind_of(name) == kind)

    def state_at(self, goal: Goal) -> State:
        """The rows that a successful restore must give: those of what it says that it restores to."""
        if goal.target_time is None:
            return self.ends[goal.backup]
        if isinstance(goal.target_time, datetime):
            return self.host.writer.state_at(goal.target_time)
        host = loaded(self.host)
        catalogue = read_catalogue(host.repository)
        latest = find_reachable(inspect_host(host, catalogue), catalogue.bases).latest()
        assert latest is not None
        return self.host.writer.state_at(latest.interval.end)

    def reset(self) -> None:
        """The host as after a disaster, the repository sound."""
        self.host.cluster.stop("immediate")
        for place in (self.host.home / "alf_data", self.host.home / "tomcat/shared", self.host.backup_dir):
            shutil.rmtree(place, ignore_errors=True)
        for left in self.host.home.glob("alf_data*"):
            shutil.rmtree(left)
        os.system(f"cp -a '{self.sound}' '{self.host.backup_dir}'")  # noqa: S605 - owners, times, links


def _files_below(root: Path) -> list[Path]:
    found = []
    for folder, _, names in os.walk(root, followlinks=root.name != "sound"):
        found += [Path(folder, name) for name in names]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _kind_of(name: str) -> Kind | None:
    """What a file of the repository is; None for logs and what else no restore reads."""
    parts = Path(name).parts
    last = parts[-1]
    if parts[0] in ("logs", "drill", "restores", "configure"):
        return None
    if parts[0] == "pg_wal":
        if ".history" in last:
            return "history"
        return "wal" if len(last.split(".")[0]) == 24 and ".backup" not in last else "metadata"
    if parts[0] == "postgres" and ".tar" in last:
        return "pg_wal tar" if last.startswith("pg_wal") else "base tar"
    if "days" in parts:
        return "day tree"
    return "metadata"


@dataclass
class Case:
    """One damaged file, one goal."""

    life: Life
    seed: int
    kind: Kind

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        self.chance = chance
        self.goal = chance.choice(self.life.goals)
        names = self.life.files(self.kind)
        used = [name for name in names if name in self.life.used[self.goal]]
        self.name = chance.choice(used if used and chance.random() < USED_SHARE else names)
        self.is_used = self.name in self.life.used[self.goal]
        others = [name for name in names if name != self.name and self._differs(name)]
        self.how = chance.choice(HOWS if others else HOWS[:3])
        self.other = chance.choice(others) if self.how == "swap" else ""
        self.quiet = chance.random() < 0.7

    def _differs(self, name: str) -> bool:
        return (self.life.sound / name).read_bytes() != (self.life.sound / self.name).read_bytes()

    def __str__(self) -> str:
        other = f" with {self.other}" if self.other else ""
        return f"seed {self.seed}: {self.how} of {self.name}{other}, then {self.goal}"

    def damage(self) -> None:
        """Change the file in the repository; its times stay in most cases."""
        path = self.life.host.backup_dir / self.name
        content = path.read_bytes()
        if self.how == "swap":
            other = self.life.host.backup_dir / self.other
            second = other.read_bytes()
            self._write(other, content)
            self._write(path, second)
            return
        place = self.chance.randrange(max(len(content), 1))
        if self.how == "bit" and content:
            flipped = content[place] ^ (1 << self.chance.randrange(8))
            content = content[:place] + bytes([flipped]) + content[place + 1 :]
        elif self.how == "truncation":
            content = content[:place]
        elif self.how == "zeros":
            length = self.chance.choice([1, 512, 8192, len(content)])
            zeros = bytes(min(length, len(content) - place))
            content = content[:place] + zeros + content[place + len(zeros) :]
        self._write(path, content)

    def _write(self, path: Path, content: bytes) -> None:
        status = path.stat()
        path.write_bytes(content)
        if self.quiet:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def run(self) -> list[str]:
        """Damage, status, drill, restore; what was wrong with any of them."""
        self.life.reset()
        self.damage()
        found: list[str] = []
        self._tell("status", self._attempt(self._status, found))
        drilled = self._attempt(self._drill, found)
        self._tell("drill", drilled)
        restored = self._attempt(self._restore, found)
        self._tell("restore", restored)
        # Of stored content a drill reads a share, a restore all of it.
        of_content = "document" in restored or " from the recorded checksums" in restored
        if restored and not drilled and not of_content:
            found.append(f"the drill succeeded, and the restore was refused: {restored}")
        self.life.used_cases += self.is_used
        self.life.host.cluster.stop("immediate")
        if not restored:
            found += self._compare()
        return [f"{self}: {words}" for words in found]

    def _tell(self, verb: str, refused: str) -> None:
        self.life.told[f"{verb} {'refused' if refused else 'succeeded'}"] += 1
        sys.stdout.write(f"    {verb}: {refused.splitlines()[0] if refused else 'success'}\n")

    def _attempt(self, act: Any, found: list[str]) -> str:
        """Why an act was refused; empty for success. Anything but a known error with words is wrong."""
        try:
            act()
        except NotVerified as error:
            return "" if act == self._drill else error.message
        except BackupError as error:
            if not error.message.strip():
                found.append(f"{act.__name__} refused without a cause")
            return error.message or "-"
        except Exception:  # noqa: BLE001 - that is what is looked for
            found.append(f"{act.__name__} ended in a traceback: {traceback.format_exc()[-1500:]}")
            return "traceback"
        return ""

    def _status(self) -> None:
        status_text(read_status(loaded(self.life.host).settings, utc_now()))

    def _drill(self) -> None:
        goal = self.goal
        restore_drill(backup=goal.backup, target_time=goal.target_time or "end")

    def _restore(self) -> None:
        if self.goal.kind == "full":
            restore_full(backup=self.goal.backup, **EXECUTE)  # type: ignore[arg-type]
            self.expected = self.life.ends[self.goal.backup]
        else:
            self.expected = State()
            with_latest = self.goal.target_time == "latest"
            if with_latest:
                self.life.plan(self.goal)  # refused here as there
            self.expected = self.life.state_at(self.goal)
            restore_pitr(backup=self.goal.backup, target_time=self.goal.target_time, **EXECUTE)  # type: ignore[arg-type]
        self.restored = self.life.host.read_state()

    def _compare(self) -> list[str]:
        """The oracle: every row and every byte of every document."""
        rows = self.restored.difference(self.expected)
        lost = self.life.host.missing_documents(self.expected)
        found = [f"success, but rows differ: {rows[:3]}"] if rows else []
        return found + ([f"success, but documents are missing or damaged: {lost[:3]}"] if lost else [])
