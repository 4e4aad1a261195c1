"""A writer that adds, changes and deletes documents the way Alfresco does, and remembers every commit.

Each transaction runs in one psql that stays connected. What was committed, when by the server's clock
and in which order is kept, so that a test can say which rows and files any moment must have.
"""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from demo.cluster import Cluster
from demo.documents import Document, is_stored, new_url, random_size, remove_document, write_document
from demo.rows import LIBRARY_FIRST, SYSTEM_STORE, RowMaker
from demo.session import Session
from demo.state import TABLES, Change, Row, State, made, removed, statement


@dataclass(frozen=True)
class Commit:
    """One transaction. `committed_at` is the server's commit time, which recovery targets are compared with.

    PostgreSQL 9.4 does not keep commit times: there it is the server's clock just after the commit, and
    `earliest` its clock before it; a recovery to a moment between them may hold it or not.
    """

    number: int
    transaction: int
    committed_at: datetime
    earliest: datetime
    what: str
    documents: tuple[Document, ...]
    changes: tuple[Change, ...]


@dataclass
class Writer:
    """Writes to one host. `baseline` is what the database held at `since`; `commits` came after it."""

    cluster: Cluster
    store: Path
    deleted_store: Path
    baseline: State
    since: datetime
    rows: RowMaker
    source: random.Random = field(default_factory=random.Random)
    commits: list[Commit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.baseline.copy()
        self._session: Session | None = None
        self._background: Future[None] | None = None
        self._enough = threading.Event()

    def add(self, count: int = 1, size: int | None = None) -> Commit:
        """Upload `count` documents in one transaction: the files first, then the rows, then the commit."""
        moment = datetime.now(UTC)
        transaction, change = self.rows.transaction(moment)
        changes = [change]
        documents = []
        for _ in range(count):
            bytes_wanted = random_size(self.source) if size is None else size
            document = Document(new_url(moment, self.source), bytes_wanted)
            write_document(self.store, document)
            url, url_changes = self.rows.url(document)
            node = self.rows.node(url, transaction, moment)
            changes += [*url_changes, *node[2]]
            documents.append(document)
        return self._commit("add", documents, changes)

    def update(self) -> Commit:
        """A new version of a document: a new URL; the old one is orphaned when nothing else refers to it."""
        moment = datetime.now(UTC)
        node, data = self._random_node()
        transaction, change = self.rows.transaction(moment)
        document = Document(new_url(moment, self.source), random_size(self.source))
        write_document(self.store, document)
        url, url_changes = self.rows.url(document)
        row = {**self._row("alf_node", node), "transaction_id": transaction}
        data_row = {**self._row("alf_content_data", data), "content_url_id": url}
        orphaned = self._orphan(self.state.tables["alf_content_data"][(data,)][2], data, moment)
        changes = [change, *url_changes, made("alf_content_data", data_row), made("alf_node", row), *orphaned]
        return self._commit("update", [document], changes)

    def delete(self, *, oldest: bool = False) -> Commit:
        """Delete a node for good: its rows go, its URL is orphaned; the file stays until it is purged.

        `oldest` instead of any: one that older backups hold.
        """
        moment = datetime.now(UTC)
        node, data = self._oldest_node() if oldest else self._random_node()
        _, change = self.rows.transaction(moment)
        properties = [key for key in self.state.tables["alf_node_properties"] if key[0] == node]
        url = self.state.tables["alf_content_data"][(data,)][2]
        changes = [change, *(removed("alf_node_properties", *key) for key in properties)]
        changes += [
            removed("alf_node", node),
            removed("alf_content_data", data),
            *self._orphan(url, data, moment),
        ]
        return self._commit("delete", [], changes)

    def purge(self, limit: int = 10) -> Commit | None:
        """Alfresco's cleaner without protection time: row, copy to contentstore.deleted, file, then commit.

        Returns None when there is no orphan.
        """
        used = {row[2] for row in self.state.tables["alf_content_data"].values()}
        urls = self.state.tables["alf_content_url"]
        orphans = [row for row in urls.values() if row[0] not in used and row[5] not in {"", "0"}][:limit]
        if not orphans:
            return None
        encrypted = {row[1]: key for key, row in self.state.tables["alf_content_url_encryption"].items()}
        changes = [
            removed("alf_content_url_encryption", *encrypted[row[0]])
            for row in orphans
            if row[0] in encrypted
        ]
        changes += [removed("alf_content_url", row[0]) for row in orphans]
        documents = [
            Document(row[1], int(row[4]), row[0] in encrypted) for row in orphans if is_stored(row[1])
        ]
        return self._commit("purge", documents, changes, self._purge_files)

    def work(self, transactions: int) -> None:
        """Transactions as on a working host, one after the other."""
        for _ in range(transactions):
            self.one()

    def one(self) -> Commit:
        """One transaction of the mix: mostly uploads, some new versions, deletions and purges."""
        kind = self.source.choices(("add", "update", "delete", "purge"), (70, 12, 12, 6))[0]
        if kind == "purge":
            return self.purge(3) or self.add()
        if kind == "add" or len(self.state.tables["alf_node"]) < 10:
            return self.add(self.source.choice((1, 1, 1, 2, 5)))
        return self.update() if kind == "update" else self.delete()

    def state_at(self, moment: datetime) -> State:
        """The rows committed by `moment`, that moment included, as a recovery to it must give them."""
        state = self.baseline.copy()
        for commit in self.commits:
            if commit.committed_at > moment:
                break
            state.apply(commit.changes)
        return state

    def rewind(self, moment: datetime) -> None:
        """Forget what was committed after `moment`: the database has been recovered to it."""
        self.close()
        self.commits = [commit for commit in self.commits if commit.committed_at <= moment]
        self.state = self.state_at(moment)

    def start(self, per_second: float = 20.0) -> None:
        """Work in the background until `stop()`. Nothing else may use the writer meanwhile."""
        self._enough.clear()
        pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._background = pool.submit(self._work_until_enough, 1 / per_second)
        pool.shutdown(wait=False)

    def stop(self) -> None:
        """End the background work. Raises what it died of: SessionEndedError where the server was stopped."""
        background, self._background = self._background, None
        self._enough.set()
        if background is not None:
            background.result(timeout=60)

    def _work_until_enough(self, pause: float) -> None:
        while not self._enough.wait(pause):
            self.one()

    def close(self) -> None:
        """Stop working and leave the database; the next transaction connects again."""
        try:
            self.stop()
        finally:
            session, self._session = self._session, None
            if session is not None:
                session.close()

    def _commit(
        self,
        what: str,
        documents: Sequence[Document],
        changes: Sequence[Change],
        before_commit: Callable[[Sequence[Document]], None] | None = None,
    ) -> Commit:
        session = self._session or Session(self.cluster)
        self._session = session
        sql = [statement(change, change.key_text in self.state.tables[change.table]) for change in changes]
        committed = session.commit(sql, before_commit and (lambda: before_commit(documents)))
        commit = Commit(
            number=len(self.commits) + 1,
            transaction=committed.transaction,
            committed_at=committed.committed_at,
            earliest=committed.earliest,
            what=what,
            documents=tuple(documents),
            changes=tuple(changes),
        )
        self.commits.append(commit)
        self.state.apply(changes)
        return commit

    def _purge_files(self, documents: Sequence[Document]) -> None:
        for document in documents:
            if (self.store / document.path).exists():
                write_document(self.deleted_store, document)
                remove_document(self.store, document)

    def _random_node(self) -> tuple[str, str]:
        return self._with_data(self.source.choice(self._nodes()))

    def _oldest_node(self) -> tuple[str, str]:
        return self._with_data(min(self._nodes(), key=int))

    def _nodes(self) -> list[str]:
        """The numbers of the nodes that are neither the system's nor a library's."""
        nodes = self.state.tables["alf_node"].items()
        own = [(str(key[0]), row[2]) for key, row in nodes if int(str(key[0])) < LIBRARY_FIRST]
        return [number for number, store in own if store != str(SYSTEM_STORE)]

    def _with_data(self, node: str) -> tuple[str, str]:
        """The numbers of a node and of its content data."""
        data = {str(key[0]): row[6] for key, row in self.state.tables["alf_node_properties"].items()}
        return node, data[node]

    def _row(self, table: str, number: str) -> Row:
        values = self.state.tables[table][(number,)]
        return {column: value or None for column, value in zip(TABLES[table][0], values, strict=True)}

    def _orphan(self, url: str, data: str, moment: datetime) -> list[Change]:
        """The URL's row with its orphan time, unless other content data still refers to it."""
        others = any(
            row[2] == url and key != (data,) for key, row in self.state.tables["alf_content_data"].items()
        )
        if others:
            return []
        return [
            made("alf_content_url", {**self._row("alf_content_url", url), "orphan_time": _epoch_ms(moment)})
        ]


def _epoch_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
