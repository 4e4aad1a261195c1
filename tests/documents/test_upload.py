"""Documents are brought back into a live repository: whole restores against a stand-in of its REST API."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.cli.commands import parse
from alfresco_backup.cli.documents import documents_call
from alfresco_backup.documents.api import ApiLost, ApiRefused
from alfresco_backup.documents.nodes import ContentFile, Node, NodeDetails, Permission, Property, Version
from alfresco_backup.documents.upload import (
    Outcome,
    UploadReport,
    make_plan,
    read_wanted,
    require_whole,
    upload,
)
from alfresco_backup.documents.upload_plan import Action, UploadPlan, Wanted, sendable
from alfresco_backup.documents.values import TYPES
from alfresco_backup.errors import BackupError, DocumentsMissing, SettingsError
from tests.support.alfresco_api import USER, FakeAlfresco, Fault, Stored, fake_alfresco

AS_OF = "2026-11-22T09:15:00+01:00"


class Backup:
    """What a backup knows of documents: their state when `take` was called, and files with their contents."""

    def __init__(self, site: FakeAlfresco, folder: Path) -> None:
        self.site, self.folder = site, folder

    def take(self, node: Stored, **changes: object) -> Wanted:
        path = f"{self.site.folder_path(node)}/{node.name}"
        content = None if node.content is None else ContentFile("store://x", len(node.content))
        shown = Node(1, node.id, node.name, path, node.type, is_folder=node.is_folder, content=content)
        properties = tuple(Property(name, "text", value) for name, value in node.properties.items())
        details = NodeDetails(shown, properties, tuple(sorted(node.aspects)), **changes)
        if node.content is None:
            return Wanted(details)
        file = self.folder / node.id
        file.write_bytes(node.content)
        return Wanted(details, file)


@pytest.fixture
def site() -> Iterator[FakeAlfresco]:
    with fake_alfresco() as running:
        yield running


@pytest.fixture
def backup(site: FakeAlfresco, tmp_path: Path) -> Backup:
    return Backup(site, tmp_path)


def plan_of(site: FakeAlfresco, *wanted: Wanted) -> UploadPlan:
    with site.api() as api:
        return make_plan(api, wanted, AS_OF)


def run(site: FakeAlfresco, *wanted: Wanted) -> UploadReport:
    """Plan and upload. Neither may change what it does not say."""
    with site.api() as api:
        plan = make_plan(api, wanted, AS_OF)
        return upload(api, plan)


def outcomes(report: UploadReport) -> list[Outcome]:
    return [item.outcome for item in report.results]


def test_a_plan_changes_nothing(site: FakeAlfresco, backup: Backup) -> None:
    deleted, gone, changed = (site.add(f"Docs/{name}", name.encode()) for name in ("a.txt", "b.txt", "c.txt"))
    wanted = [backup.take(node) for node in (deleted, gone, changed)]
    site.delete(deleted)
    site.purge(gone)
    changed.content = b"other"
    plan = plan_of(site, *wanted)
    assert [step.action for step in plan.steps] == [Action.TRASHCAN, Action.NEW, Action.VERSION]
    assert all(call.startswith("GET ") for call in site.calls)
    text = plan.text()
    assert "1 restore from the trashcan, 1 new version, 1 new node" in text
    assert "the old node id" in text
    assert AS_OF in text


def test_three_documents_come_back_each_in_its_way_and_are_compared(
    site: FakeAlfresco, backup: Backup
) -> None:
    deleted = site.add("Docs/deleted.txt", b"deleted", properties={"cm:title": "Deleted"})
    gone = site.add(
        "Docs/Old/gone.pdf",
        b"gone",
        properties={"cm:title": "Gone", "cm:tags": ["x", "y"], "exif:flash": True, "cm:hits": 7},
        aspects={"cm:titled", "exif:exif", "sys:referenceable", "cm:lockable"},
    )
    changed = site.add("Docs/changed.txt", b"as it was", aspects={"cm:versionable"}, versions=[b"as it was"])
    own = Permission("GROUP_finance", "Consumer", allowed=True, inherited=False)
    above = Permission("GROUP_EVERYONE", "Contributor", allowed=True, inherited=True)
    wanted = [
        backup.take(deleted),
        backup.take(gone, permissions=(own, above), inherits_permissions=False),
        backup.take(changed),
    ]
    site.delete(deleted)
    site.purge(site.at("Docs/Old") or gone)
    changed.content = b"overwritten by mistake"
    changed.versions.append(changed.content)
    report = run(site, *wanted)
    assert report.whole
    assert report.summary() == "3 of 3 documents are back, compared byte for byte."
    assert site.at("Docs/deleted.txt") is deleted
    assert changed.versions == [b"as it was", b"overwritten by mistake", b"as it was"]
    made = site.at("Docs/Old/gone.pdf")
    assert made and made.content == b"gone"
    assert made.properties == {
        "cm:title": "Gone",
        "cm:tags": ["x", "y"],
        "exif:flash": "true",
        "cm:hits": "7",
    }
    assert {"cm:titled", "exif:exif"} <= made.aspects
    assert "cm:lockable" not in made.aspects
    local = [{"authorityId": "GROUP_finance", "name": "Consumer", "accessStatus": "ALLOWED"}]
    assert made.permissions == {"isInheritanceEnabled": False, "locallySet": local}


def test_a_second_run_finds_what_the_first_made_and_makes_nothing(site: FakeAlfresco, backup: Backup) -> None:
    nodes = [site.add(f"Docs/{name}", name.encode() * 9) for name in ("a.txt", "no ending", ".env")]
    wanted = [backup.take(node) for node in nodes]
    for node in nodes:
        site.purge(node)
        site.add(f"Docs/{node.name}", b"somebody else's")
    assert run(site, *wanted).whole
    assert [site.at(f"Docs/{name}") is not None for name in ("a-1.txt", "no ending-1", "1.env")] == [True] * 3
    count = len(site.nodes)
    again = run(site, *wanted)
    assert outcomes(again) == [Outcome.UNCHANGED] * 3
    assert again.summary() == "3 of 3 documents are back, compared byte for byte."
    assert len(site.nodes) == count
    assert all(site.nodes[node.parent].name == "Docs" for node in site.nodes.values() if node.content)


RESTRICTED = {
    "permissions": (Permission("GROUP_finance", "Consumer", True, False),),
    "inherits_permissions": False,
}


@pytest.mark.parametrize("lost", ["cut", "cut answer"])
def test_permissions_that_a_lost_connection_kept_back_are_set_by_the_next_run(
    site: FakeAlfresco, backup: Backup, lost: str
) -> None:
    node = site.add("Docs/salaries", b"s", properties={"cm:title": "Salaries"})
    wanted = backup.take(node, **RESTRICTED)
    site.purge(node)
    site.faults = [Fault(r"PUT /nodes/[^/]+\?", lost, times=1, after=1)]
    assert outcomes(run(site, wanted)) == [Outcome.UNFINISHED]
    again = run(site, wanted)
    assert again.whole
    made = site.at("Docs/salaries")
    local = [{"authorityId": "GROUP_finance", "name": "Consumer", "accessStatus": "ALLOWED"}]
    assert made and made.permissions == {"isInheritanceEnabled": False, "locallySet": local}
    assert outcomes(run(site, wanted)) == [Outcome.UNCHANGED]


def test_a_folder_that_a_lost_connection_left_bare_is_not_said_to_be_as_it_was(
    site: FakeAlfresco, backup: Backup
) -> None:
    folder = site.add("Docs/finance", None, properties={"cm:title": "Finance"})
    wanted = backup.take(folder, **RESTRICTED)
    site.purge(folder)
    site.faults = [Fault(r"PUT /nodes/", "cut", times=1)]
    assert outcomes(run(site, wanted)) == [Outcome.UNFINISHED]
    again = run(site, wanted)
    assert "it lacks cm:title, permissions" in again.results[0].said
    assert "1 of them without all properties, aspects and permissions" in again.summary()


def test_what_somebody_made_with_the_account_of_the_upload_keeps_what_it_says(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("Docs/plan", b"p", properties={"cm:title": "old", "cm:description": "then"})
    wanted = backup.take(node, **RESTRICTED)
    site.purge(node)
    local = [{"authorityId": "GROUP_board", "name": "Consumer", "accessStatus": "ALLOWED"}]
    hand = site.add("Docs/plan", b"p", creator=USER, properties={"cm:title": "new title by hand"})
    hand.permissions = {"isInheritanceEnabled": True, "locallySet": local}
    (step,) = plan_of(site, wanted).steps
    assert step.action is Action.COMPLETE
    assert step.why.endswith("it lacks cm:description")
    assert step.told[0] == "not as then, and left: cm:title, permissions"
    assert run(site, wanted).whole
    assert hand.properties == {"cm:title": "new title by hand", "cm:description": "then"}
    assert hand.permissions == {"isInheritanceEnabled": True, "locallySet": local}


def test_a_folder_of_a_models_own_type_comes_out_of_the_trashcan_with_what_is_in_it(
    site: FakeAlfresco, backup: Backup
) -> None:
    """By its type alone it is no folder; Alfresco says that it is one."""
    folder = site.add("Docs/project", None)
    inside = site.add("Docs/project/a", b"a")
    items = [backup.take(folder), backup.take(inside)]
    details = items[0].details
    items[0] = replace(items[0], details=replace(details, node=replace(details.node, is_folder=False)))
    site.delete(folder)
    report = run(site, *items)
    assert report.whole, report.text()
    assert site.at("Docs/project/a") is inside and inside.deleted == ""


def test_a_folder_of_a_models_own_type_that_lives_is_no_document_that_became_one(
    site: FakeAlfresco, backup: Backup
) -> None:
    folder = site.add("Docs/list", None)
    taken = backup.take(folder)
    wanted = replace(taken, details=replace(taken.details, node=replace(taken.details.node, is_folder=False)))
    report = run(site, wanted)
    assert outcomes(report) == [Outcome.UNCHANGED]
    assert report.summary() == "0 of 0 documents are back, compared byte for byte, and 1 of 1 folders."


def test_a_folder_whose_name_a_document_has_now_is_not_planned_under_another(
    site: FakeAlfresco, backup: Backup
) -> None:
    folder = site.add("Docs/plans", None)
    wanted = backup.take(folder)
    site.purge(folder)
    site.add("Docs/plans", b"a document")
    (step,) = plan_of(site, wanted).steps
    assert (step.action, step.why) == (
        Action.NOT_POSSIBLE,
        "a document has its name now; rename that in Alfresco",
    )


ACME = "http://www.acme.org/model/contracts/1.0"


def test_properties_and_aspects_of_a_model_of_ones_own_are_known_again_by_its_prefix(
    site: FakeAlfresco, backup: Backup
) -> None:
    """The database has the model's URI, the API shows its prefix."""
    site.models[ACME] = "acme"
    site.known_prefixes.add("acme")
    node = site.add(
        "Docs/contract", b"c", aspects={f"{{{ACME}}}signed"}, properties={f"{{{ACME}}}status": "draft"}
    )
    wanted = backup.take(node)
    site.purge(node)
    assert run(site, wanted).whole
    made = site.at("Docs/contract")
    assert made and made.properties == {"acme:status": "draft"} and "acme:signed" in made.aspects
    made.properties = {"acme:status": "approved by hand"}
    (step,) = plan_of(site, wanted).steps
    assert (step.action, step.told[0]) == (Action.NOTHING, f"not as then, and left: {{{ACME}}}status")
    made.properties = {"acme:status": "draft"}
    again = run(site, wanted)
    assert outcomes(again) == [Outcome.UNCHANGED]
    assert not again.lacks
    made.properties, made.aspects = {"cm:status": "another model's"}, {"cm:versionable"}
    made.creator = USER
    (step,) = plan_of(site, wanted).steps
    assert step.why.endswith(f"it lacks {{{ACME}}}status, {{{ACME}}}signed")


@pytest.mark.parametrize("kind", sorted({*TYPES.values()}))
def test_a_value_of_each_type_is_sent_or_told(kind: str) -> None:
    node = Node(1, "uuid", "a", "/Company Home/a", "cm:content")
    properties, _, told = sendable(NodeDetails(node, (Property("acme:x", kind, "v"),)))
    sent = kind in {"boolean", "int", "long", "float", "double", "text", "mltext", "datetime"}
    assert (properties, told) == (({"acme:x": "v"}, ()) if sent else ({}, ("acme:x",)))


def test_what_somebody_put_into_the_place_is_not_overwritten(site: FakeAlfresco, backup: Backup) -> None:
    node = site.add("Docs/report.tar.gz", b"ours")
    wanted = backup.take(node)
    site.purge(node)
    other = site.add("Docs/Report.TAR.gz", b"theirs")
    report = run(site, wanted)
    assert report.whole
    assert other.content == b"theirs"
    made = site.at("Docs/report.tar-1.gz")
    assert made and made.content == b"ours"
    assert "is /Company Home/Docs/report.tar-1.gz" in report.results[0].said


def test_a_node_without_versions_gets_one_of_its_present_content_first(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("plain.txt", b"then", properties={"cm:title": "Plain"})
    wanted = backup.take(node)
    node.content, node.properties = b"now", {"cm:title": "Changed since"}
    plan = plan_of(site, wanted)
    assert "not as then, and left: cm:title" in plan.text()
    assert run(site, wanted).whole
    assert node.versions == [b"now", b"then"]
    assert node.properties == {"cm:title": "Changed since"}


def test_content_that_may_be_in_no_version_is_not_overwritten(site: FakeAlfresco, backup: Backup) -> None:
    node = site.add("draft.txt", b"then", aspects={"cm:versionable"}, versions=[b"then"])
    wanted = backup.take(node)
    node.content, node.properties = b"now, in no version", {"cm:autoVersion": False}
    report = run(site, wanted)
    assert not report.whole
    assert f"the present content of node {node.id} is in no version of it" in report.results[0].said
    assert (node.content, node.versions) == (b"now, in no version", [b"then"])


def test_what_comes_out_of_the_trashcan_with_content_in_no_version_is_not_overwritten(
    site: FakeAlfresco, backup: Backup
) -> None:
    """Where a whole Alfresco makes no versions, as by version.store.enableAutoVersioning=false."""
    node = site.add("Docs/plan", b"then", aspects={"cm:versionable"}, versions=[b"then"])
    wanted = backup.take(node)
    node.content = b"now, in no version"
    site.delete(node)
    report = run(site, wanted)
    assert outcomes(report) == [Outcome.UNFINISHED]
    assert "is in no version of it, so it would be lost" in report.results[0].said
    assert (node.deleted, node.content, node.versions) == ("", b"now, in no version", [b"then"])


def test_content_whose_file_alfresco_has_lost_does_not_keep_the_older_one_out(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("Docs/plan", b"then", aspects={"cm:versionable"}, versions=[b"then"])
    wanted = backup.take(node)
    node.content, node.unreadable = b"newer, and lost", True
    node.versions.append(node.content)
    assert run(site, wanted).whole
    assert node.content == b"then"


def test_content_that_alfresco_cannot_read_and_no_version_has_is_not_overwritten(
    site: FakeAlfresco, backup: Backup
) -> None:
    """Its disk may only not be mounted: the file would be an orphan, which Alfresco deletes later."""
    node = site.add("Docs/plan", b"then", aspects={"cm:versionable"}, versions=[b"then"])
    wanted = backup.take(node)
    for now, why in (
        (b"now, in no version", "is in no version of it, so it would be lost"),
        (b"same", "Unable to locate content"),
    ):
        node.content, node.unreadable = now, True
        report = run(site, wanted)
        assert not report.whole
        assert why in report.results[0].said
        assert (node.content, node.versions) == (now, [b"then"])


def test_that_a_node_has_versions_from_now_on_is_told_when_the_content_is_refused(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("plain.txt", b"then")
    wanted = backup.take(node)
    node.content = b"now"
    plan = plan_of(site, wanted)
    site.faults = [Fault("PUT .*/content", 507)]
    with site.api() as api:
        report = upload(api, plan)
    assert f"node {node.id} has versions from now on" in report.results[0].said
    assert node.content == b"now"


def test_what_was_overwritten_and_then_deleted_is_restored_with_a_new_version(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("Docs/a.txt", b"then")
    wanted = backup.take(node)
    node.content = b"overwritten"
    site.delete(node)
    report = run(site, wanted)
    assert report.whole
    assert node.deleted == ""
    assert node.versions == [b"overwritten", b"then"]


def test_a_folder_with_all_below_it_comes_out_of_the_trashcan_at_once(
    site: FakeAlfresco, backup: Backup
) -> None:
    one, two = site.add("A/B/one.txt", b"one"), site.add("A/B/C/two.txt", b"two")
    early = site.add("A/B/early.txt", b"deleted before its folder")
    folder = site.at("A/B")
    assert folder
    wanted = [backup.take(node) for node in (two, one, early, folder, site.nodes[two.parent])]
    site.delete(early)
    two.content = b"changed before it was deleted"
    site.delete(folder)
    plan = plan_of(site, *wanted)
    assert [(step.path.rpartition("/")[2], step.action) for step in plan.steps] == [
        ("B", Action.TRASHCAN),
        ("C", Action.WITH_FOLDER),
        ("early.txt", Action.TRASHCAN),
        ("one.txt", Action.WITH_FOLDER),
        ("two.txt", Action.WITH_FOLDER),
    ]
    report = run(site, *wanted)
    assert report.summary() == "3 of 3 documents are back, compared byte for byte, and 2 of 2 folders."
    assert (one.content, two.content, early.deleted) == (b"one", b"two", "")
    assert two.versions == [b"changed before it was deleted", b"two"]


def test_folders_that_are_gone_are_made_again_once(site: FakeAlfresco, backup: Backup) -> None:
    nodes = [site.add(f"A/B/{name}", name.encode()) for name in ("x/1", "x/2", "y/3")]
    folder = site.at("A/B/y")
    assert folder
    wanted = [*(backup.take(node) for node in nodes), backup.take(folder)]
    site.purge(site.at("A") or folder)
    assert run(site, *wanted).whole
    for path in ("A/B/x/1", "A/B/x/2", "A/B/y/3"):
        made = site.at(path)
        assert made and made.content == path.removeprefix("A/B/").encode()
    assert len([node for node in site.nodes.values() if node.is_folder]) == 5


def test_a_document_of_a_folder_in_the_trashcan_that_is_not_asked_for_is_made_again(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("A/B/one.txt", b"one")
    wanted = backup.take(node)
    site.delete(site.nodes[node.parent])
    plan = plan_of(site, wanted)
    assert plan.steps[0].action is Action.NEW
    assert "inside a folder that is not asked for" in plan.steps[0].why
    assert "the node in the trashcan stays there" in plan.steps[0].told
    assert run(site, wanted).whole
    made = site.at("A/B/one.txt")
    assert made and made is not node


def test_what_cannot_be_brought_back_is_told_per_document(site: FakeAlfresco, backup: Backup) -> None:
    node = site.add("a.txt", b"a")
    own = Permission("alice", "Editor", allowed=True, inherited=False)
    versions = tuple(Version(f"1.{n}", n, "", "alice", None, None) for n in range(3))
    details = backup.take(node).details
    many = NodeDetails(
        details.node,
        (
            Property("cm:title", "mltext", {"de": "Titel", "en": "Title"}),
            Property("cm:taggable", "category", ["workspace://SpacesStore/1"]),
            Property("cm:creator", "text", "alice"),
        ),
        ("cm:titled", "cm:taggable"),
        (own,),
        versions=versions,
    )
    site.purge(node)
    (step,) = plan_of(site, Wanted(many, backup.folder / node.id)).steps
    assert step.told == (
        "the old node id",
        "creator and times",
        "its 3 versions",
        "comments and associations",
        "1 permissions of its own, unless the user of the upload may set them",
        "cm:title in languages but one",
        "cm:taggable",
    )


@pytest.mark.parametrize(
    ("path", "changes", "why"),
    [
        ("Sites/finance/documentLibrary/a.txt", {}, "the site finance is gone; make it again in Share"),
        ("a.txt", {"lost": "no snapshot has it"}, "its content is lost: no snapshot has it"),
    ],
)
def test_what_is_not_possible_is_said_and_the_rest_is_done(
    site: FakeAlfresco, backup: Backup, path: str, changes: dict[str, str], why: str
) -> None:
    site.add("Sites")
    node, other = site.add(path, b"a"), site.add("other.txt", b"other")
    taken = backup.take(node)
    wanted = [Wanted(taken.details, taken.content, **changes), backup.take(other)]
    site.purge(site.at("Sites/finance") or node)
    site.purge(other)
    report = run(site, *wanted)
    assert sorted(outcomes(report)) == [Outcome.BACK, Outcome.NOT_POSSIBLE]
    with pytest.raises(DocumentsMissing) as missing:
        require_whole(report)
    assert missing.value.exit_code == 4
    assert "1 of 2 documents are back" in missing.value.message
    assert why in missing.value.message


@pytest.mark.parametrize("status", [403, 409, 413, 422])
def test_a_refusal_of_one_document_does_not_keep_the_others(
    site: FakeAlfresco, backup: Backup, status: int
) -> None:
    nodes = [site.add(f"Docs/{name}", name.encode()) for name in "abc"]
    wanted = [backup.take(node) for node in nodes]
    for node in nodes:
        site.purge(node)
    site.faults = [Fault("POST .*/children", status, times=1, after=1)]
    report = run(site, *wanted)
    assert outcomes(report) == [Outcome.BACK, Outcome.FAILED, Outcome.BACK]
    assert site.at("Docs/b") is None
    with pytest.raises(DocumentsMissing, match="2 of 3 documents are back") as missing:
        require_whole(report)
    assert f"{status} on demand" in missing.value.message
    assert missing.value.hint
    site.faults = []
    assert outcomes(run(site, *wanted)) == [Outcome.UNCHANGED, Outcome.BACK, Outcome.UNCHANGED]


@pytest.mark.parametrize("status", [401, 500, 507])
def test_what_concerns_all_ends_the_upload_and_says_what_was_not_begun(
    site: FakeAlfresco, backup: Backup, status: int
) -> None:
    nodes = [site.add(f"Docs/{name}", name.encode()) for name in "abc"]
    wanted = [backup.take(node) for node in nodes]
    for node in nodes:
        site.purge(node)
    site.faults = [Fault("POST .*/children", status, times=1, after=1)]
    report = run(site, *wanted)
    assert outcomes(report) == [Outcome.BACK, Outcome.FAILED, Outcome.NOT_BEGUN]
    with pytest.raises(BackupError, match="1 of 3 documents are back") as ended:
        require_whole(report)
    assert ended.value.exit_code == 1
    assert "/Company Home/Docs/c: not begun" in ended.value.message
    assert site.at("Docs/b") is None
    assert run(site, *wanted).whole


def test_limits_of_the_repository_itself_are_told(site: FakeAlfresco, backup: Backup) -> None:
    small, large = site.add("a", b"a" * 10), site.add("b", b"b" * 1000)
    wanted = [backup.take(small), backup.take(large)]
    site.purge(small)
    site.purge(large)
    site.most_bytes = 500
    assert outcomes(run(site, *wanted)) == [Outcome.BACK, Outcome.FAILED]
    site.most_bytes, site.quota = 5000, 900
    report = run(site, *wanted)
    assert outcomes(report) == [Outcome.UNCHANGED, Outcome.FAILED]
    assert "quota" in report.stopped


@pytest.mark.parametrize("kind", ["cut", "cut answer"])
@pytest.mark.parametrize(
    "call", ["POST .*/children", "PUT .*/content", "POST /deleted-nodes", "PUT /nodes/[^/]+$"]
)
def test_a_connection_lost_in_the_middle_leaves_nothing_that_is_not_told(
    site: FakeAlfresco, backup: Backup, kind: str, call: str
) -> None:
    size = 200_000
    new = site.add("Docs/new", b"n" * size, properties={"cm:title": "New"})
    version = site.add("Docs/version", b"v" * size, aspects={"cm:versionable"}, versions=[b"v" * size])
    trash = site.add("Docs/trash", b"t" * size)
    wanted = [backup.take(node) for node in (trash, version, new)]
    site.purge(new)
    site.delete(trash)
    version.content = b"other"
    version.versions.append(b"other")
    pattern = call.removesuffix("$") + (r"\?" if call.endswith("$") else "")
    site.faults = [Fault(pattern, kind, times=1)]
    report = run(site, *wanted)
    assert report.stopped
    lost = next(item for item in report.results if item.outcome is Outcome.UNFINISHED)
    made = site.at("Docs/new")
    told = {
        ("POST .*/children", "cut"): "nothing was made so far",
        ("POST .*/children", "cut answer"): "it was made, and lacks the rest",
        ("PUT .*/content", "cut"): "its content is the one it had",
        ("PUT .*/content", "cut answer"): "its content is back",
        ("POST /deleted-nodes", "cut"): "it is still in the trashcan",
        ("POST /deleted-nodes", "cut answer"): "its content is back",
        ("PUT /nodes/[^/]+$", "cut"): "the rest of the step is not done",
        ("PUT /nodes/[^/]+$", "cut answer"): "the rest of the step is not done",
    }[call, kind]
    assert told in lost.said
    if lost.node:
        assert lost.node in site.nodes and not site.nodes[lost.node].deleted
    if call.startswith("PUT /nodes") and not call.endswith("content"):
        assert made and lost.node == made.id
    again = run(site, *wanted)
    assert again.whole, again.text()
    assert version.versions[-1] == b"v" * size
    assert version.versions.count(b"v" * size) == 2
    assert trash.deleted == ""
    back = site.at("Docs/new")
    assert back and back.properties == {"cm:title": "New"}
    assert sum(node.content == b"n" * size for node in site.nodes.values()) == 1


@pytest.mark.parametrize("kind", ["given up", "odd", "cut answer"])
def test_what_a_proxy_did_not_wait_for_is_looked_up(site: FakeAlfresco, backup: Backup, kind: str) -> None:
    node = site.add("Docs/a.txt", b"a", properties={"cm:title": "A"})
    wanted = backup.take(node)
    site.purge(node)
    site.faults = [Fault("POST .*/children", kind, times=1)]
    report = run(site, wanted)
    made = site.at("Docs/a.txt")
    assert made
    assert outcomes(report) == [Outcome.UNFINISHED]
    assert (report.results[0].node, made.properties) == (made.id, {})
    assert "it was made, and lacks the rest" in report.results[0].said
    if kind != "cut answer":
        assert report.stopped.startswith("it is not known whether Alfresco did create a.txt: ")
    assert run(site, wanted).whole
    assert made.properties == {"cm:title": "A"}


def test_a_folder_that_came_out_of_the_trashcan_without_an_answer_is_told_as_out(
    site: FakeAlfresco, backup: Backup
) -> None:
    folder, node = site.add("Docs/old"), site.add("Docs/changed", b"then")
    wanted = [backup.take(folder), backup.take(node)]
    node.content = b"changed before it was deleted"
    for each in (folder, node):
        site.delete(each)
    site.faults = [Fault("POST /deleted-nodes", "given up", times=1)]
    report = run(site, *wanted)
    assert (report.results[0].node, folder.deleted) == (folder.id, "")
    assert report.results[0].said.startswith("it is out of the trashcan; ")
    site.faults = [Fault("POST /deleted-nodes", "given up", times=1)]
    report = run(site, wanted[1])
    assert report.results[0].node == node.id
    assert "it is out of the trashcan, the rest of the step is not done" in report.results[0].said
    assert run(site, *wanted).whole


def test_a_parent_folder_that_was_made_without_an_answer_is_not_called_nothing(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("Docs/Old/a.txt", b"a")
    wanted = backup.take(node)
    site.purge(site.nodes[node.parent])
    site.faults = [Fault("POST .*/children", "cut answer", times=1)]
    report = run(site, wanted)
    assert site.at("Docs/Old")
    assert "the document was not made so far" in report.results[0].said
    assert run(site, wanted).whole


def test_a_server_that_never_answers_again_is_told_too(site: FakeAlfresco, backup: Backup) -> None:
    node = site.add("a", b"a")
    wanted = backup.take(node)
    site.purge(node)
    plan = plan_of(site, wanted)
    site.faults = [Fault("POST", "cut"), Fault("GET", "cut", after=1)]
    with site.api() as api:
        report = upload(api, plan)
    assert outcomes(report) == [Outcome.UNFINISHED]
    assert "what came of it is not known: Alfresco does not answer" in report.results[0].said


def test_a_login_that_is_refused_ends_it_before_anything_is_done(site: FakeAlfresco, backup: Backup) -> None:
    wanted = backup.take(site.add("a", b"a"))
    with site.api("wrong") as api, pytest.raises(ApiRefused, match="does not accept"):
        make_plan(api, [wanted])
    site.faults = [Fault("GET", "cut")]
    with site.api() as api, pytest.raises(ApiLost):
        make_plan(api, [wanted])


def test_a_document_that_may_not_be_seen_is_told_and_the_others_are_planned(
    site: FakeAlfresco, backup: Backup
) -> None:
    nodes = [site.add(name, name.encode()) for name in ("a", "b")]
    wanted = [backup.take(node) for node in nodes]
    site.purge(nodes[1])
    site.faults = [Fault(f"GET /nodes/{nodes[0].id}", 403)]
    plan = plan_of(site, *wanted)
    assert [step.action for step in plan.steps] == [Action.NOT_POSSIBLE, Action.NEW]
    assert f"{USER} has no right to" in plan.steps[0].why


def test_properties_aspects_and_permissions_that_alfresco_refuses_are_told_one_by_one(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add(
        "a.txt",
        b"a",
        properties={"acme:case": "4711", "cm:title": "A"},
        aspects={"acme:case", "cm:titled", "cm:emailed"},
    )
    left = Permission("left the company", "Editor", allowed=True, inherited=False)
    wanted = backup.take(node, permissions=(left,))
    site.purge(node)
    report = run(site, wanted)
    assert report.results[0].lacks == ("acme:case", "acme:case", "permissions")
    assert "1 of 1 documents are back, compared byte for byte; 1 of them without all" in report.summary()
    made = site.at("a.txt")
    assert made and made.properties == {"cm:title": "A"}
    assert {"cm:titled", "cm:emailed"} <= made.aspects
    assert "unknown authority" in report.results[0].said
    require_whole(report)


def test_an_authority_that_is_gone_does_not_open_the_document_to_all(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("salaries", b"s")
    gone = Permission("left the company", "Editor", allowed=True, inherited=False)
    finance = Permission("GROUP_finance", "Consumer", allowed=True, inherited=False)
    wanted = backup.take(node, permissions=(gone, finance), inherits_permissions=False)
    site.purge(node)
    report = run(site, wanted)
    made = site.at("salaries")
    local = [{"authorityId": "GROUP_finance", "name": "Consumer", "accessStatus": "ALLOWED"}]
    assert made and made.permissions == {"isInheritanceEnabled": False, "locallySet": local}
    assert "left the company as Editor did not come back: " in report.results[0].said
    assert (report.results[0].lacks, report.lacks) == (("permissions",), True)


def test_what_was_asked_for_and_not_found_is_named_beside_what_failed(
    site: FakeAlfresco, backup: Backup
) -> None:
    node = site.add("a.txt", b"a")
    wanted = backup.take(node)
    site.purge(node)
    site.faults = [Fault("POST .*/children", 413)]
    with pytest.raises(DocumentsMissing) as missing:
        require_whole(run(site, wanted), ["another-node-id"], "/backup/exports/1")
    assert "  - another-node-id: not found" in missing.value.message
    assert missing.value.message.endswith("The exported files stay in /backup/exports/1.")


def test_content_that_arrives_changed_is_never_counted(site: FakeAlfresco, backup: Backup) -> None:
    node = site.add("a.txt", b"a")
    wanted = backup.take(node)
    site.purge(node)
    site.spoils = True
    report = run(site, wanted)
    assert outcomes(report) == [Outcome.UNFINISHED]
    assert "0 of 1 documents are back" in report.summary()
    assert "has other content than the file" in report.results[0].said


NODE = "12345678-1234-1234-1234-123456789abc"


def test_the_options_of_the_program_are_those_of_the_flow() -> None:
    words = ["documents", "restore", NODE, "--as-of", AS_OF, "--upload"]
    asked = documents_call(parse(words)[1]).parameters
    assert (asked["action"], asked["mode"], asked["confirm"]) == ("upload", "plan", "")
    asked = documents_call(parse([*words, "--execute", "--confirm", "alf1"])[1]).parameters
    assert (asked["action"], asked["mode"], asked["confirm"]) == ("upload", "execute", "alf1")
    assert "action" not in documents_call(parse(words[:-1])[1]).parameters


@pytest.mark.parametrize(
    "words", [["restore", NODE, "--execute"], ["restore", NODE, "--confirm", "alf1"], ["find", "--upload"]]
)
def test_an_option_that_would_have_no_effect_is_refused(words: list[str]) -> None:
    with pytest.raises(SettingsError) as wrong:
        documents_call(parse(["documents", *words])[1])
    assert wrong.value.exit_code == 2
    assert words[-1].startswith("alf") or words[-1] in wrong.value.message


def test_what_an_export_wrote_is_what_an_upload_takes(tmp_path: Path) -> None:
    nodes = [
        NodeDetails(Node(n, f"id-{n}", f"{n}.txt", f"/Company Home/{n}.txt", "cm:content")) for n in range(3)
    ]
    lines = (
        {"node": "id-0", "state": "exported", "file": "Company Home/0.txt"},
        {"node": "id-1", "state": "lost", "notes": ["LOST, looked at: live contentstore", "damaged"]},
    )
    (tmp_path / "documents.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    first, second, third = read_wanted(tmp_path, nodes)
    assert first.content == tmp_path / "Company Home/0.txt"
    assert (second.content, second.lost) == (None, "LOST, looked at: live contentstore; damaged")
    assert (third.content, third.lost) == (None, "")


def test_a_folder_that_was_put_into_the_place_of_the_export_is_not_read(tmp_path: Path) -> None:
    """Its list could name any file of root's."""
    node = NodeDetails(Node(1, "id-0", "0.txt", "/Company Home/0.txt", "cm:content"))
    for name in ("export", "planted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "documents.jsonl").write_text("")
    status = (tmp_path / "export").stat()
    identity = status.st_dev, status.st_ino
    assert read_wanted(tmp_path / "export", [node], identity)[0].content is None
    line = {"node": "id-0", "state": "exported", "file": "/etc/shadow"}
    (tmp_path / "planted/documents.jsonl").write_text(f"{json.dumps(line)}\n")
    (tmp_path / "export").rename(tmp_path / "aside")
    (tmp_path / "planted").rename(tmp_path / "export")
    with pytest.raises(BackupError, match="is no longer the folder of the export"):
        read_wanted(tmp_path / "export", [node], identity)
