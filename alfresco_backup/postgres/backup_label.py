"""What backup_label and the backup history file say of a base backup. Pure."""

import re
from dataclasses import dataclass

from alfresco_backup.errors import BackupUnsound
from alfresco_backup.settings.commands import program_command


@dataclass(frozen=True)
class BackupLabel:
    """What backup_label and the backup history file say of a base backup."""

    start_lsn: str
    start_wal: str
    stop_lsn: str = ""
    stop_wal: str = ""


def parse_backup_label(text: str) -> BackupLabel:
    """Read a backup_label (start only) or a backup history file (start and stop). Raises BackupUnsound."""
    start = re.search(
        r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{24})\)", text, re.MULTILINE
    )
    if not start:
        raise BackupUnsound(
            f"backup_label names no start: {text[:200]!r}", program_command("backup", "--only", "postgres")
        )
    stop = re.search(r"^STOP WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{24})\)", text, re.MULTILINE)
    return BackupLabel(start[1], start[2], stop[1] if stop else "", stop[2] if stop else "")


def history_file_name(label: BackupLabel, segment_size: int) -> str:
    """The backup history file's name: start segment, then the start's offset in it as eight hex digits."""
    offset = int(label.start_lsn.partition("/")[2], 16) % segment_size
    return f"{label.start_wal}.{offset:08X}.backup"
