"""The findings of a content check: asked for again in the database, given their nodes, listed in a file."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Self

from alfresco_backup.contentstore.check import COLUMNS, EXAMPLES, Finding, Problem
from alfresco_backup.contentstore.check_queries import (
    CHILD_TABLE,
    NodeOfContent,
    nodes_of,
    paths_of,
    table_exists,
)
from alfresco_backup.postgres.database import Database
from alfresco_backup.repository.layout import partial_of
from alfresco_backup.system.files import fsync_directory, fsync_file
from alfresco_backup.system.folders import creating, make_folder, rename, unlink

LOOKUP_AT_ONCE = 1000
LOOKUP_SECONDS = 3600.0  # one read of the whole table of properties, in the worst case


class FindingsFile:
    """Writes findings as CSV, looked up in batches. Nothing bears the final name until `with` ends well.

    Where there are no findings there is no file, and an older one of that name stays.
    """

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self.counts: Counter[Problem] = Counter()
        self.removed_meanwhile = 0
        self.examples: list[Finding] = []
        self._nodes = NodeLookup(database)
        self._waiting: list[Finding] = []

    def __enter__(self) -> Self:
        make_folder(self.path.parent, 0o750, exist_ok=True)
        self._partial = partial_of(self.path)
        unlink(self._partial, missing_ok=True)
        private = creating(self._partial, 0o640)  # names of documents
        self._stream = TextIOWrapper(private, "utf-8", "surrogateescape", newline="")
        self._writer = csv.DictWriter(self._stream, COLUMNS)
        self._writer.writeheader()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is not None or not self.counts:
            unlink(self._partial)
            return
        fsync_file(self._partial)
        rename(self._partial, self.path)
        fsync_directory(self.path.parent)

    def add(self, findings: Iterable[Finding]) -> None:
        self._waiting.extend(findings)
        while len(self._waiting) >= LOOKUP_AT_ONCE:
            self._write(self._waiting[:LOOKUP_AT_ONCE])
            del self._waiting[:LOOKUP_AT_ONCE]

    def flush(self) -> None:
        """Look up and write what still waits."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []

    def _write(self, findings: list[Finding]) -> None:
        known = self._nodes.complete(findings)
        self.removed_meanwhile += len(findings) - len(known)
        for finding in known:
            self.counts[finding.problem] += 1
            self._writer.writerow(finding.for_people())
        self.examples.extend(known[: EXAMPLES - len(self.examples)])


class NodeLookup:
    """Finds the nodes of findings. Those whose content is no longer live are left out."""

    def __init__(self, database: Database) -> None:
        self._database = replace(database, timeout_seconds=LOOKUP_SECONDS)
        self._has_paths: bool | None = None

    def complete(self, findings: list[Finding]) -> list[Finding]:
        """The findings whose content is still live, with node and path where a node refers to it."""
        live = self._ask(nodes_of([finding.row.url_id for finding in findings]))
        nameless = [node.url_id for node in live.values() if not node.number]
        if nameless:
            live |= self._ask(nodes_of(nameless, any_property=True))
        paths = self._paths([node.number for node in live.values() if node.number])
        completed = []
        for finding in findings:
            node = live.get(finding.row.url_id)
            if node is not None:
                path = paths.get(node.number) or node.name
                completed.append(replace(finding, node=node.node, nodes=node.nodes, path=path))
        return completed

    def _ask(self, query: str) -> dict[str, NodeOfContent]:
        rows = self._database.query(query)
        return {row[0]: NodeOfContent(row[0], row[1], row[2], int(row[3]), row[4]) for row in rows}

    def _paths(self, nodes: list[str]) -> dict[str, str]:
        if self._has_paths is None:
            self._has_paths = self._database.value(table_exists(CHILD_TABLE)) == "t"
        if not self._has_paths or not nodes:
            return {}
        return {row[0]: row[1] for row in self._database.query(paths_of(nodes))}
