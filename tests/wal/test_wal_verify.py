"""Archived WAL that real servers wrote is read to its last byte, whatever was damaged in it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import zstandard

from alfresco_backup.errors import NotVerified
from alfresco_backup.postgres.programs import Programs
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.postgres.wal_files import Lsn, Segment
from alfresco_backup.postgres.wal_records import open_segment
from alfresco_backup.times import utc_now
from alfresco_backup.wal import verify
from alfresco_backup.wal.audit import WalAudit, audit
from alfresco_backup.wal.contents import ArchiveContents, read_contents, read_index, write_index
from alfresco_backup.wal.verify import Verifier, verify_again, verify_new
from demo.cluster import Cluster, available_bindirs, default_bindir, stated_version
from demo.places import server_account
from tests.support.common import reachable_directory, wait_until
from tests.support.damaged_wal import PAGE, covered_offset, flipped, flipped_inside, stored_as, zeros_from
from tests.support.planting import as_root
from tests.support.wal_commands import own_directory
from tests.support.wal_files import WELL, base_backup

pytestmark = pytest.mark.slow  # real servers write the WAL
MIB = 1 << 20
SIZE = 16 * MIB


def servers() -> list[Path]:
    """15, the newest before 13 and the newest of all, as far as they are here."""
    found = {stated_version(path) // 10000: path for path in available_bindirs()}
    wanted = [15, max([major for major in found if major < 13], default=15), max(found)]
    return [found[major] for major in dict.fromkeys(wanted) if major in found]


@dataclass(frozen=True)
class Written:
    """An archive of a few segments that a server wrote, and who can dump them."""

    archive: Path
    bindir: Path

    def find_program(self, name: str, version: int) -> Programs:
        """The server's own pg_waldump; npm's servers have none."""
        assert facts_of(stated_version(self.bindir)).major == version
        if (self.bindir / name).exists():
            return Programs(self.bindir, version)
        raise NotVerified(f"there is no {name} here")

    @property
    def can_dump(self) -> bool:
        return (self.bindir / "pg_waldump").exists()

    def verified(self, archive: Path) -> ArchiveContents:
        return verify_new(read_contents(archive), self.find_program)


@pytest.fixture(scope="module", params=servers(), ids=lambda path: str(stated_version(path) // 10000))
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    """Two full segments with a record from one to the next, then one that was switched early."""
    with reachable_directory() as root, ExitStack() as stack:
        archive = own_directory(root / "archive")
        cluster = Cluster(request.param, own_directory(root / "c") / "data", durable=False).create()
        stack.callback(cluster.destroy)
        level = cluster.facts.recommended_wal_level
        command = f'cp "%p" "{archive}/%f"'
        cluster.configure(wal_level=level, archive_mode="on", archive_command=command, autovacuum="off")
        cluster.start()
        cluster.sql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 250000) i")
        name = cluster.switch_segment()
        question = f"SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver"
        wait_until(lambda: cluster.sql(question) == [("t",)], f"{name} is archived")
        cluster.stop()
        for path in archive.iterdir():
            if len(path.name) != 24:
                path.unlink()
        yield Written(archive, request.param)


@pytest.fixture
def archive(written: Written, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written.archive, tmp_path / "archive"))


def names(archive: Path) -> list[str]:
    return sorted(path.name for path in archive.iterdir())


def test_what_the_server_wrote_is_sound_and_where_no_program_checks_records_that_is_said(
    written: Written, archive: Path
) -> None:
    looks = written.verified(archive).looks
    assert len(looks) >= 2
    assert [look.defect for look in looks.values()] == [""] * len(looks)
    if written.can_dump:
        assert all(look.verified_at and not look.unverified for look in looks.values())
    else:
        assert {look.unverified for look in looks.values()} == {"there is no pg_waldump here"}
        assert not any(look.verified_at for look in looks.values())


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "zst"])
@pytest.mark.parametrize("damage", ["zeros", "page of another place", "header of a record", "record"])
def test_damage_behind_the_first_page_is_found(
    written: Written, archive: Path, damage: str, compressed: bool
) -> None:
    if damage == "record" and not written.can_dump:
        pytest.skip("no pg_waldump of this version here")
    path = archive / names(archive)[0]
    content = path.read_bytes()
    with open_segment(path) as records:
        record = int(records.last_records_end().at) % SIZE
    half = SIZE // 2
    changed = {
        "zeros": zeros_from(content, 40 * PAGE),
        "page of another place": content[:half] + content[:PAGE] + content[half + PAGE :],
        "header of a record": flipped(content, record),  # its length: it would go on in the next segment
        "record": flipped(content, covered_offset(content, half, half + PAGE)),
    }[damage]
    if damage == "header of a record" and len(names(archive)) < 2:
        pytest.skip("no record between two segments")
    if compressed:
        path.unlink()
        path = path.with_name(f"{path.name}.zst")
    path.write_bytes(stored_as(path, changed))
    looks = written.verified(archive).looks
    damaged = {name: look.words for name, look in looks.items() if look.defect == "damaged"}
    assert damaged, [look.unverified for look in looks.values()]
    assert all(looks[name].verified_at for name in damaged)


def test_a_flipped_byte_in_a_compressed_segment_is_found(written: Written, archive: Path) -> None:
    path = archive / names(archive)[1]
    stored = zstandard.ZstdCompressor(write_checksum=True).compress(path.read_bytes())
    path.unlink()
    path = path.with_name(f"{path.name}.zst")
    path.write_bytes(flipped_inside(stored))
    looks = written.verified(archive).looks
    assert [name for name, look in looks.items() if look.defect and look.verified_at] == [path.name]


@pytest.mark.parametrize("side", ["end of the first", "beginning of the second"])
def test_the_record_between_two_segments_is_compared_with_its_checksum(
    written: Written, archive: Path, side: str
) -> None:
    first, second = names(archive)[:2]
    with open_segment(archive / first) as records:
        end = records.last_records_end()
    assert end.kind == "crossing"
    place = (first, SIZE - 1) if side == "end of the first" else (second, 40)
    path = archive / place[0]
    path.write_bytes(flipped(path.read_bytes(), place[1]))
    looks = written.verified(archive).looks
    if looks[first].defect:  # it was the beginning of the record's header, which is looked at by itself
        return
    assert looks[second].words == f"incorrect checksum in the record at {end.at} (which begins in {first})"


@as_root
def test_a_program_of_another_account_reads_what_is_in_a_closed_folder_for_temporary_files(
    written: Written, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's unit has such a TMPDIR: only root may enter it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(closed))
    monkeypatch.setattr(verify, "owner_of_program", lambda _: server_account())
    looks = written.verified(archive).looks
    assert written.can_dump == all(look.verified_at and not look.unverified for look in looks.values())


def test_a_program_that_crashes_has_found_nothing(written: Written, archive: Path, tmp_path: Path) -> None:
    bindir = tmp_path / "bin"
    bindir.mkdir()
    (bindir / "pg_waldump").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (bindir / "pg_waldump").chmod(0o755)
    crashing = replace(written, bindir=written.bindir)
    looks = verify_new(read_contents(archive), lambda _name, version: Programs(bindir, version)).looks
    assert {look.defect for look in looks.values()} == {""}
    assert all("was killed by signal 11" in look.unverified for look in looks.values())
    assert written.can_dump == all(look.verified_at for look in crashing.verified(archive).looks.values())


def test_what_was_verified_is_remembered_and_only_what_is_new_is_read(
    written: Written, archive: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index.json"
    first = written.verified(archive)
    write_index(index, first)
    known = read_index(index, archive)
    assert known is not None
    again = read_contents(archive, known)
    moments = [look.verified_at and int(look.verified_at.timestamp()) for look in first.looks.values()]
    assert moments == [
        look.verified_at and int(look.verified_at.timestamp()) for look in again.looks.values()
    ]
    asked: list[str] = []

    def find(name: str, version: int) -> Programs:
        asked.append(name)
        return written.find_program(name, version)

    after = verify_new(again, find)
    assert after.looks == again.looks  # where the program is still missing nothing is read either
    assert (asked == []) == written.can_dump
    path = archive / names(archive)[0]
    path.write_bytes(zeros_from(path.read_bytes(), 20 * PAGE + 4))
    changed = verify_new(read_contents(archive, known), written.find_program)
    assert [name for name, look in changed.looks.items() if look.defect] == [path.name]


@pytest.mark.parametrize("just_now", [0, -1])
def test_a_part_of_all_segments_is_verified_again_those_of_longest_ago_first(
    written: Written, archive: Path, just_now: int
) -> None:
    contents = written.verified(archive)
    old = utc_now().replace(year=2001)
    looks = {name: replace(look, verified_at=old, unverified="") for name, look in contents.looks.items()}
    recent = sorted(looks)[just_now]
    others = sorted(looks.keys() - {recent})
    looks[recent] = replace(looks[recent], verified_at=utc_now())
    seen: list[tuple[int, int]] = []
    after = verify_again(
        replace(contents, looks=looks), written.find_program, len(looks), lambda *done: seen.append(done)
    )
    changed = [name for name, look in after.looks.items() if look is not looks[name]]
    assert (changed, seen) == ([others[0]], [(1, 1)])


@pytest.fixture(scope="module")
def usual() -> Iterator[Written]:
    """The archive of the default server, whose programs are complete."""
    yield from written.__wrapped__(_Request(default_bindir()))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Request:
    param: Path


def audited(archive: Path, contents: ArchiveContents, kept: frozenset[str] = frozenset()) -> WalAudit:
    first = names(archive)[0].removesuffix(".zst")
    number = int(first[8:16], 16) * 256 + int(first[16:], 16)
    start = Lsn(number * SIZE)
    owner = next(look.header.system_identifier for look in contents.looks.values() if look.header)
    (archive / "system-identifier").write_text(owner)
    base = base_backup(
        start + 40, start + 4000, stopped_at=utc_now().replace(year=2020), segment_size=SIZE, owner=owner
    )
    server = replace(WELL, system_identifier=owner, kept=kept, wal_directory="/srv/data/pg_wal")
    contents = replace(contents, owner=owner)
    return audit(contents, [base], server, utc_now())


@pytest.mark.parametrize("which", [1, -1], ids=["in the middle", "the newest"])
def test_a_damaged_segment_is_a_gap_and_the_audit_never_says_no_gaps(
    usual: Written, tmp_path: Path, which: int
) -> None:
    archive = Path(shutil.copytree(usual.archive, tmp_path / "archive"))
    name = names(archive)[which]
    path = archive / name
    good = audited(archive, usual.verified(archive))
    count = len(names(archive)) - 1
    assert good.summary.endswith("(no gaps)") and good.verification.verified == count
    (archive / "system-identifier").unlink()
    path.write_bytes(zeros_from(path.read_bytes(), PAGE + 100))
    bad = audited(archive, usual.verified(archive), frozenset({name}))
    assert "no gaps" not in bad.summary
    (gap,) = bad.gaps
    assert (gap.first, gap.last, gap.damaged) == (name, name, 1)
    assert f"{name} damaged: nothing from" in gap.sentence
    (finding,) = (item for item in bad.findings if item.subject == "WAL gap")
    move, archive_again = finding.fix.splitlines()
    assert move == f"mkdir -p {archive}-moved && cd {archive} && mv -n -- {name} {archive}-moved/"
    assert f"/srv/data/pg_wal/{name} {name} {archive}" in archive_again
    words = next(item.sentence for item in bad.findings if item.subject == "verified WAL")
    assert words.startswith(f"{count - 1} of {count} segments verified") and words.endswith("; 1 damaged")
    segment = Segment(1, int(name[8:16], 16) * 256 + int(name[16:], 16))
    assert bad.wal.time_of(segment) is None and segment in bad.wal.damaged


def test_segments_that_could_not_be_verified_are_neither_good_nor_damaged(
    usual: Written, tmp_path: Path
) -> None:
    archive = Path(shutil.copytree(usual.archive, tmp_path / "archive"))

    def missing(name: str, version: int) -> Programs:
        raise NotVerified(f"there is no {name} of PostgreSQL {version // 10000} on this host; found: none")

    count = len(names(archive))
    result = audited(archive, verify_new(read_contents(archive), missing))
    (finding,) = (item for item in result.findings if item.subject == "verified WAL")
    assert finding.level == "unknown"
    major = stated_version(usual.bindir) // 10000
    assert finding.sentence == (
        f"0 of {count} segments verified; {count} could not be verified: there is no pg_waldump of "
        f"PostgreSQL {major} on this host; found: none"
    )
    assert finding.fix.startswith(f"apt install postgresql-{major}\n")
    assert result.gaps == () and result.summary.endswith("(no gaps)")


def test_the_verifier_leaves_nothing_uncompressed_behind(
    usual: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_open_place", lambda: str(tmp_path))
    contents = read_contents(usual.archive)
    verifier = Verifier(contents, partial(usual.find_program))
    assert all(verifier.look(name).verified_at for name in contents.looks)
    assert list(tmp_path.iterdir()) == []
