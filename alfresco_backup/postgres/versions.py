"""What each PostgreSQL version calls things, needs and can do: the one table.

Versions are integers as the server reports them (`server_version_num`): 90426, 150018. An unknown
version is an error, never a guess. Sources: PostgreSQL's release notes and measurements (9.4.26
server; clients 15 and 16 against 9.4: every `-Ft` fails with "syntax error").
"""

import re
from dataclasses import dataclass

from alfresco_backup.errors import HostNotReady
from alfresco_backup.settings.commands import edit_setting

OLDEST = 90400
NEWEST = 189999


@dataclass(frozen=True)
class VersionFacts:
    """The facts of one major version. `major` is 90400, 90500, 90600, 100000 … 180000."""

    major: int
    label: str
    wal_directory: str
    switch_wal: str
    current_lsn: str
    lsn_file: str
    replay_lsn: str
    lsn_difference: str
    wal_levels: tuple[str, ...]
    recommended_wal_level: str
    grantable_restore_point: bool
    has_control_functions: bool
    has_manifest: bool
    backup_compression: bool
    monitor_role: str
    recovery_file: str
    signal_file: str
    target_action_line: str
    pause_action_line: str
    replay_paused: str
    unreached_target_is_fatal: bool
    timeline_current_is_default: bool
    reset_program: str
    checksum_program: str
    unknown_settings: frozenset[str]
    without_wal: tuple[str, ...]
    without_sync: tuple[str, ...]
    wal_keep_setting: str
    has_file_settings: bool
    has_hba_rules: bool
    has_hba_files: bool
    stats_any_file: bool
    wal_magic: int
    long_record_headers: bool
    archives_unfinished: bool
    wal_dump: tuple[str, ...]
    receive_wal: str
    synchronous_receive: bool
    reserves_slots: bool
    limits_slots: bool
    flush_lsn: str
    flush_lag: str
    reply_time: str

    def receiver_suits(self, client: int) -> bool:
        """Whether pg_receivewal of version `client` streams from this server.

        It refuses servers that are newer than itself, and takes all from 9.3 on (streamutil.c, receivelog.c).
        """
        return OLDEST <= client <= NEWEST and facts_of(client).major >= self.major

    def client_suits(self, client: int) -> bool:
        """Whether pg_basebackup of version `client` makes tar backups of this server.

        The client must not be older than the server. A client newer than 9.4 cannot make tar backups
        of 9.4 (measured with 15 and 16: "syntax error", exit code 1); 9.5 and 9.6 are treated alike,
        since their replication grammar is the same age.
        """
        if not OLDEST <= client <= NEWEST:
            return False
        same = facts_of(client).major == self.major
        return same if self.major < 100000 else facts_of(client).major >= self.major


_NEWER_SETTINGS = {100000: "max_logical_replication_workers"}
_WAL_MAGICS = {
    90400: 0xD07E,
    90500: 0xD087,
    90600: 0xD093,
    100000: 0xD097,
    110000: 0xD098,
    120000: 0xD101,
    130000: 0xD106,
    140000: 0xD10D,
    150000: 0xD110,
    160000: 0xD113,
    170000: 0xD116,
    180000: 0xD118,
}
"""What the pages of each version's WAL begin with (XLOG_PAGE_MAGIC in xlog_internal.h)."""
_CHECKSUM_PROGRAMS = {110000: "pg_verify_checksums"}


def facts_of(version: int) -> VersionFacts:
    """The facts for a server version such as 90426 or 150018. Raises HostNotReady for an unknown one."""
    if not OLDEST <= version <= NEWEST:
        raise HostNotReady(
            f"PostgreSQL version {version} is not supported; 9.4 to 18 are",
            "\n".join((edit_setting("PGHOST"), edit_setting("PGPORT"))),
        )
    major = version // 100 * 100 if version < 100000 else version // 10000 * 10000
    new_names = major >= 100000
    return VersionFacts(
        major=major,
        label=label_of(version),
        wal_directory="pg_wal" if new_names else "pg_xlog",
        switch_wal="pg_switch_wal" if new_names else "pg_switch_xlog",
        current_lsn="pg_current_wal_lsn" if new_names else "pg_current_xlog_location",
        lsn_file="pg_walfile_name" if new_names else "pg_xlogfile_name",
        replay_lsn="pg_last_wal_replay_lsn" if new_names else "pg_last_xlog_replay_location",
        lsn_difference="pg_wal_lsn_diff" if new_names else "pg_xlog_location_diff",
        wal_levels=("replica", "logical") if major >= 90600 else ("archive", "hot_standby", "logical"),
        recommended_wal_level="replica" if major >= 90600 else "hot_standby",
        grantable_restore_point=major >= 90600,
        has_control_functions=major >= 90600,
        has_manifest=major >= 130000,
        backup_compression=major >= 150000,
        monitor_role="pg_monitor" if new_names else "",
        recovery_file="postgresql.auto.conf" if major >= 120000 else "recovery.conf",
        signal_file="recovery.signal" if major >= 120000 else "",
        target_action_line=(
            "recovery_target_action = 'promote'" if major >= 90500 else "pause_at_recovery_target = false"
        ),
        pause_action_line=(
            "recovery_target_action = 'pause'" if major >= 90500 else "pause_at_recovery_target = true"
        ),
        replay_paused="pg_is_wal_replay_paused" if new_names else "pg_is_xlog_replay_paused",
        unreached_target_is_fatal=major >= 130000,
        timeline_current_is_default=major < 120000,
        unknown_settings=frozenset(_NEWER_SETTINGS[since] for since in _NEWER_SETTINGS if major < since),
        checksum_program=_CHECKSUM_PROGRAMS.get(major, "pg_checksums" if major >= 120000 else ""),
        reset_program="pg_resetwal" if new_names else "pg_resetxlog",
        without_wal=("-X", "none") if new_names else (),
        without_sync=("--no-sync",) if new_names else (),
        wal_keep_setting="wal_keep_size" if major >= 130000 else "wal_keep_segments",
        has_file_settings=major >= 90500,
        has_hba_rules=major >= 100000,
        has_hba_files=major >= 160000,
        stats_any_file=major >= 110000,  # before, no path outside the cluster's own folders
        wal_magic=_WAL_MAGICS[major],
        long_record_headers=major < 90500,
        archives_unfinished=major < 90500,  # where a timeline begins; later ones name such a file .partial
        # Every record is read and checked; of its text as little is asked for as the version can do with.
        wal_dump=(
            "pg_waldump" if new_names else "pg_xlogdump",
            *(("--quiet",) if major >= 130000 else ("--rmgr", "XLOG")),
        ),
        receive_wal="pg_receivewal" if new_names else "pg_receivexlog",
        synchronous_receive=major >= 90500,  # of the program; the server has no part in it
        reserves_slots=major >= 90600,  # before, a slot keeps WAL from its first use only
        limits_slots=major >= 130000,  # max_slot_wal_keep_size, and wal_status
        flush_lsn="flush_lsn" if new_names else "flush_location",
        flush_lag="flush_lag" if new_names else "NULL::interval",
        reply_time="reply_time" if major >= 120000 else "NULL::timestamptz",
    )


def facts_of_wal(magic: int) -> VersionFacts | None:
    """The facts for the version that wrote WAL with this magic number; None for an unknown one."""
    return next((facts_of(major) for major, known in _WAL_MAGICS.items() if known == magic), None)


def label_of(version: int) -> str:
    """The version as people write it: 90426 → 9.4.26, 150018 → 15.18."""
    if version < 100000:
        return f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    return f"{version // 10000}.{version % 10000}"


def version_of_program(text: str) -> int:
    """The version a PostgreSQL program states with `--version`: "pg_basebackup (PostgreSQL) 9.4.26" → 90426.

    Takes packagers' suffixes and development versions ("16devel" → 160000). Raises HostNotReady.
    """
    found = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
    if not found:
        raise HostNotReady(f"no PostgreSQL version in {text.strip()!r}", edit_setting("PG_BINDIR"))
    first, second, third = (int(part or 0) for part in found.groups())
    return first * 10000 + second if first >= 10 else first * 10000 + second * 100 + third


def version_of_data_directory(text: str) -> int:
    """The major version in a data directory's PG_VERSION file: "9.4" → 90400, "15" → 150000."""
    found = re.fullmatch(r"(\d+)(?:\.(\d+))?\s*", text)
    if not found:
        raise HostNotReady(f"PG_VERSION contains {text[:40]!r}, not a version", edit_setting("PG_DATA_DIR"))
    first, second = int(found[1]), int(found[2] or 0)
    return facts_of(first * 10000 if first >= 10 else first * 10000 + second * 100).major
