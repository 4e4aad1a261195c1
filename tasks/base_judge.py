"""Judging a base backup by what is in it, before it is published."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from alfresco_backup.base_backup import MAIN_TAR, judge_members, judge_tablespaces, manifest_sizes
from alfresco_backup.errors import BackupUnsound
from alfresco_backup.layout import MANIFEST
from alfresco_backup.records import Tablespace
from alfresco_backup.tar_reading import SUFFIX, TarContents

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
        raise BackupUnsound(f"{partial} holds no {MAIN_TAR}.zst", "run the backup again")
    members: dict[str, int] = {}
    for name, tar in by_name.items():
        prefix = f"pg_tblspc/{name}/" if name.isdecimal() else ""
        members.update({prefix + member: size for member, size in tar.members.items()})
    manifest_file = partial / MANIFEST
    if expects_manifest and not manifest_file.exists() and MANIFEST in main.texts:
        manifest_file.write_text(main.texts[MANIFEST], encoding="utf-8")
    if expects_manifest and not manifest_file.exists():
        raise BackupUnsound("the base backup lacks its backup_manifest", "run the backup again")
    manifest = (
        manifest_sizes(json.loads(manifest_file.read_text(encoding="utf-8")))
        if manifest_file.exists()
        else None
    )
    judge_members(members, manifest)
    return main.texts
