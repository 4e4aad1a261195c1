"""Judging a base backup by what is in it, before it is published."""

import json
from collections.abc import Iterable
from pathlib import Path

from alfresco_backup.base_backup import (
    MAIN_TAR,
    judge_members,
    judge_tablespaces,
    manifest_sizes,
    parse_listing_line,
)
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.host import Run
from alfresco_backup.layout import MANIFEST
from alfresco_backup.records import Tablespace
from alfresco_backup.runner import Command, run, stream_lines

HOUR = 3600.0


def judge_base_backup(
    run_: Run, partial: Path, tablespaces: Iterable[Tablespace], *, expects_manifest: bool
) -> None:
    """Read every tar to its end and compare what is in them with what a restore needs. Raises BackupUnsound.

    Reading to the end also proves that the archive is whole. A manifest that came inside the main tar is
    written beside it.
    """
    judge_tablespaces(
        {tar.name.removesuffix(".tar.zst") for tar in partial.glob("[0-9]*.tar.zst")}, tablespaces
    )
    limit = run_.settings.base_backup_limit_hours * HOUR
    members: dict[str, int] = {}
    for tar in sorted(partial.glob("*.tar.zst")):
        oid = tar.name.removesuffix(".tar.zst")
        prefix = f"pg_tblspc/{oid}/" if oid.isdecimal() else ""
        listing = (
            "tar",
            "-tv",
            "--numeric-owner",
            "--quoting-style=escape",
            "-I",
            "zstd -dc",
            "-f",
            str(tar),
        )
        for line in stream_lines(Command(listing, limit)):
            member = parse_listing_line(line)
            if member:
                members[prefix + member.name] = member.bytes
    if not members:
        raise BackupUnsound(f"{partial} holds no tar", f"look at {run_.log}")
    manifest_file = partial / MANIFEST
    if expects_manifest and not manifest_file.exists() and MANIFEST in members:
        manifest_file.write_text(read_member(partial, MANIFEST), encoding="utf-8")
    if expects_manifest and not manifest_file.exists():
        raise BackupUnsound("the base backup lacks its backup_manifest", "run the backup again")
    manifest = (
        manifest_sizes(json.loads(manifest_file.read_text(encoding="utf-8")))
        if manifest_file.exists()
        else None
    )
    judge_members(members, manifest)


def read_member(partial: Path, name: str) -> str:
    """A small text file out of the main tar, which is read only as far as needed."""
    tar = partial / f"{MAIN_TAR}.zst"
    argv = ("tar", "-x", "-O", "--occurrence=1", "-I", "zstd -dc", "-f", str(tar), name)
    return run(Command(argv, HOUR), keep_output=True).output
