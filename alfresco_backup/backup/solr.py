"""Has Solr copy its indexes before the database is copied: only an older index can catch up. Acts.

Solr 4 and Search Services answer alike. `command=backup` begins a copy and answers at once; the only account
of it is `backup` in `command=details`, which is replaced when the copy has ended and keeps to the earlier one
until then (ReplicationHandler.java and SnapShooter.java, 4.10 to 6.6). Before it copies, Solr removes older
copies beyond `numberToKeep`. So a backup is believed when that account has changed, says success, and a new
folder with as many files as it tells of is there.
"""

import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from alfresco_backup.errors import BackupError, NotInTime
from alfresco_backup.findings import Finding, ok, warning
from alfresco_backup.host.host import Host
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.waiting import POLL_SECONDS, wait_until

CORES = ("alfresco", "archive")
"""Of workspace://SpacesStore and of the trashcan."""
KEPT = 3
"""Copies that Solr keeps, as Alfresco's own nightly job does (solr.backup.*.numberToKeep)."""
IDLE_SECONDS = 30.0
CUTS = 3
"""Connections lost one after the other that are made again: a copy of minutes is not given up for one."""
LOST = (httpx.NetworkError, httpx.RemoteProtocolError)
SECRET_HEADER = "X-Alfresco-Search-Secret"  # noqa: S105 - its name
PLACES = "SOLR_BACKUP_DIRS"
_SNAPSHOT = re.compile(r"snapshot\.\w+")


class SolrRefused(BackupError):
    """Solr made no copy of an index; the message says why."""


class ConnectionCut(SolrRefused):
    """The connection ended before the answer."""


@dataclass(frozen=True)
class IndexBackups:
    """What Solr was asked for: a finding per core; `made`: the folder of each new copy, by its core."""

    findings: tuple[Finding, ...] = ()
    made: Mapping[str, Path] = field(default_factory=dict)


def wants_indexes(settings: Settings, components: Collection[str]) -> bool:
    """Whether Solr is asked: a copy is of use only in one set with the database that it is older than."""
    return bool(settings.solr_url) and {"postgres", "configuration"} <= set(components)


def back_up_indexes(host: Host) -> IndexBackups:
    """Have Solr copy both indexes and wait for it. A core that fails is a finding, never an exception.

    An index whose copy failed is not restored from this set.
    """
    findings: list[Finding] = []
    made: dict[str, Path] = {}
    headers = {SECRET_HEADER: secret} if (secret := host.settings.solr_secret.get_secret_value()) else {}
    with httpx.Client(base_url=host.settings.solr_url, headers=headers, timeout=IDLE_SECONDS) as client:
        deadline = time.monotonic() + host.settings.solr_backup_minutes * 60
        for core in CORES:
            subject = f"Solr index {core}"
            try:
                made[core] = _back_up(host, client, core, deadline)
                findings.append(ok(subject, f"copied to {made[core]}"))
            except SolrRefused as refused:
                sentence = f"{refused.message}; a restore of this set rebuilds the index"
                findings.append(warning(subject, sentence, refused.hint))
    return IndexBackups(tuple(findings), made)


def _place_of(host: Host, core: str) -> Path:
    for path in host.installation.solr_backups:
        if path.name == core and path.is_dir():
            return path
    raise SolrRefused(f"there is no folder named {core} for its backup", edit_setting(PLACES))


def _back_up(host: Host, client: httpx.Client, core: str, deadline: float) -> Path:
    try:
        return _Core(client, core, _place_of(host, core)).back_up(deadline)
    except OSError as error:
        raise SolrRefused(str(error), edit_setting(PLACES)) from error


@dataclass(frozen=True)
class _Core:
    client: httpx.Client
    name: str
    place: Path

    def back_up(self, deadline: float) -> Path:
        before, there = self._account(), self._copies()
        try:
            self._ask({"command": "backup", "location": str(self.place), "numberToKeep": str(KEPT)})
        except ConnectionCut as cut:
            self._require_begun(before, there, cut)
        account: dict[str, Any] = {}

        def ended() -> bool:
            nonlocal account
            account = self._account()
            return account != before

        try:
            wait_until(ended, max(deadline - time.monotonic(), 0), "Solr did not end its copy in time")
        except NotInTime as late:
            raise SolrRefused(late.message, edit_setting("SOLR_BACKUP_MINUTES")) from late
        said = account.get("snapShootException") or account.get("exception")
        if said or account.get("status") != "success":
            raise SolrRefused(f"Solr's copy failed: {said or account}", edit_setting(PLACES))
        new = self._copies() - there
        copies = [self.place / name for name in new if self._files(name) == account.get("fileCount")]
        if len(copies) != 1:
            raise SolrRefused(
                f"Solr tells of a copy with {account.get('fileCount')} files, and {self.place} has "
                f"{', '.join(sorted(new)) or 'no new one'}",
                edit_setting(PLACES),
            )
        return copies[0]

    def _require_begun(self, before: dict[str, Any], there: set[str], cut: ConnectionCut) -> None:
        """Of an answer that was lost nothing is known: asking again could make two copies at a time."""
        try:
            wait_until(lambda: self._copies() != there or self._account() != before, IDLE_SECONDS, "")
        except NotInTime:
            raise cut from None

    def _account(self) -> dict[str, Any]:
        """What Solr tells of its newest copy; empty before the first."""
        details = self._details().get("details")
        told = details.get("backup") if isinstance(details, dict) else None
        if isinstance(told, list):  # name and value in turn, where json.nl is not known
            told = dict(zip(told[::2], told[1::2], strict=False))
        return told if isinstance(told, dict) else {}

    def _details(self) -> dict[str, Any]:
        for _ in range(CUTS):
            try:
                return self._ask({"command": "details"})
            except ConnectionCut:
                time.sleep(POLL_SECONDS)
        return self._ask({"command": "details"})

    def _ask(self, query: dict[str, str]) -> dict[str, Any]:
        fix = edit_setting("SOLR_URL")
        try:
            answer = self.client.get(
                f"/{self.name}/replication", params={**query, "wt": "json", "json.nl": "map"}
            )
            body = answer.json() if answer.status_code == httpx.codes.OK else {}
        except (httpx.HTTPError, ValueError) as error:
            kind = ConnectionCut if isinstance(error, LOST) else SolrRefused
            raise kind(f"Solr does not answer: {str(error) or type(error).__name__}", fix) from error
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SolrRefused(f"Solr refuses the call ({answer.status_code})", edit_setting("SOLR_SECRET"))
        if not isinstance(body, dict) or body.get("status", "OK") != "OK" or not body:
            said = body.get("message", "") if isinstance(body, dict) else ""
            raise SolrRefused(f"Solr refuses the call ({answer.status_code}) {said}".rstrip(), fix)
        return body

    def _copies(self) -> set[str]:
        return {entry.name for entry in os.scandir(self.place) if _SNAPSHOT.fullmatch(entry.name)}

    def _files(self, name: str) -> int:
        with os.scandir(self.place / name) as entries:
            return sum(entry.is_file(follow_symlinks=False) for entry in entries)
