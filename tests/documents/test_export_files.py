"""An export takes sound copies only, tells what it could not take, and is there as a whole or not at all."""

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alfresco_backup.contentstore.checksums import write_list
from alfresco_backup.contentstore.links import link_text
from alfresco_backup.documents.content import make_shelves, shelves_of
from alfresco_backup.documents.export import AHEAD, exporting, remove_unfinished, require_space
from alfresco_backup.documents.export_content import Contents
from alfresco_backup.documents.export_records import Exported, Tally, Written
from alfresco_backup.documents.nodes import ContentFile, Node, NodeDetails, Property, Version
from alfresco_backup.documents.results import Findings, Hit
from alfresco_backup.errors import BackupError, Refused
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.records import Snapshot
from alfresco_backup.repository.sets import BackupSet, Catalogue, Problem
from tests.support.catalogues import a_snapshot
from tests.support.common import full_disk

DAY = "2026/11/21"
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another account")


@dataclass
class Shelf:
    """A content store and a repository with snapshots of it, made by hand."""

    root: Path

    def __post_init__(self) -> None:
        self.store, self.repository = self.root / "store", Repository(self.root / "backup")
        self.snapshots: list[Snapshot] = []
        self.files: dict[str, bytes] = {}
        (self.store / DAY / "9/30").mkdir(parents=True)

    def add(self, name: str, content: bytes = b"") -> ContentFile:
        content = content or name.encode() * 100
        self.files[name] = content
        (self.store / DAY / f"9/30/{name}.bin").write_bytes(content)
        return ContentFile(f"store://{DAY}/9/30/{name}.bin", len(content), "text/plain", "UTF-8")

    def live(self, name: str) -> Path:
        return self.store / DAY / f"9/30/{name}.bin"

    def stored(self, name: str, snapshot: int) -> Path:
        return self.repository.contentstore.days / self.snapshots[snapshot].stamp / DAY / f"9/30/{name}.bin"

    def snapshot(self, algorithm: str = "sha1") -> None:
        """A snapshot with a version of the day of its own."""
        started = datetime(2026, 11, 22, len(self.snapshots), tzinfo=UTC)
        made = a_snapshot(started, repository=self.repository)
        store = self.repository.contentstore
        version = store.day_trees(made.stamp) / DAY / "9/30"
        version.mkdir(parents=True)
        digests = {}
        for name, content in self.files.items():
            (version / f"{name}.bin").write_bytes(content)
            digests[f"{DAY}/9/30/{name}.bin".encode()] = hashlib.new(algorithm, content).digest()
        write_list(store.checksums(made.stamp) / DAY, digests)
        (made.path / DAY).parent.mkdir(parents=True)
        (made.path / DAY).symlink_to(link_text(DAY, made.stamp))
        self.snapshots.append(made)

    def contents(self) -> Contents:
        return Contents(make_shelves({"contentstore": self.store}, self.snapshots))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def details(path: str, content: ContentFile | None, *versions: Version, number: int = 1) -> NodeDetails:
    modified = datetime(2026, 11, 21, 9, 30, 1, 234000, tzinfo=UTC) + timedelta(minutes=number)
    name = path.rpartition("/")[2]
    node = Node(number, f"uuid-{number}", name, path, "cm:content", content=content, modified=modified)
    return NodeDetails(node, versions=versions)


def export(
    target: Path, contents: Contents, *nodes: NodeDetails, snapshots: bool = True, versions: bool = False
) -> Tally:
    with exporting(target, {"id": "1"}, versions=versions) as written:
        left = written.write(nodes, contents, snapshots=snapshots)
        assert left == []
        written.write_manifest({"state": "done", "folder": str(target)})
    return written.tally


def described(target: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((target / f"{name}.json").read_text())["content"]
    return found


def test_a_place_that_cannot_be_read_does_not_prove_that_a_content_is_lost(shelf: Shelf) -> None:
    content = shelf.add("plan")
    shelf.snapshot()
    live, stored = shelf.live("plan"), shelf.stored("plan", 0)
    stored.unlink()
    live.unlink()
    live.symlink_to(live)
    shelves = make_shelves({"contentstore": shelf.store}, shelf.snapshots)
    place = shelves.find(content)
    stamp = shelf.snapshots[0].stamp
    why = "(cannot be read: Too many levels of symbolic links)"
    assert place.words == f"NOT FOUND, looked at: live contentstore {why}, contentstore {stamp}"
    node = details("/plan.txt", content).node
    said = Findings("node ids", "now", (Hit(node, place, "as then"),)).sentence
    assert said == "1 found of node ids, as of now; that of 1 is where it cannot be read, or lost"
    live.unlink()
    place = shelves.find(content)
    assert place.words == f"LOST, looked at: live contentstore, contentstore {stamp}"
    said = Findings("node ids", "now", (Hit(node, place, "as then"),)).sentence
    assert said == "1 found of node ids, as of now; the content of 1 is lost"


def test_a_store_whose_disk_may_not_be_mounted_does_not_prove_that_a_content_is_lost(shelf: Shelf) -> None:
    content = shelf.add("plan")
    shelf.snapshot()
    shelf.stored("plan", 0).unlink()
    shelves = make_shelves({"contentstore": shelf.store}, shelf.snapshots)
    away, stamp = shelf.store.with_name("away"), shelf.snapshots[0].stamp
    shelf.store.rename(away)

    def words(why: str) -> str:
        return f"NOT FOUND, looked at: live contentstore ({why}; is it mounted?), contentstore {stamp}"

    assert shelves.find(content).words == words("not there")
    shelf.store.write_text("")
    assert shelves.find(content).words == words("no directory")
    shelf.store.unlink()
    shelf.store.mkdir()
    place = shelves.find(content)
    assert (place.words, place.unread) == (words("empty"), True)
    hit = Hit(details("/plan.txt", content).node, place, "as then")
    (found,) = Findings("node ids", "now", (hit,)).document()["documents"]
    assert (found["content"], found["unread"]) == ("lost", True)
    shelf.store.rmdir()
    away.rename(shelf.store)
    assert shelves.find(content).kind == "live"
    shelf.live("plan").unlink()
    assert shelves.find(content).words == f"LOST, looked at: live contentstore, contentstore {stamp}"


def test_a_guessed_store_and_snapshots_that_the_catalogue_cannot_read_prove_no_loss(
    shelf: Shelf, tmp_path: Path
) -> None:
    content = ContentFile("store://2026/11/21/9/30/never.bin", 7)
    shelf.add("plan")
    shelf.snapshot()
    host = host_with(tmp_path, shelf.store)
    known = Catalogue(snapshots=tuple(shelf.snapshots))
    assert not shelves_of(host, known).find(content).unread
    broken = shelf.repository.contentstore.root / "contentstore-20261121T020000Z"
    stray = Problem(shelf.repository.contentstore.root / "notes", "not the name of a backup")
    future = Problem(known.snapshots[0].path, "dated in the future")
    assert not shelves_of(host, replace(known, problems=(stray, future))).find(content).unread
    damaged = replace(known, problems=(Problem(broken, "its metadata is missing"),))
    assert f"{broken} (its metadata is missing)" in shelves_of(host, damaged).find(content).looked
    assert shelves_of(host, damaged).find(content).words.startswith("NOT FOUND")
    properties = tmp_path / "tomcat/shared/classes/alfresco-global.properties"
    properties.parent.mkdir(parents=True)
    properties.write_text(f"dir.contentstore={tmp_path}/nowhere\n")
    (tmp_path / "alf_data/contentstore/2026").mkdir(parents=True)
    place = shelves_of(host_with(tmp_path), known).find(content)
    guess = (
        f"{tmp_path}/alf_data/contentstore is a guess, dir.contentstore is {tmp_path}/nowhere, no directory"
    )
    assert place.looked[0] == f"live contentstore ({guess}; is it mounted?)"
    assert place.unread


def test_an_empty_folder_of_snapshots_beside_other_backups_proves_no_loss(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.add("plan")
    host, root = host_with(tmp_path, shelf.store), shelf.repository.contentstore.root
    content = ContentFile("store://2026/11/21/9/30/never.bin", 7)
    root.mkdir(parents=True)
    assert not shelves_of(host, Catalogue()).find(content).unread
    others = Catalogue(sets=(BackupSet("20261121T020000Z"),))
    place = shelves_of(host, others).find(content)
    assert f"snapshots of contentstore ({root}: empty; is it mounted?)" in place.looked
    assert place.unread


def host_with(root: Path, store: Path | None = None) -> Host:
    env = root / "env"
    places = f"BACKUP_DIR={root}/backup\nALF_BASE_DIR={root}\n"
    places += f"CONTENTSTORE_DIR={store}\n" if store else ""
    env.write_text(f"PGHOST=localhost\nPGUSER=alfresco\nALF_HOST_NAME=demo\n{places}")
    env.chmod(0o600)
    return load_host(env)


def test_a_content_in_a_store_that_this_host_does_not_have_is_told_as_such(shelf: Shelf) -> None:
    shelves = make_shelves({"contentstore": shelf.store}, shelf.snapshots)
    place = shelves.find(ContentFile("s3v2://2026/11/21/9/30/plan.bin", 7))
    assert place.words == "in a store of s3v2://, which this host does not have"
    assert (place.kind, place.unread) == ("elsewhere", True)
    hit = Hit(details("/plan.txt", None).node, place, "as then")
    said = Findings("node ids", "now", (hit,)).sentence
    assert said.endswith("as of now; that of 1 is in a store that this host does not have")
    for url in ("spoof://{seed=1}", "empty"):
        assert shelves.find(ContentFile(url, 7)).words == ""


def test_a_file_shorter_than_its_encrypted_content_is_not_it(shelf: Shelf, tmp_path: Path) -> None:
    content = replace(shelf.add("secret"), encrypted=True)
    shelf.live("secret").write_bytes(b"")
    tally = export(tmp_path / "out", shelf.contents(), details("/secret", content))
    assert tally.exported == 0
    assert tally.lost == ["/secret: LOST, looked at: live contentstore (a file of 0 bytes)"]


def test_a_content_whose_size_was_not_recorded_is_not_lost(shelf: Shelf, tmp_path: Path) -> None:
    content = replace(shelf.add("old"), size=0)
    tally = export(tmp_path / "out", shelf.contents(), details("/old", content))
    assert (tally.exported, tally.lost) == (1, [])
    assert (tmp_path / "out/old").read_bytes() == shelf.files["old"]


def test_contents_of_other_properties_are_told_and_no_document_is_called_empty_for_them(
    shelf: Shelf, tmp_path: Path
) -> None:
    scan = Property("acme:scan", "content", {"url": "store://2026/11/21/9/30/scan.bin", "size": "7"})
    own = Property("cm:content", "content", {"url": "store://2026/11/21/9/30/plan.bin", "size": "7"})
    alone = replace(details("/alone", None), properties=(scan,))
    beside = replace(details("/beside", shelf.add("plan"), number=2), properties=(own, scan))
    tally = export(tmp_path / "out", shelf.contents(), alone, beside)
    assert tally.further == ["/alone: acme:scan", "/beside: acme:scan"]
    assert (tally.documents, tally.exported, tally.without_content) == (2, 1, 0)
    told = Exported("demo", "now", ("uuid-1",), {}, tmp_path, tally).sentence
    assert "2 contents of other properties not: /alone: acme:scan, /beside: acme:scan" in told


@pytest.mark.parametrize("algorithm", ["sha1", "md5"])
def test_a_damaged_live_file_is_not_taken_but_the_snapshots(
    shelf: Shelf, tmp_path: Path, algorithm: str
) -> None:
    content = shelf.add("plan")
    shelf.snapshot(algorithm)
    shelf.live("plan").write_bytes(b"X" * content.size)

    tally = export(tmp_path / "out", shelf.contents(), details("/plan.txt", content))

    assert (tmp_path / "out/plan.txt").read_bytes() == shelf.files["plan"]
    assert (tally.exported, tally.compared) == (1, 1)
    assert tally.refused == ["/plan.txt: live store: differs from its recorded checksum"]
    assert described(tmp_path / "out", "plan.txt")["from"] == f"snapshot {shelf.snapshots[0].stamp}"


def test_of_two_snapshots_the_sound_one_is_taken(shelf: Shelf, tmp_path: Path) -> None:
    content = shelf.add("plan")
    shelf.snapshot()
    shelf.snapshot()
    shelf.live("plan").unlink()
    shelf.stored("plan", 1).write_bytes(b"X" * content.size)

    tally = export(tmp_path / "out", shelf.contents(), details("/plan.txt", content))

    assert (tmp_path / "out/plan.txt").read_bytes() == shelf.files["plan"]
    newest, oldest = shelf.snapshots[1].stamp, shelf.snapshots[0].stamp
    assert tally.refused == [f"/plan.txt: snapshot {newest}: differs from its recorded checksum"]
    assert described(tmp_path / "out", "plan.txt")["from"] == f"snapshot {oldest}"


def test_a_damaged_copy_whose_list_is_gone_is_compared_with_what_another_snapshot_recorded(
    shelf: Shelf, tmp_path: Path
) -> None:
    content = shelf.add("plan")
    shelf.snapshot()
    shelf.snapshot()
    shelf.live("plan").unlink()
    shelf.stored("plan", 1).write_bytes(b"X" * content.size)
    newest = shelf.snapshots[1].stamp
    (shelf.repository.contentstore.checksums(newest) / DAY).unlink()

    tally = export(tmp_path / "out", shelf.contents(), details("/plan.txt", content))

    assert (tmp_path / "out/plan.txt").read_bytes() == shelf.files["plan"]
    assert tally.refused == [f"/plan.txt: snapshot {newest}: differs from its recorded checksum"]


def test_an_export_tells_what_may_be_where_it_cannot_be_read_from_what_is_lost(
    shelf: Shelf, tmp_path: Path
) -> None:
    gone, unread = shelf.add("gone"), shelf.add("unread")
    shelf.live("gone").unlink()
    shelf.live("unread").unlink()
    shelf.live("unread").symlink_to(shelf.live("unread"))
    nodes = details("/gone", gone), details("/unread", unread, number=2)
    tally = export(tmp_path / "out", shelf.contents(), *nodes)
    assert (len(tally.lost), tally.unread) == (2, 1)
    said = Exported("demo", "now", ("uuid-1",), {}, tmp_path, tally).sentence
    assert "2 not found, 1 of them where it cannot be read, or lost: /gone: LOST, looked at: " in said
    assert described(tmp_path / "out", "unread")["unread"] is True


def test_what_is_damaged_everywhere_is_lost_and_has_its_json(shelf: Shelf, tmp_path: Path) -> None:
    content = shelf.add("plan")
    shelf.snapshot()
    shelf.live("plan").unlink()
    shelf.stored("plan", 0).write_bytes(b"X" * content.size)

    tally = export(tmp_path / "out", shelf.contents(), details("/plan.txt", content))

    assert (tally.documents, tally.exported) == (1, 0)
    assert len(tally.lost) == 1
    assert f"snapshot {shelf.snapshots[0].stamp}: differs from its recorded checksum" in tally.lost[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "SHA1SUMS", "documents.jsonl", "export.json", "plan.txt.json",
    ]  # fmt: skip
    assert described(tmp_path / "out", "plan.txt")["state"] == "lost"


def test_what_is_lost_names_the_places_that_were_looked_at(shelf: Shelf, tmp_path: Path) -> None:
    content = shelf.add("plan")
    shelf.snapshot()
    shelf.live("plan").write_bytes(b"short")
    shelf.stored("plan", 0).unlink()

    tally = export(tmp_path / "out", shelf.contents(), details("/plan.txt", content))

    stamp = shelf.snapshots[0].stamp
    assert tally.lost == [
        f"/plan.txt: LOST, looked at: live contentstore (a file of 5 bytes), contentstore {stamp}"
    ]


def test_without_a_recorded_checksum_it_is_exported_and_not_counted_as_compared(
    shelf: Shelf, tmp_path: Path
) -> None:
    content = shelf.add("plan")
    tally = export(tmp_path / "out", shelf.contents(), details("/plan.txt", content))
    assert (tally.exported, tally.compared) == (1, 0)


def test_the_snapshots_are_left_alone_until_they_may_be_read(shelf: Shelf, tmp_path: Path) -> None:
    there, gone, bad = shelf.add("there"), shelf.add("gone"), shelf.add("bad")
    shelf.snapshot()
    shelf.live("gone").unlink()
    shelf.live("bad").write_bytes(b"X" * bad.size)
    nodes = [
        details(f"/{name}.txt", content, number=number)
        for number, (name, content) in enumerate({"there": there, "gone": gone, "bad": bad}.items())
    ]
    contents = shelf.contents()
    with exporting(tmp_path / "out", {}, versions=False) as written:
        left = written.write(nodes, contents, snapshots=False)
        assert [node.name for node in left] == ["gone.txt", "bad.txt"]
        assert written.tally.exported == 1
        assert written.write(nodes[1:], contents, snapshots=True) == []
    for name, content in shelf.files.items():
        assert (tmp_path / f"out/{name}.txt").read_bytes() == content


def test_what_has_no_file_has_its_json_and_what_is_elsewhere_is_told(shelf: Shelf, tmp_path: Path) -> None:
    urls = ("spoof://{seed=1,locale=en}", "empty", "s3v2://1/2", "store://../../etc/passwd")
    nodes = [
        details(f"/{number}", ContentFile(url, 100), number=number)
        for number, url in enumerate(urls, start=1)
    ]
    tally = export(tmp_path / "out", shelf.contents(), *nodes, details("/none", None, number=9))
    assert (tally.documents, tally.exported, tally.without_content) == (5, 0, 3)
    assert tally.lost == [
        "/3: in a store of s3v2://, which this host does not have",
        "/4: its URL leads out of the store",
    ]
    assert described(tmp_path / "out", "1")["notes"] == ["spoof: Alfresco generates it, there is no file"]
    assert described(tmp_path / "out", "none") is None


def test_an_encrypted_file_is_exported_as_it_is_and_counted(shelf: Shelf, tmp_path: Path) -> None:
    plain = shelf.add("secret")
    content = ContentFile(plain.url, plain.size - 16, encrypted=True)
    tally = export(tmp_path / "out", shelf.contents(), details("/secret.pdf", content))
    assert (tmp_path / "out/secret.pdf").read_bytes() == shelf.files["secret"]
    assert (tally.exported, tally.encrypted) == (1, 1)
    assert described(tmp_path / "out", "secret.pdf")["encrypted"] is True


def test_versions_are_exported_when_they_are_asked_for(shelf: Shelf, tmp_path: Path) -> None:
    now, before = shelf.add("now"), shelf.add("before")
    shelf.live("before").unlink()
    shelf.files.pop("before")
    versions = (
        Version("1.0", 1, "first", "anna", datetime(2026, 11, 20, tzinfo=UTC), before),
        Version("1.1", 2, "", "anna", datetime(2026, 11, 21, tzinfo=UTC), now),
    )
    plain = export(tmp_path / "plain", shelf.contents(), details("/plan.txt", now, *versions))
    assert (plain.versions, sorted(path.name for path in (tmp_path / "plain").iterdir())[-2:]) == (
        0,
        ["plan.txt", "plan.txt.json"],
    )
    tally = export(tmp_path / "out", shelf.contents(), details("/plan.txt", now, *versions), versions=True)
    folder = tmp_path / "out/plan.txt.versions"
    assert [path.name for path in folder.iterdir()] == ["1.1 plan.txt"]
    assert (folder / "1.1 plan.txt").read_bytes() == shelf.files["now"]
    assert (tally.versions, tally.versions_exported, len(tally.lost)) == (2, 1, 1)
    assert tally.lost[0].startswith("/plan.txt, version 1.0: LOST")


def test_a_folder_deeper_than_any_path_may_be_long_is_exported(shelf: Shelf, tmp_path: Path) -> None:
    content = shelf.add("deep")
    path = f"{''.join(f'/{letter * 200}' for letter in 'abcdefghijklmnopqrstuvwxyz')}/deep.txt"
    assert export(tmp_path / "out", shelf.contents(), details(path, content)).exported == 1
    found = [name for _, _, names, _ in os.fwalk(tmp_path / "out") for name in names]
    assert "deep.txt" in found and "deep.txt.json" in found


@NEEDS_ROOT
@pytest.mark.parametrize("planted", ["link", "pipe", "folder"])
def test_what_the_stores_owner_planted_is_not_followed(shelf: Shelf, tmp_path: Path, planted: str) -> None:
    content = shelf.add("plan")
    secret = tmp_path / "secret"
    secret.write_bytes(b"S" * content.size)
    secret.chmod(0o600)
    file = shelf.live("plan")
    file.unlink()
    if planted == "link":
        file.symlink_to(secret)
    elif planted == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    for folder in (shelf.store, *shelf.store.rglob("*")):
        os.chown(folder, 65534, 65534, follow_symlinks=False)

    tally = export(tmp_path / "out", shelf.contents(), details("/plan.txt", content))

    assert (tally.exported, len(tally.lost)) == (0, 1)
    assert not (tmp_path / "out/plan.txt").exists()


def test_a_full_disk_is_told_and_nothing_is_left(shelf: Shelf, tmp_path: Path) -> None:
    content = shelf.add("big", b"x" * 300_000)
    with full_disk(200_000), pytest.raises(BackupError, match="is full: nothing was exported") as failed:
        export(tmp_path / "out", shelf.contents(), details("/big.bin", content))
    assert "df -h" in failed.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_interrupted_while_a_large_file_is_copied_it_ends_and_leaves_nothing(
    shelf: Shelf, tmp_path: Path
) -> None:
    content = shelf.add("large")
    os.truncate(shelf.live("large"), 1 << 30)
    large = ContentFile(content.url, 1 << 30)

    def interrupted() -> Iterator[NodeDetails]:
        yield details("/large.bin", large, number=1)
        yield details("/next.bin", large, number=2)
        raise KeyboardInterrupt

    before = open_descriptors()
    with pytest.raises(KeyboardInterrupt), exporting(tmp_path / "out", {}, versions=False) as written:
        written.write(interrupted(), shelf.contents(), snapshots=True)

    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("copying")]
    assert open_descriptors() == before


class OneWaits(Contents):
    """Ends with the first content only once a later one is copied."""

    def __init__(self, shelf: Shelf, first: str) -> None:
        super().__init__(make_shelves({"contentstore": shelf.store}, shelf.snapshots))
        self.first, self.another = first, threading.Event()

    def write(self, content: ContentFile | None, target: int, file: str, *, snapshots: bool) -> Written:
        if file == self.first:
            assert self.another.wait(300), "nothing else was copied meanwhile"
        written = super().write(content, target, file, snapshots=snapshots)
        self.another.set()
        return written


def test_while_a_large_content_is_copied_the_next_ones_are_and_they_are_listed_in_order(
    shelf: Shelf, tmp_path: Path
) -> None:
    names = [f"{number}.txt" for number in range(AHEAD + 10)]
    nodes = [
        details(f"/folder {number % 3}/{name}", shelf.add(name), number=number)
        for number, name in enumerate(names)
    ]
    shelf.snapshot()
    before = open_descriptors()
    tally = export(tmp_path / "out", OneWaits(shelf, "folder 0/0.txt"), *nodes)

    assert (tally.exported, tally.compared) == (len(names), len(names))
    listed = [
        json.loads(line)["path"] for line in (tmp_path / "out/documents.jsonl").read_text().splitlines()
    ]
    assert listed == [one.node.path for one in nodes]
    for one in nodes:
        assert (tmp_path / f"out{one.node.path}").read_bytes() == shelf.files[one.node.name]
    assert open_descriptors() == before


def test_an_export_that_the_disk_has_no_room_for_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"the export needs 1024\.00 TiB; .* are free"):
        require_space(tmp_path / "out", 1 << 50, 0)


def killed_at(event: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed at its so many-th change of a file; whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def watch(name: str, arguments: Sequence[object]) -> None:
            nonlocal count
            if name in ("open", "os.mkdir", "os.rename", "os.remove", "os.utime", "os.truncate"):
                count += 1
                if count == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_killed_at_any_step_it_is_there_as_a_whole_or_removed_by_the_next(
    shelf: Shelf, tmp_path: Path
) -> None:
    nodes = [details(f"/f/{name}.txt", shelf.add(name), number=ord(name)) for name in "ab"]
    shelf.snapshot()
    shelf.live("a").unlink()
    before = sorted(shelf.root.rglob("*"))
    target = tmp_path / "out"
    steps = 0
    while killed_at(steps + 1, lambda: export(target, shelf.contents(), *nodes)):
        steps += 1
        if target.exists():
            assert json.loads((target / "export.json").read_text())["state"] == "done"
            assert {path.name for path in (target / "f").iterdir()} == {
                "a.txt", "a.txt.json", "b.txt", "b.txt.json",
            }  # fmt: skip
            for path in sorted(target.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            target.rmdir()
        remove_unfinished(target)
        assert sorted(shelf.root.rglob("*")) == before
    assert steps > 20
    assert (target / "f/a.txt").read_bytes() == shelf.files["a"]


@pytest.mark.parametrize("content", ["notes.txt", "export.json"])
def test_a_folder_that_no_export_left_is_not_removed(tmp_path: Path, content: str) -> None:
    other = tmp_path / "out.partial"
    other.mkdir()
    (other / content).write_text(json.dumps({"schema": 1, "state": "done", "folder": str(other)}))
    with pytest.raises(Refused, match="exists, and no export left it"):
        remove_unfinished(tmp_path / "out")
    assert (other / content).exists()
