"""Runs restic: its environment, its time limits, and what its failures mean.

Secrets are in the environment of the child only. So is the address of the
repository, which may contain a password.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
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
from alfresco_backup.settings.commands import edit_setting, program_command
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.processes import Command, Finished, run

RESTIC = "restic"
UNREAD = 3
"""Exit code of a backup that could not read everything and made a snapshot all the same."""
ANSWER_SECONDS = 120.0
"""How long the far side may take to answer a question. restic itself asks again for a quarter of an hour."""
CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
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
    ) -> Finished:
        """Run restic. Raises FarSideAway, FarSideDamaged, SettingsError, HostBusy or ToolFailed.

        HostBusy: another run of restic, which may be on another machine, has locked the repository.
        """
        limits = ("--limit-upload", str(self.bandwidth_limit_kib)) if self.bandwidth_limit_kib else ()
        command = Command(
            (RESTIC, *limits, *words),
            timeout_seconds,
            environment=self.environment,
            tolerated=tolerated or {},
            directory=directory,
            chatter=_is_chatter,
        )
        try:
            return run(command, log=log, on_line=on_line, keep_output=on_line is None)
        except ToolTimedOut as error:
            if timeout_seconds > ANSWER_SECONDS:
                raise
            raise FarSideAway(
                f"the off-site repository {self.shown} did not answer within {timeout_seconds:g} s",
                program_command("doctor"),
            ) from error
        except ToolFailed as error:
            raise self._meaning(error) from error

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

        Raises ToolFailed where something could not be read: the snapshot that restic made then is removed.
        """
        last: dict[str, Any] = {}

        def read(line: str) -> None:
            message = _message(line)
            if message.get("message_type") == "status" and on_progress:
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
        )
        if done.tolerated:
            if last.get("snapshot_id"):
                with suppress(HostBusy):  # then it stays, and does not count: its sending has not ended
                    self.run_unlocked("forget", str(last["snapshot_id"]))
            raise ToolFailed(RESTIC, done.returncode, done.tail)
        return last

    def _meaning(self, error: ToolFailed) -> BackupError:
        for pattern, meaning in MEANINGS:
            if re.search(pattern, error.tail):
                return meaning(self, error)
        return replace_program(error, self)


def shown(repository: str) -> str:
    """A repository's address for people: without the password that a `rest:` address may contain."""
    return CREDENTIALS.sub("***@", repository)


def replace_program(error: ToolFailed, engine: Engine) -> ToolFailed:
    """The failure of a program, said of the repository."""
    return ToolFailed(error.program, error.returncode, error.tail, what=f"off-site repository {engine.shown}")


def _last_line(error: ToolFailed) -> str:
    lines = [line for line in error.tail.splitlines() if not line.startswith(("Is there a repo", "{"))]
    return next((line for line in reversed(lines) if line.startswith("Fatal")), lines[-1] if lines else "")


def _away(engine: Engine, error: ToolFailed) -> BackupError:
    return FarSideAway(
        f"the off-site repository {engine.shown} cannot be reached: {_last_line(error)}",
        edit_setting("OFFSITE_REPOSITORY"),
    )


def _no_entry(engine: Engine, error: ToolFailed) -> BackupError:
    return FarSideAway(
        f"the off-site repository {engine.shown} refuses this host: {_last_line(error)}",
        edit_setting("AWS_SECRET_ACCESS_KEY") if engine.repository.startswith("s3:") else "",
    )


def _full(engine: Engine, error: ToolFailed) -> BackupError:
    return FarSideAway(f"the place of the off-site repository {engine.shown} is full: {_last_line(error)}")


def _wrong_password(engine: Engine, _: ToolFailed) -> BackupError:
    return SettingsError(
        [f"OFFSITE_PASSWORD does not open the off-site repository {engine.shown}"],
        edit_setting("OFFSITE_PASSWORD"),
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


MEANINGS: tuple[tuple[str, Callable[[Engine, ToolFailed], BackupError]], ...] = (
    (r"wrong password or no key found", _wrong_password),
    (r"repository is already locked|unable to create lock in backend", _locked),
    (r"no space left on device|QuotaExceeded|StorageFull|not enough space|file too large", _full),
    (
        r"(?i)access.?denied|forbidden|permission denied|signature|InvalidAccessKeyId|unauthorized|40[13] ",
        _no_entry,
    ),
    (
        r"(?i)connection refused|no such host|i/o timeout|network is unreachable|no route to host"
        r"|connection reset|ssh.* exited|unable to start the sftp session"
        r"|tls: |x509: |server misbehaving|EOF|50[0234] ",
        _away,
    ),
    (
        r"ciphertext verification failed|invalid data returned|hash mismatch|not found in (?:the )?index"
        r"|does not match|unable to load (?:index|tree)|Load\(<|load <|tree .* not found"
        r"|pack .*(?:missing|not found)",
        _damaged,
    ),
    (r"unable to open config file|Is there a repository at|repository does not exist", _missing),
)
"""What restic's words mean, the first that fits. Seen of 0.14; the words of 0.18 are among them."""


def _message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line) if line.startswith("{") else {}
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _is_chatter(line: str) -> bool:
    return line.startswith('{"message_type":"status"')
