"""What starts backups on this machine without Prefect's worker: cron lines and systemd timers that are on."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alfresco_backup.repository.layout import is_everything
from alfresco_backup.settings.model import PROJECT_DIRECTORY

CRON_FILES = ("etc/crontab", "etc/cron.d/*", "var/spool/cron/crontabs/*", "var/spool/cron/*")
UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*")
_SCRIPT = re.compile(r"(?:^|[\s'\"=])([^\s'\"=;&|]*backup\.py)(?=$|[\s'\";&|])")
_VERB = re.compile(r"([^\s'\"=;&|]*python[\d.]*)['\"]?\s+-m\s+alfresco_backup\s+backup(?=$|[\s;&|])")
_FOLDER = re.compile(r"(?:^|[\s;&|])cd\s+([^\s;&|]+)")
_ONLY = re.compile(r"--only[\s=]+(\S+)")


@dataclass(frozen=True)
class Schedule:
    """Something that starts a backup by itself. `cron` is empty where its times are not told by cron.

    `zone` is empty where it goes by the machine's clock. `whole`: it makes complete sets.
    """

    source: str
    cron: str = ""
    zone: str = ""
    whole: bool = True


def local_schedules(root: Path = Path("/")) -> tuple[Schedule, ...]:
    """Those of cron and systemd that make backups with this project. What cannot be read counts as absent."""
    return (*_of_cron(root), *_of_systemd(root))


def _of_cron(root: Path) -> Iterator[Schedule]:
    for pattern in CRON_FILES:
        for file in sorted(root.glob(pattern)):
            variables: dict[str, str] = {}
            for number, line in enumerate(_text(file).splitlines(), 1):
                if line.lstrip().startswith("#"):
                    continue
                if found := _ASSIGNMENT.fullmatch(line):
                    variables[found[1]] = found[2].strip("'\"")
                    continue
                fields = line.split(None, 5 if not line.startswith("@") else 1)
                command = _filled(fields[-1], variables) if len(fields) > 1 else ""
                if _runs_backup(command):
                    cron = " ".join(fields[:-1])
                    yield Schedule(f"{file}, line {number}", cron, whole=_is_whole(command))


def _of_systemd(root: Path) -> Iterator[Schedule]:
    for timer in sorted((root / "etc/systemd/system").glob("*.wants/*.timer")):
        service = _setting(_text(timer), "Unit") or f"{timer.stem}.service"
        for folder in UNIT_FOLDERS:
            template = re.sub(r"@.*\.service", "@.service", service)
            text = _text(root / folder / service) or _text(root / folder / template)
            if text:
                command = _setting(text, "ExecStart")
                if _runs_backup(command):
                    yield Schedule(f"{timer.name}", whole=_is_whole(command))
                break


def _filled(command: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: variables.get(found[1], found[0]), command)


def _runs_backup(command: str) -> bool:
    """Whether a line runs a backup of this project: by its paths, or in a folder that is not told."""
    scripts = [path for path in _SCRIPT.findall(command) if path.rpartition("/")[2] == "backup.py"]
    if any(
        not path.startswith("/") or Path(path).resolve() == PROJECT_DIRECTORY / "backup.py"
        for path in scripts
    ):
        return True
    if not (verb := _VERB.search(command)):
        return False
    folders = _FOLDER.findall(command[: verb.start()])
    folder = Path(folders[-1] if folders else "", verb[1]).parent.parent.parent
    return not folder.is_absolute() or folder.resolve() == PROJECT_DIRECTORY


def _is_whole(command: str) -> bool:
    found = _ONLY.search(command)
    return "--plan-retention" not in command and (not found or is_everything(found[1].split(",")))


def _setting(text: str, name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# The times of day at which a cron or Quartz expression fires. Days are left out: any day counts. Pure.

_NAMED = {"@daily": "0 0", "@midnight": "0 0", "@weekly": "0 0", "@monthly": "0 0", "@hourly": "0 *"}
MINUTES_OF_A_DAY = 24 * 60


def minutes_of_day(expression: str) -> frozenset[int]:
    """Minutes since midnight. Five fields are cron's, six and seven Quartz's, which begin with seconds.

    Raises ValueError for what is neither.
    """
    fields = _NAMED.get(expression.strip(), expression).split()
    if len(fields) in (6, 7):
        fields = fields[1:]
    if len(fields) < 2:
        raise ValueError(f"{expression!r} is no cron expression")
    hours = _field(fields[1], 23)
    return frozenset(hour * 60 + minute for hour in hours for minute in _field(fields[0], 59))


def clock(minute: int) -> str:
    """`02:30`."""
    return f"{minute // 60 % 24:02}:{minute % 60:02}"


def _field(text: str, last: int) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        if span in ("*", "?"):
            low, high = 0, last
        else:
            first, dash, end = span.partition("-")
            low = int(first)
            high = int(end) if dash else last if step else low
        if not 0 <= low <= high <= last:
            raise ValueError(f"{text!r} goes beyond {last}")
        found.update(range(low, high + 1, int(step) if step else 1))
    return frozenset(found)
