"""Runs restic: its environment, its time limits, and what its failures mean.

Secrets are in the environment of the child only. So is the address of the
repository, which may contain a password.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alfresco_backup.errors import (
    BackupError,
    HostBusy,
    HostNotReady,
    SettingsError,
    ToolFailed,
    ToolTimedOut,
)
from alfresco_backup.settings.commands import (
    edit_setting,
    far_folder_command,
    far_space_command,
    program_command,
    sftp_command,
)
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.processes import Command, Finished, Watch, run, run_into

RESTIC = "restic"
UNREAD = 3
"""Exit code of a backup that could not read everything and made a snapshot all the same."""
ANSWER_SECONDS = 300.0
"""How long the far side may take to answer a question. restic itself asks again for a quarter of an hour."""
STILL_SECONDS = 1800.0
"""How long a copy may make no progress: with a slow line, restic sends five packs of 16 MiB between two."""
PACK_BYTES = 16 << 20
PACKS_BYTES = 5 * PACK_BYTES
STILL_RUN_SECONDS = 7200.0
"""How long a check or prune may say nothing new: they count snapshots, and one may have millions of files."""
ELAPSED = re.compile(r"^\[[0-9:]+\] ")
FULL_SECONDS = 60.0
"""How long a copy into a full folder may stand: restic 0.14 waits for ever where it could not write a pack.

Seen in one of five runs; a goroutine waits for the uploader that has ended with the error.
"""
REFUSALS = 6
"""How often restic may be refused, or find nobody there as it begins: half a minute and more.

It tries again for a quarter of an hour, also what cannot succeed; from 0.17 on also what it asks first.
"""
CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
OnProgress = Callable[[float, float], None]


class FarSideDamaged(BackupError):
    """What the off-site repository contains is not what was sent."""


class FarSideAway(BackupError):
    """The place of the off-site copy does not answer, or does not let this host in."""


@dataclass(frozen=True)
class Engine:
    """restic with one repository. `directory`: where it works; `cache`: a folder of its own for its cache."""

    repository: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    cache: Path
    bandwidth_limit_kib: int = 0

    @classmethod
    def of(cls, settings: Settings, cache: Path) -> "Engine":
        """The engine for the repository of the settings. Raises SettingsError where they name none."""
        if not settings.offsite_repository:
            raise SettingsError(
                ["OFFSITE_REPOSITORY is missing; expected: restic repository of the second copy"],
                edit_setting("OFFSITE_REPOSITORY"),
            )
        if shutil.which(RESTIC) is None:
            raise HostNotReady("restic is not installed", "apt-get install restic")
        environment = {
            **settings.offsite_variables,
            "RESTIC_REPOSITORY": settings.offsite_repository,
            "RESTIC_CACHE_DIR": str(cache),
            "RESTIC_PROGRESS_FPS": "0.3",
        }
        if settings.offsite_password_file:
            environment["RESTIC_PASSWORD_FILE"] = str(settings.offsite_password_file)
        else:
            environment["RESTIC_PASSWORD"] = settings.offsite_password.get_secret_value()
        return cls(settings.offsite_repository, environment, cache, settings.offsite_bandwidth_limit_kib)

    @property
    def shown(self) -> str:
        """The repository's address for people: without the password that a `rest:` address may contain."""
        return shown(self.repository)

    def run(
        self,
        *words: str,
        timeout_seconds: float = ANSWER_SECONDS,
        tolerated: Mapping[int, str] | None = None,
        directory: Path | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        watch: Watch | None = None,
    ) -> Finished:
        """Run restic. Raises FarSideAway, FarSideDamaged, SettingsError, HostBusy or ToolFailed.

        HostBusy: another run of restic, which may be on another machine, has locked the repository.
        """
        hear = _Hearing(self, on_line)
        command = self._command(words, timeout_seconds, tolerated, directory)
        return self._meant(
            lambda: run(command, log=log, on_line=hear, keep_output=on_line is None, watch=watch),
            timeout_seconds,
        )

    def dump(self, snapshot: str, path: str, target: int, timeout_seconds: float, watch: Watch) -> None:
        """Write a file of a snapshot into an open one, without taking a lock. Raises as `run`.

        restic compares each piece with its checksum. After an error the file may have a part of it.
        """
        command = self._command(("dump", "--no-lock", snapshot, path), timeout_seconds)
        hear = _Hearing(self, None)
        self._meant(lambda: run_into(command, target, on_line=hear, watch=watch), timeout_seconds)

    def _command(
        self,
        words: Sequence[str],
        timeout_seconds: float,
        tolerated: Mapping[int, str] | None = None,
        directory: Path | None = None,
    ) -> Command:
        return Command(
            (RESTIC, *self._options, *words),
            timeout_seconds,
            environment=self.environment,
            tolerated=tolerated or {},
            directory=directory,
            chatter=_is_chatter,
        )

    def _meant(self, attempt: Callable[[], Finished], timeout_seconds: float) -> Finished:
        """Run restic, and say by its words what a failure means."""
        try:
            try:
                return attempt()
            except ToolFailed as error:
                if not NOT_BEGUN.search(error.tail):
                    raise
                return attempt()
        except ToolTimedOut:
            if timeout_seconds > ANSWER_SECONDS:
                raise
            raise FarSideAway(
                f"the off-site repository {self.shown} did not answer within {timeout_seconds:g} s",
                program_command("doctor"),
            ) from None  # restic's own words may contain the address
        except ToolFailed as error:
            raise self.meaning(error) from None

    def run_long(
        self,
        *words: str,
        timeout_seconds: float,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Finished:
        """As `run`, for `check` and `prune`, which tell their progress by lines.

        Raises FarSideAway where they say nothing new for STILL_RUN_SECONDS, too.
        """
        telling = _Telling(self, words[0], on_line)
        watch = Watch(min(10.0, STILL_RUN_SECONDS / 4), telling.look)
        return self.run(*words, timeout_seconds=timeout_seconds, log=log, on_line=telling, watch=watch)

    def run_unlocked(self, *words: str, **options: Any) -> Finished:
        """As `run`. What a run that was killed had locked is unlocked first; restic knows which is stale.

        That is at once on the same machine, and after half an hour without a sign of life on another.
        """
        try:
            return self.run(*words, **options)
        except HostBusy:
            self.run("unlock")
            return self.run(*words, **options)

    def ask(self, *words: str) -> Any:
        """What restic answers as JSON, without taking a lock."""
        return json.loads(self.run(*words, "--json", "--no-lock").output)

    def send(
        self,
        *words: str,
        directory: Path,
        timeout_seconds: float,
        log: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> Mapping[str, Any]:
        """Run `restic backup`, in a directory, and give its summary.

        Raises FarSideAway where nothing goes on for STILL_SECONDS, and ToolFailed where something could not
        be read: the snapshot that restic made then is removed.
        """
        last: dict[str, Any] = {}
        still = STILL_SECONDS + self._slow_seconds
        seen = _Standing(self, still)
        counted = False

        def read(line: str) -> None:
            nonlocal counted
            message = _message(line)
            if message.get("message_type") == "status":
                seen.progress(message)
                # Until restic foresees its end (0.14, seen) the total is of the files found so far: 83 % of
                # the first thousand would be the furthest that is ever reported.
                counted = counted or bool(message.get("seconds_remaining"))
                if counted and on_progress:
                    on_progress(float(message.get("bytes_done", 0)), float(message.get("total_bytes", 0)))
            elif message.get("message_type") == "summary":
                last.update(message)

        unread = {UNREAD: "some of it could not be read"}
        done = self.run_unlocked(
            "backup",
            "--json",
            *words,
            directory=directory,
            timeout_seconds=timeout_seconds,
            tolerated=unread,
            log=log,
            on_line=read,
            watch=Watch(min(10.0, still / 4, FULL_SECONDS / 4), seen.look),
        )
        if done.tolerated:
            if last.get("snapshot_id"):
                with suppress(HostBusy):  # then it stays, and does not count: its sending has not ended
                    self.run_unlocked("forget", str(last["snapshot_id"]))
            if re.search(TREE_LOST, done.tail):
                said = "Fatal: the folders of the snapshot before this one cannot be read there"
                raise _damaged(self, ToolFailed(RESTIC, done.returncode, said))
            raise ToolFailed(RESTIC, done.returncode, done.tail)
        return last

    @property
    def _slow_seconds(self) -> float:
        limit = self.bandwidth_limit_kib
        return PACKS_BYTES / (limit << 10) if limit else 0.0

    @property
    def _options(self) -> tuple[str, ...]:
        limit = self.bandwidth_limit_kib
        limits = ("--limit-upload", str(limit)) if limit else ()
        known = ("-o", "s3.layout=default") if self.repository.startswith("s3:") else ()
        return (*limits, *known)  # to find out the layout costs two requests a run

    def meaning(self, error: ToolFailed) -> BackupError:
        """What restic's words mean, as the error that names the fix."""
        tail = CREDENTIALS.sub("***@", "\n".join(map(_plain, error.tail.splitlines())))
        error = ToolFailed(error.program, error.returncode, tail, what=f"off-site repository {self.shown}")
        said = "\n".join(line for line in tail.splitlines() if not line.startswith(HERE))
        for pattern, meaning in MEANINGS:
            if re.search(pattern, said):
                return meaning(self, error)
        return _damaged(self, error) if re.search(DAMAGED, tail) else error


def shown(repository: str) -> str:
    """A repository's address for people: without the password that a `rest:` address may contain."""
    return CREDENTIALS.sub("***@", repository)


class _Hearing:
    """Passes restic's lines on, and ends a run whose far side refuses for good what restic tries again."""

    def __init__(self, engine: Engine, on_line: Callable[[str], None] | None) -> None:
        self._engine = engine
        self._on_line = on_line
        self._refused = 0

    def __call__(self, line: str) -> None:
        if RETRY.search(line) and (PERMANENT.search(line) or FIRST_ASKED.search(line)):
            self._refused += 1
            if self._refused >= REFUSALS:
                raise self._engine.meaning(ToolFailed(RESTIC, STOPPED, line))
        if self._on_line:
            self._on_line(line)


class _Telling:
    """Ends a run of restic that says nothing new: its lines of progress begin with the time they took."""

    def __init__(self, engine: Engine, verb: str, on_line: Callable[[str], None] | None) -> None:
        self._engine = engine
        self._verb = verb
        self._on_line = on_line
        self._said, self._since = "", time.monotonic()

    def __call__(self, line: str) -> None:
        said = ELAPSED.sub("", line)
        if said != self._said:
            self._said, self._since = said, time.monotonic()
        if self._on_line:
            self._on_line(line)

    def look(self) -> None:
        if time.monotonic() - self._since > STILL_RUN_SECONDS:
            raise FarSideAway(
                f"`restic {self._verb}` of the off-site repository {self._engine.shown} came no further for "
                f"{STILL_RUN_SECONDS:g} s, so it was ended",
                program_command("offsite", "list"),
            )


class _Standing:
    """Ends a copy that makes no progress: restic waits for ever for an answer that does not come."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._since = time.monotonic()
        self._last: dict[str, Any] = {}

    def progress(self, status: Mapping[str, Any]) -> None:
        told = {name: status.get(name) for name in ("bytes_done", "files_done", "total_bytes", "total_files")}
        if told != self._last:
            self._last, self._since = told, time.monotonic()

    def look(self) -> None:
        stood = time.monotonic() - self._since
        if stood > FULL_SECONDS:
            self._require_room()
        if stood > self._seconds:
            raise FarSideAway(
                f"nothing arrived in the off-site repository {self._engine.shown} for {self._seconds:g} s, "
                "so the copy was ended; the next one goes on from there",
                program_command("offsite", "list"),
            )

    def _require_room(self) -> None:
        """Raise where the repository is a folder of this host that has no room for another pack."""
        place = Path(self._engine.repository)
        if place.is_absolute() and place.is_dir():
            free = shutil.disk_usage(place).free
            if free < PACK_BYTES:
                said = f"{free} bytes are free, and it writes packs of {PACK_BYTES}"
                raise _full(self._engine, ToolFailed(RESTIC, STOPPED, said))


def _last_line(error: ToolFailed) -> str:
    """The line that says why: ssh's own, or the one before restic asks whether there is a repository."""
    lines = [line for line in error.tail.splitlines() if not line.startswith(("Is there a repo", "{"))]
    telling = [line for line in lines if line.startswith("subprocess ssh:")] + [
        line for line in lines if line.startswith("Fatal")
    ]
    return (telling or lines[-1:] or [""])[0]


def _away(engine: Engine, error: ToolFailed) -> BackupError:
    return FarSideAway(
        f"the off-site repository {engine.shown} cannot be reached: {_last_line(error)}",
        edit_setting("OFFSITE_REPOSITORY"),
    )


def _no_entry(engine: Engine, error: ToolFailed) -> BackupError:
    said = _last_line(error)
    if "Remove(<lock" in said:
        return FarSideAway(
            f"the off-site repository {engine.shown} does not let this host delete the lock of its own run: "
            f"{said}",
            f"{edit_setting('AWS_ACCESS_KEY_ID')}  # a key that may delete what is in locks/"
            if engine.repository.startswith("s3:")
            else _login_fix(engine, said),
        )
    return FarSideAway(
        f"the off-site repository {engine.shown} refuses this host: {said}", _login_fix(engine, said)
    )


LOGINS = {
    "s3": "AWS_SECRET_ACCESS_KEY",
    "azure": "AZURE_ACCOUNT_KEY",
    "b2": "B2_ACCOUNT_KEY",
    "rest": "RESTIC_REST_PASSWORD",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "swift": "OS_PASSWORD",
}


def _login_fix(engine: Engine, said: str) -> str:
    kind = engine.repository.partition(":")[0]
    if kind == "s3" and re.search(r"(?i)access.?key.?id", said):
        return edit_setting("AWS_ACCESS_KEY_ID")
    if kind == "s3" and re.search(r"(?i)access.?denied", said):  # which of them, a HEAD's answer does not say
        return f"{edit_setting('AWS_ACCESS_KEY_ID')}\n{edit_setting('AWS_SECRET_ACCESS_KEY')}"
    if kind == "rest" and "@" in engine.shown:
        return edit_setting("OFFSITE_REPOSITORY")
    if kind in LOGINS:
        return edit_setting(LOGINS[kind])
    return sftp_command(engine.repository) if kind == "sftp" else far_folder_command(engine.repository)


def _full(engine: Engine, error: ToolFailed) -> BackupError:
    return FarSideAway(
        f"the place of the off-site repository {engine.shown} is full: {_last_line(error)}",
        far_space_command(engine.repository) or program_command("offsite", "prune"),
    )


def _no_writing(engine: Engine, error: ToolFailed) -> BackupError:
    folder = engine.repository if engine.repository.startswith("/") else ""
    fix = far_folder_command(folder) if folder else far_space_command(engine.repository)
    return FarSideAway(
        f"the off-site repository {engine.shown} takes no files; its place is full, or read-only: "
        f"{_last_line(error)}",
        fix or program_command("offsite", "list"),
    )


def _wrong_password(engine: Engine, _: ToolFailed) -> BackupError:
    named = "OFFSITE_PASSWORD_FILE" if "RESTIC_PASSWORD_FILE" in engine.environment else "OFFSITE_PASSWORD"
    return SettingsError(
        [f"{named} does not open the off-site repository {engine.shown}, or its keys are gone"],
        edit_setting(named),
    )


def _no_password(engine: Engine, error: ToolFailed) -> BackupError:
    return SettingsError(
        [f"OFFSITE_PASSWORD_FILE cannot be used: {_last_line(error)}"], edit_setting("OFFSITE_PASSWORD_FILE")
    )


def _missing(engine: Engine, _: ToolFailed) -> BackupError:
    return HostNotReady(
        f"there is no off-site repository at {engine.shown}",
        f"{program_command('offsite', 'init')}  # where it never was; otherwise find out where it is",
    )


def _locked(engine: Engine, error: ToolFailed) -> BackupError:
    return HostBusy(f"the off-site repository {engine.shown} is locked: {_last_line(error)}")


def _damaged(engine: Engine, error: ToolFailed) -> BackupError:
    return FarSideDamaged(
        f"the off-site repository {engine.shown} is damaged: {_last_line(error)}",
        program_command("offsite", "check"),
    )


HERE = ("{", "ignoring error for ")
"""How lines begin that are about files of this host: they do not say what the far side is like."""
NOT_BEGUN = re.compile(r"unable to start the sftp session, error: read \|0: file already closed")
"""ssh ended before restic (0.14) read why, on a busy machine: nothing was begun, and no cause is told."""
TREE_LOST = r'"error":\{(?:"message":"[^"]*")?\},"during":"archival","item":"/"'
"""What restic says where it cannot load the tree of the snapshot before; no file here is called so."""
STOPPED = -15
RETRY = re.compile(r"returned error, retrying")
FIRST_ASKED = re.compile(r"^Stat\(<config/>\)")
FULL = (
    r"no space left on device|[Qq]uota|StorageFull|[Ii]nsufficient ?[Ss]torage|not enough space"
    r"|file too large|storage_cap_exceeded"
)
NO_ENTRY = (
    r"(?i)access.?denied|forbidden|permission denied|request signature|InvalidAccessKeyId"
    r"|access key ID you provided|unauthorized|host key verification failed|too many authentication failures"
)
NO_WRITING = r"SSH_FX_FAILURE|read-only file system"
DAMAGED = (
    r"ciphertext verification failed|invalid data returned|hash mismatch|not found in (?:the )?(?:index|repo)"
    r"|decrypting blob \w+ failed"
    r"|does not match|unable to load (?:index|tree)|Load\(<|load <|tree .* not found"
    r"|pack .*(?:missing|not found|not exist)|key \w+ is damaged|Unmarshal: |repository contains errors"
)
PERMANENT = re.compile(
    "|".join(pattern.removeprefix("(?i)") for pattern in (FULL, NO_ENTRY, NO_WRITING)), re.I
)
MEANINGS: tuple[tuple[str, Callable[[Engine, ToolFailed], BackupError]], ...] = (
    (r"Resolving password failed|an empty password is not", _no_password),
    (r"wrong password or no key found", _wrong_password),
    (r"repository is already locked", _locked),
    (FULL, _full),
    (NO_ENTRY, _no_entry),
    (NO_WRITING, _no_writing),
    (
        r"(?i)connection refused|no such host|i/o timeout|network is unreachable|no route to host"
        r"|connection reset|broken pipe|ssh.* exited|unable to start the sftp session|tls: |x509: "
        r"|server misbehaving|\bEOF\b|\b50[0234] [A-Z]|bucket name",
        _away,
    ),
    (
        r"unable to open config file: (?:l?stat .*no such file|Lstat: file does not exist"
        r"|Stat: The specified key does not exist|<config/> does not exist|.*404|.*not found)"
        r"|repository does not exist|bucket does not exist|NoSuchBucket",
        _missing,
    ),
    (DAMAGED, _damaged),
    (r"unable to open|Is there a repository at|create (?:key in )?repository at", _away),
)
"""What restic's words mean, the first that fits. Seen of 0.14; the words of 0.18 are among them."""


def _message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line) if line.startswith("{") else {}
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _plain(line: str) -> str:
    """A line as it is for people: from 0.17 on, asked for JSON, restic also says in it why it ends."""
    message = _message(line)
    return str(message.get("message", line)) if message.get("message_type") == "exit_error" else line


def _is_chatter(line: str) -> bool:
    return line.startswith('{"message_type":"status"')
