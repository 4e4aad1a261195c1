"""Runs pg_basebackup, and judges what it wrote by what is in it."""

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from alfresco_backup.backup.base import (
    CHECKSUM_ERROR,
    MAIN_TAR,
    BaseBackupMethod,
    copied_with_wrong_checksums,
    damaged_file,
    judge_members,
    judge_tablespaces,
    manifest_sizes,
    parse_progress,
)
from alfresco_backup.backup.tar_verify import SUFFIX, TarContents
from alfresco_backup.errors import BackupUnsound, ToolFailed
from alfresco_backup.host.host import Run
from alfresco_backup.repository.layout import MANIFEST
from alfresco_backup.repository.records import Tablespace
from alfresco_backup.settings.commands import program_command
from alfresco_backup.system.files import write_text
from alfresco_backup.system.folders import open_folder, rename
from alfresco_backup.system.processes import Command, OnProgress, Watch, run, run_pipeline
from alfresco_backup.wal.archive import watch_archiver

HOUR = 3600.0
WATCH_SECONDS = 30.0


def copy_database(
    run_: Run, method: BaseBackupMethod, partial: Path, on_progress: OnProgress
) -> tuple[str, ...]:
    """Run pg_basebackup. Archiving is watched meanwhile: the server waits for its archiver without end.

    Returns the data files in which the server met pages with wrong checksums. They are copied as they are: a
    backup with known damage is better than none, and older ones without it expire.
    """
    host = run_.host
    limit = host.settings.base_backup_limit_hours * HOUR
    hint = f"less {shlex.quote(str(run_.log))}"
    copy = Command(
        method.argv(partial, f"alfresco-backup {run_.stamp}"),
        limit,
        host.database.environment,
        host.account,
        tolerated={CHECKSUM_ERROR: "pages with wrong checksums, or a failure: its last lines tell"},
        hint=hint,
        chatter=parse_progress,
    )
    watch = Watch(WATCH_SECONDS, watch_archiver(host))
    named: set[str] = set()

    def on_line(line: str) -> None:
        measured = parse_progress(line)
        if measured:
            on_progress(*measured)
        elif name := damaged_file(line):
            named.add(name)

    if method.compression == "pipe":
        squeeze = Command(
            ("zstd", "-q", "--check", f"-T{method.workers}", f"-{method.level}"), limit, hint=hint
        )
        target = partial / f"{MAIN_TAR}.zst"
        finished, _ = run_pipeline(copy, squeeze, target, log=run_.log, on_line=on_line, watch=watch)
    else:
        finished = run(copy, log=run_.log, on_line=on_line, watch=watch)
    if finished.returncode == 0:
        return ()
    if not copied_with_wrong_checksums(finished.tail):
        raise ToolFailed(copy.program, finished.returncode, finished.tail, hint)
    unfinished = partial / f"{MANIFEST}.tmp"
    if unfinished.exists():  # complete: only the renaming is left out
        rename(unfinished, partial / MANIFEST)
    return tuple(sorted(named)) or ("a file that the server's log names",)


def compress_tars(run_: Run, partial: Path) -> None:
    """Compress the tars that pg_basebackup wrote plain."""
    limit = run_.settings.base_backup_limit_hours * HOUR
    options = ("-q", "--check", "--rm", f"-T{run_.settings.parallel_copies}", f"-{run_.settings.zstd_level}")
    with open_folder(partial) as folder:
        for tar in sorted(partial.glob("*.tar")):
            run(Command(("zstd", *options, tar.name), limit, directory=folder), log=run_.log)


# Judging a base backup by what is in it, before it is published.

WANTED = frozenset({"backup_label", MANIFEST})


def judge_base_backup(
    partial: Path, tars: Sequence[TarContents], tablespaces: Iterable[Tablespace], *, expects_manifest: bool
) -> dict[str, str]:
    """Compare what was read back from every tar with what a restore needs. Raises BackupUnsound.

    A manifest that came inside the main tar is written beside it. Returns the texts of the main tar.
    """
    by_name = {tar.name.removesuffix(SUFFIX): tar for tar in tars}
    judge_tablespaces({name for name in by_name if name.isdecimal()}, tablespaces)
    main = by_name.get(MAIN_TAR.removesuffix(".tar"))
    if main is None:
        raise BackupUnsound(f"{partial} lacks {MAIN_TAR}.zst", program_command("backup"))
    members: dict[str, int] = {}
    for name, tar in by_name.items():
        prefix = f"pg_tblspc/{name}/" if name.isdecimal() else ""
        members.update({prefix + member: size for member, size in tar.members.items()})
    manifest_file = partial / MANIFEST
    if expects_manifest and not manifest_file.exists() and MANIFEST in main.texts:
        write_text(manifest_file, main.texts[MANIFEST], 0o600)
    if expects_manifest and not manifest_file.exists():
        raise BackupUnsound("the base backup lacks its backup_manifest", program_command("backup"))
    manifest = (
        manifest_sizes(json.loads(manifest_file.read_text(encoding="utf-8")))
        if manifest_file.exists()
        else None
    )
    judge_members(members, manifest)
    return main.texts
