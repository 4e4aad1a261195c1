"""The errors of this project: one type for each decision a caller makes.

BackupError                     1  something failed; the message says what, the hint what to type next
├── SettingsError               2  the .env or the arguments are wrong; nothing was started
├── Refused                     3  the request cannot be carried out as asked; nothing was touched
│   └── HostBusy                3  another run holds the host; try again later
├── HostNotReady                1  preflight found errors; nothing was copied
├── ToolFailed                  1  a program ended with an exit code that is not tolerated
│   └── ToolTimedOut            1  a program did not end within its time limit and was killed
├── NotInTime                   1  what was waited for did not happen within its time
├── ArchivingBroken             1  WAL segments do not reach the archive
├── BackupUnsound               1  what was copied is not a backup; it was not published
├── NotVerified                 1  something could not be verified: a program is missing or crashed
├── RecoveryNotReached          1  PostgreSQL stopped recovering before the point asked for
├── AlfrescoNotStarted          1  everything was restored, but Alfresco did not come up
└── DocumentsMissing            4  content files are missing, or no document is as asked for

EXIT_CODES below has the codes of all verbs. An error shows itself: ``str(error)`` is the message followed by
the hint; findings.error_json is what programs get.
"""

from collections.abc import Mapping, Sequence

EXIT_SUCCESS = 0
EXIT_FAILED = 1
EXIT_UNTOLD = 1
EXIT_ATTENTION = 5
EXIT_NOTHING_RESTORABLE = 6
EXIT_WARNINGS = 7
EXIT_CODES: Mapping[int, str] = {
    0: "done; status and doctor: no problem",
    1: "failed; status and doctor: could not be determined",
    2: "settings or arguments are wrong; nothing was started",
    3: "refused, nothing was changed; or another run holds the host lock",
    4: "done, but documents are missing; documents: nothing was found",
    5: "status and doctor: at least one error; configure: changes are pending",
    6: "status: nothing can be restored",
    7: "doctor: warnings only",
}
"""What each exit code means, for every verb of the program."""


class BackupError(Exception):
    """A step could not do its work. `hint` is what to type or change next, one command a line."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"HINT: {line}" for line in self.hint.splitlines())])


class SettingsError(BackupError):
    """Settings or arguments are missing or wrong. `complaints` has all of them, one sentence each."""

    exit_code = 2

    def __init__(self, complaints: Sequence[str], hint: str = "", noun: str = "setting") -> None:
        self.complaints = tuple(complaints)
        count = len(self.complaints)
        head = f"{count} {noun}{'s are' if count != 1 else ' is'} missing or wrong:"
        super().__init__("\n".join([head, *(f"  - {line}" for line in self.complaints)]), hint)


class Refused(BackupError):
    """The request cannot be carried out. Raised only before anything is stopped, moved or deleted."""

    exit_code = 3


class HostBusy(Refused):
    """Another run holds this host's concurrency limit."""


class HostNotReady(BackupError):
    """Preflight found errors. Raised before anything is copied; the message lists every finding."""


class ToolFailed(BackupError):
    """A program failed. `tail`: the end of its output; `returncode`: its exit code (negative: signal)."""

    def __init__(self, program: str, returncode: int, tail: str, hint: str = "", what: str = "") -> None:
        self.program = program
        self.returncode = returncode
        self.tail = tail
        ended = (
            f"was killed by signal {-returncode}" if returncode < 0 else f"ended with exit code {returncode}"
        )
        said = f"; it said:\n{tail}" if tail else " and printed nothing"
        super().__init__(f"{what or program}: {program} {ended}{said}", hint)


class ToolTimedOut(ToolFailed):
    """A program ran longer than its time limit; it and its process group were killed."""

    def __init__(self, program: str, limit_seconds: float, tail: str, hint: str = "") -> None:
        super().__init__(program, -9, tail, hint)
        self.limit_seconds = limit_seconds
        said = f"; its last words:\n{tail}" if tail else "; it printed nothing"
        self.message = f"{program} did not end within its limit of {limit_seconds:g} s and was killed{said}"
        self.args = (self.message,)


class NotInTime(BackupError):
    """What was waited for did not happen within its time."""


class ArchivingBroken(BackupError):
    """WAL segments that must be in the archive did not arrive there in time."""


class BackupUnsound(BackupError):
    """What was copied lacks something that a restore needs. It stays `.partial` and is never listed."""


class NotVerified(BackupError):
    """Something could not be verified: a program is missing, of another version, or crashed.

    That is no sign of damage, and none of soundness either.
    """


class RecoveryNotReached(BackupError):
    """Recovery ended before the point that was asked for."""


class AlfrescoNotStarted(BackupError):
    """A restore is complete and its data in place, but Alfresco did not come up at its end."""


class DocumentsMissing(BackupError):
    """The database refers to content files that are nowhere, or has no document such as was asked for."""

    exit_code = 4


def exit_code_of(error: BaseException) -> int:
    """The exit code of a program that ends with this error."""
    return error.exit_code if isinstance(error, BackupError) else EXIT_FAILED
