"""Does what an upload plan says, document by document, and compares what came of it. Acts.

A refusal of one document does not keep the others from being brought back. Where Alfresco does not answer, is
out of space or does not accept the login, it ends; what was done, begun and not begun is told. Repeating it
is harmless: planned again, what is back is found by its content.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from alfresco_backup.documents.api import ROOT, AlfrescoApi, ApiLost, ApiRefused
from alfresco_backup.documents.export_records import LISTED
from alfresco_backup.documents.nodes import LiveNode, NodeDetails, Permission
from alfresco_backup.documents.upload_plan import (
    PERMISSIONS,
    Action,
    Live,
    UploadPlan,
    UploadStep,
    Wanted,
    aspects_lacking,
    below_root,
    lacking,
    own_permissions,
    plan_upload,
    sendable,
    unique_names,
)
from alfresco_backup.errors import BackupError, DocumentsMissing
from alfresco_backup.pages import markdown_table, page
from alfresco_backup.settings.commands import folder_listing, program_command
from alfresco_backup.system.folders import open_folder

OF_ONE_DOCUMENT = frozenset({400, 403, 404, 409, 413, 422, 423})
"""Refusals after which the next document may succeed."""
VERSIONABLE = "cm:versionable"


class Outcome(StrEnum):
    """What became of a document."""

    BACK = "back"
    UNCHANGED = "nothing to do"
    NOT_POSSIBLE = "not possible"
    FAILED = "failed"
    UNFINISHED = "unfinished"
    NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class UploadResult:
    """`node`: the id it has in the live repository; `said`: what happened.

    `lacks`: properties, aspects and permissions that Alfresco refused, beyond what the plan told.
    """

    step: UploadStep
    outcome: Outcome
    node: str = ""
    said: str = ""
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class UploadReport:
    """A result for each step of the plan. `stopped`: why it ended early; `fix`: for that, or a failure."""

    results: tuple[UploadResult, ...]
    stopped: str = ""
    fix: str = ""

    @property
    def whole(self) -> bool:
        """Whether all is back that was asked for, though it may lack properties, aspects and permissions."""
        return all(item.outcome in (Outcome.BACK, Outcome.UNCHANGED) for item in self.results)

    @property
    def lacks(self) -> bool:
        """Whether something of what is back is in the exported files alone."""
        return any(item.lacks for item in self.results)

    def summary(self) -> str:
        """One sentence with its denominator."""
        back = [item for item in self.results if item.outcome in (Outcome.BACK, Outcome.UNCHANGED)]
        files = [item for item in back if not item.step.wanted.details.node.is_folder]
        folders = len(back) - len(files)
        asked = sum(not item.step.wanted.details.node.is_folder for item in self.results)
        words = f"{len(files)} of {asked} documents are back, compared byte for byte"
        if len(self.results) > asked:
            words += f", and {folders} of {len(self.results) - asked} folders"
        if lacking := sum(bool(item.lacks) for item in self.results):
            words += f"; {lacking} of them without all properties, aspects and permissions"
        return f"{words}{f'; ended early: {self.stopped}' if self.stopped else ''}."

    def rows(self) -> list[dict[str, str]]:
        """The results as a table."""
        return [
            {
                "path": item.step.path,
                "planned": item.step.action.value,
                "result": item.outcome.value,
                "node id": item.node,
                "what happened": item.said,
            }
            for item in self.results
        ]

    def text(self) -> str:
        """The results for a terminal and an artifact."""
        return page("Upload", self.summary(), markdown_table(self.rows()))


@dataclass(frozen=True)
class Uploaded:
    """The result of an upload, or of planning one: `report` is None. `execute`: the command that does it.

    `folder`: where the files are, if they stay. `not_found`: node ids that there were none of at that time.
    """

    plan: UploadPlan
    report: UploadReport | None = None
    execute: str = ""
    folder: str = ""
    not_found: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What is back of what was asked for, or would be done."""
        words = (self.report or self.plan).summary()
        return f"{words} Not found: {', '.join(self.not_found)}." if self.not_found else words

    def text(self) -> str:
        """A page of markdown."""
        files = f"The files are in `{self.folder}`." if self.folder else ""
        missing = f"Not found: {', '.join(self.not_found)}." if self.not_found else ""
        how = "" if self.report or not self.plan.changes else f"To carry it out: `{self.execute}`"
        return "\n".join(filter(None, ((self.report or self.plan).text(), missing, files, how)))

    def document(self) -> dict[str, Any]:
        """The same for programs."""
        rows = (self.report or self.plan).rows()
        return {
            "as_of": self.plan.as_of,
            "executed": self.report is not None,
            "folder": self.folder or None,
            "not_found": list(self.not_found),
            "steps": [{name.replace(" ", "_"): value for name, value in row.items()} for row in rows],
        }

    def failure(self) -> BackupError | None:
        """DocumentsMissing where one asked for did not exist; an upload that failed was raised before."""
        if not self.not_found:
            return None
        return DocumentsMissing(self.sentence, program_command("documents", "find", "--help"))


def read_wanted(
    folder: Path, details: Sequence[NodeDetails], identity: tuple[int, int] | None = None
) -> list[Wanted]:
    """What an export has written of documents, as what an upload needs. Raises OSError.

    `identity`: device and inode of the folder. Whoever may write to the one above could put another in its
    place, whose list names files that only root may read. Raises BackupError where that was done.
    """
    with open_folder(folder) as found:
        status = os.fstat(found)
        if identity not in (None, (status.st_dev, status.st_ino)):
            raise BackupError(
                f"{folder} is no longer the folder of the export", folder_listing(folder.parent)
            )
        with os.fdopen(os.open(LISTED, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found)) as stream:
            lines = {line["node"]: line for line in map(json.loads, stream)}
    return [_wanted(folder, item, lines.get(item.node.uuid, {})) for item in details]


def _wanted(folder: Path, details: NodeDetails, line: Mapping[str, Any]) -> Wanted:
    if line.get("state") == "exported":
        return Wanted(details, folder / line["file"])
    lost = "; ".join(line.get("notes", ())) if line.get("state") in ("lost", "elsewhere") else ""
    return Wanted(details, None, lost, bool(line.get("unread")))


def make_plan(api: AlfrescoApi, wanted: Sequence[Wanted], as_of: str = "") -> UploadPlan:
    """Ask the live repository about each document and decide. Reads contents where their sizes are alike.

    Raises ApiRefused or ApiLost where Alfresco does not answer or does not accept the login.
    """
    root = api.node(ROOT)
    if root is None:
        raise BackupError(f"Alfresco at {api.address} has no Company Home for {api.user}")
    live = {item.details.node.uuid: _inspect(api, item) for item in wanted}
    known = [_as_shown(item, live[item.details.node.uuid]) for item in wanted]
    return plan_upload(known, live, user=api.user, root=root.name, as_of=as_of)


def _as_shown(item: Wanted, found: Live) -> Wanted:
    """Alfresco knows which types of a model are folders: by its database alone that is not told."""
    node = item.details.node
    folder = any(each and each.is_folder for each in (found.node, found.deleted))
    if not folder or node.content or node.is_folder:
        return item
    return replace(item, details=replace(item.details, node=replace(node, is_folder=True)))


def _inspect(api: AlfrescoApi, item: Wanted) -> Live:
    """What the live repository has of a document; a refusal of this one is noted with it."""
    then = item.details.node
    try:
        node = api.node(then.uuid)
        if node:
            return Live(node, same=_same(api, node, item))
        deleted = api.deleted_node(then.uuid)
        missing = tuple(_missing(api, below_root(then.folder)))
        if missing:
            return Live(deleted=deleted, missing=missing)
        named = api.node(ROOT, below_root(then.path)) if below_root(then.path) else None
        return Live(deleted=deleted, copy=_copy(api, item), name_taken=named is not None)
    except ApiRefused as refused:
        if refused.status not in OF_ONE_DOCUMENT:
            raise
        return Live(refused=refused.message)


def _missing(api: AlfrescoApi, folder: str) -> Iterator[str]:
    """The folders on the way to a folder that are not there."""
    parts = folder.split("/") if folder else []
    paths = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    there = list(takewhile(lambda path: api.node(ROOT, path) is not None, paths))
    yield from paths[len(there) :]


def _copy(api: AlfrescoApi, item: Wanted) -> LiveNode | None:
    """A node in the old folder with the name and content of the wanted one, or a name made of it."""
    then = item.details.node
    folder = below_root(then.folder)
    for name in unique_names(then.name):
        node = api.node(ROOT, f"{folder}/{name}".lstrip("/"))
        if node is None:
            return None
        if node.is_folder == then.is_folder and (then.is_folder or _same(api, node, item)):
            return node
    return None


def _same(api: AlfrescoApi, node: LiveNode, item: Wanted) -> bool:
    """Whether a node has the content of the target time. Sizes first: few contents need to be read."""
    if item.content is None or node.is_folder:
        return False
    if (node.size or 0) != item.content.stat().st_size:
        return False
    return api.has_content(node.uuid, item.content)


def upload(
    api: AlfrescoApi, plan: UploadPlan, tell: Callable[[UploadResult], None] = lambda _: None
) -> UploadReport:
    """Do the plan. `tell` gets each result at once. Raises OSError where a content file cannot be read."""
    results: list[UploadResult] = []
    stopped = fix = ""
    for step in plan.steps:
        if stopped:
            result = UploadResult(step, _idle(step) or Outcome.NOT_BEGUN, step.node)
        else:
            result, error = _carry_out(api, step, plan.as_of)
            fix = fix or (error.hint if error else "")
            if error and not _of_one(error):
                stopped, fix = error.message, error.hint
        results.append(result)
        tell(result)
    return UploadReport(tuple(results), stopped, fix)


def require_whole(report: UploadReport, not_found: Sequence[str] = (), folder: str = "") -> None:
    """Raise DocumentsMissing where something was refused, BackupError where it ended early.

    `not_found`: what was asked for besides, and did not exist then; `folder`: where the files stay.
    """
    if report.whole:
        return
    kind = BackupError if report.stopped else DocumentsMissing
    rest = [item for item in report.results if item.outcome not in (Outcome.BACK, Outcome.UNCHANGED)]
    lines = [
        f"{item.step.path}: {item.outcome.value}{f': {item.said}' if item.said else ''}" for item in rest
    ]
    lines += [f"{uuid}: not found" for uuid in not_found]
    stay = [f"The exported files stay in {folder}."] if folder else []
    raise kind("\n".join([report.summary(), *(f"  - {line}" for line in lines), *stay]), report.fix)


def _of_one(error: BackupError) -> bool:
    return not isinstance(error, ApiLost) and getattr(error, "status", 400) in OF_ONE_DOCUMENT


def _idle(step: UploadStep) -> Outcome | None:
    idle = {Action.NOTHING: Outcome.UNCHANGED, Action.NOT_POSSIBLE: Outcome.NOT_POSSIBLE}
    return idle.get(step.action)


def _carry_out(api: AlfrescoApi, step: UploadStep, as_of: str) -> tuple[UploadResult, BackupError | None]:
    """One step, and the error that ended it."""
    if outcome := _idle(step):
        return UploadResult(step, outcome, step.node, "; ".join((step.why, *step.told)), step.lacks), None
    work = _Work(api, step, as_of)
    try:
        work.do()
        return UploadResult(step, Outcome.BACK, work.node, work.said(), tuple(work.lacks)), None
    except (ApiRefused, ApiLost, _Differs) as error:
        if isinstance(error, ApiLost):
            work.look_again()
        outcome = Outcome.UNFINISHED if work.node or isinstance(error, ApiLost) else Outcome.FAILED
        return UploadResult(step, outcome, work.node, work.said(error.message)), error


class _Differs(BackupError):
    """What Alfresco returns is not what it was sent."""


class _Work:
    """A step while it is done. `node`: the id of what it has brought back so far."""

    def __init__(self, api: AlfrescoApi, step: UploadStep, as_of: str) -> None:
        self.api, self.step = api, step
        self.comment = f"Restored from a backup{f', as of {as_of}' if as_of else ''}"
        self.node = ""
        self.compared = False
        self.notes: list[str] = []
        self.lacks: list[str] = []

    def said(self, *more: str) -> str:
        return "; ".join([*self.notes, *more])

    def do(self) -> None:
        """All of the step. Content is compared last, so that nothing is counted that is not back."""
        step = self.step
        match step.action:
            case Action.TRASHCAN | Action.WITH_FOLDER:
                self._restore()
            case Action.VERSION:
                self._new_version(step.node)
            case Action.NEW:
                self._create()
            case Action.COMPLETE:
                self.node = step.node
                self._complete(lacking(step.wanted.details, self._require_node(step.node)))
        content = step.wanted.content
        if not self.compared and content and not self.api.has_content(self.node, content):
            self.notes.append(f"node {self.node} has other content than the file {content}")
            raise _Differs("what Alfresco returns is not what it was sent", "look into alfresco.log")

    def _restore(self) -> None:
        step, item = self.step, self.step.wanted
        if step.action is Action.TRASHCAN:
            self.node = self.api.restore_deleted(step.node).uuid
        live = self.api.node(step.node)
        if live is None:
            raise ApiRefused(404, f"node {step.node} did not come with its folder", "plan again")
        self.node = live.uuid
        self.notes.append(f"is {live.folder}/{live.name}")
        self.compared = _same(self.api, live, item)
        if item.content and not self.compared:
            self._new_version(live.uuid)

    def _new_version(self, uuid: str) -> None:
        """Alfresco overwrites content that is in no version: a node without any gets its first one before."""
        content, live = self.step.wanted.content, self.api.node(uuid)
        if content is None or live is None:
            raise ApiRefused(404, f"node {uuid} is gone by now", "plan again")
        if VERSIONABLE not in live.aspects:
            self.api.update(uuid, aspects=sorted(live.aspects | {VERSIONABLE}))
            self.notes.append(f"node {uuid} has versions from now on")
        newest = self.api.newest_version(uuid)
        if not newest:
            message = f"Alfresco makes no version of node {uuid}, so its present content would be lost"
            raise ApiRefused(409, message, "look into alfresco.log")
        label, size = newest
        if size != live.size or not self.api.is_in_version(uuid, label):  # as with cm:autoVersion = false
            message = f"the present content of node {uuid} is in no version of it, so it would be lost"
            raise ApiRefused(409, message, "make a version of it in Alfresco, then plan again")
        self.api.new_version(uuid, content, self.comment)
        self.node = uuid
        self.notes.append("a new version was made")

    def _create(self) -> None:
        item, then = self.step.wanted, self.step.wanted.details.node
        for path in self.step.folders:
            self._folder(path)
        parent = self._require_folder(below_root(then.folder))
        if item.content is None:
            made = self.api.create_folder(parent, then.name, then.type)
        else:
            made = self.api.create_file(parent, then.name, then.type, item.content)
        self.node = made.uuid
        self.notes.append(f"is {then.folder}/{made.name}")
        self._complete()

    def _folder(self, path: str) -> None:
        above, _, name = path.rpartition("/")
        if self.api.node(ROOT, path) is None:
            self.api.create_folder(self._require_folder(above), name)
            self.notes.append(f"folder {path} was made")

    def _require_folder(self, path: str) -> str:
        found = self.api.node(ROOT, path) if path else self.api.node(ROOT)
        if found is None:
            raise ApiRefused(404, f"the folder {path} is not there", "plan again")
        return found.uuid

    def _require_node(self, uuid: str) -> LiveNode:
        live = self.api.node(uuid)
        if live is None:
            raise ApiRefused(404, f"node {uuid} is gone by now", "plan again")
        return live

    def _complete(self, lacks: Sequence[str] | None = None) -> None:
        """Properties, aspects, permissions: all, or what a node lacks. What is refused is noted only."""
        details = self.step.wanted.details
        properties, aspects, _ = sendable(details)
        if lacks is not None:
            properties = {name: value for name, value in properties.items() if name in lacks}
        refused = self._try(lambda: self.api.update(self.node, properties)) if properties else ""
        if refused:
            for name, value in properties.items():
                words = self._try(partial(self.api.update, self.node, {name: value}))
                self._note(name, words)
        self._add_aspects(aspects)
        own = own_permissions(details)
        if (own or not details.inherits_permissions) and (lacks is None or PERMISSIONS in lacks):
            self._set_permissions(own, inherits=details.inherits_permissions)

    def _set_permissions(self, own: Sequence[Permission], *, inherits: bool) -> None:
        """One by one where all at once is refused: an authority that is gone must not open it to all."""

        def refused(those: Sequence[Permission]) -> str:
            return self._try(lambda: self.api.set_permissions(self.node, those, inherits=inherits))

        words = refused(own)
        if not words:
            return
        self.lacks.append(PERMISSIONS)
        if words := refused(()):
            self.notes.append(f"{PERMISSIONS} did not come back: {words}")
            return
        there: list[Permission] = []
        for one in own:
            if words := refused([*there, one]):
                self.notes.append(f"{one.authority} as {one.role} did not come back: {words}")
            else:
                there.append(one)

    def _add_aspects(self, aspects: Sequence[str]) -> None:
        """One by one only where all at once is refused: a model that is gone must not cost the others."""
        live = self.api.node(self.node)
        there = set(live.aspects) if live else set()
        lacking = aspects_lacking(aspects, there)
        if not lacking or not self._try(
            lambda: self.api.update(self.node, aspects=sorted(there | {*lacking}))
        ):
            return
        for name in lacking:
            more = sorted(there | {name})
            words = self._try(partial(self.api.update, self.node, aspects=more))
            self._note(name, words)
            there |= set() if words else {name}

    def _try(self, call: Callable[[], object]) -> str:
        """Why a call was refused; empty where it was done. Raises what concerns more than this document."""
        try:
            call()
        except ApiRefused as refused:
            if refused.status not in OF_ONE_DOCUMENT:
                raise
            return refused.message
        return ""

    def _note(self, name: str, words: str) -> None:
        if words:
            self.lacks.append(name)
            self.notes.append(f"{name} did not come back: {words}")

    def look_again(self) -> None:
        """After a call without an answer: find out what came of it, where Alfresco answers again."""
        step, item = self.step, self.step.wanted
        try:
            if self.node:
                self.notes.append(f"node {self.node} is there, the rest of the step is not done")
                return
            if step.action is Action.NEW:
                found = (
                    None
                    if any(_missing(self.api, below_root(item.details.node.folder)))
                    else _copy(self.api, item)
                )
                self.node = found.uuid if found else ""
                nothing = "the document was not made so far" if step.folders else "nothing was made so far"
                self.notes.append("it was made, and lacks the rest" if found else nothing)
                return
            live = self.api.node(step.node)
            if live is None:
                self.notes.append("it is still in the trashcan, so far")
            elif _same(self.api, live, item):
                self.node = live.uuid
                self.notes.append("its content is back")
            elif step.action is not Action.VERSION:
                self.node = live.uuid
                rest = ", the rest of the step is not done" if item.content else ""
                self.notes.append(f"it is out of the trashcan{rest}")
            else:
                self.notes.append("its content is the one it had")
        except (ApiRefused, ApiLost):
            self.notes.append("what came of it is not known: Alfresco does not answer")
