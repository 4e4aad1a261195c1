"""What the receiver notes in BACKUP_DIR/wal-receiver.json, for those who only look."""

from dataclasses import dataclass

from alfresco_backup.repository.layout import Repository
from alfresco_backup.system.files import read_json, write_json
from alfresco_backup.system.json_fields import Number, Text, Time, Whole, document_of, read_record


@dataclass(frozen=True)
class ReceiverState:
    """What was last known. `heard_at`: when the receiver, having caught up, was last heard of by the server;
    then all up to `flushed` was on disk here, `behind` bytes less than the server had written a moment later.
    `lag`: how many seconds old the commits in these are at most.

    `failing_since` and `error`: what fails since then; None and empty for nothing. `lost`: the last time that
    WAL could not be received any more, and why.
    """

    slot: Text
    system_identifier: Text = ""
    heard_at: Time | None = None
    flushed: Text = ""
    behind: Whole = 0
    lag: Number | None = None
    failing_since: Time | None = None
    error: Text = ""
    fix: Text = ""
    lost_at: Time | None = None
    lost: Text = ""


def read_receiver_state(repository: Repository) -> ReceiverState | None:
    """What was noted; None where nothing was. Raises OSError, and ValueError for what is no state."""
    try:
        document = read_json(repository.receiver_state)
    except FileNotFoundError:
        return None
    return read_record(ReceiverState, document)


def write_receiver_state(repository: Repository, state: ReceiverState) -> None:
    """Note it, whole or not at all. Raises OSError."""
    write_json(repository.receiver_state, document_of(state))
