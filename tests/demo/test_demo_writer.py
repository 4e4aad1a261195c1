"""The writer's memory is what the recovery tests trust: it must agree with the database at any moment."""

from datetime import UTC, datetime, timedelta

import pytest

from demo.host import DemoHost
from demo.session import SessionEndedError
from demo.state import Change, State
from tests.support.common import wait_until


def test_the_database_holds_what_the_writer_remembers_after_each_commit(shared_demo_host: DemoHost) -> None:
    writer = shared_demo_host.writer
    for step in (writer.add, writer.update, writer.delete, writer.add, writer.purge, writer.one):
        commit = step()
        assert commit is not None
        state = writer.state_at(commit.committed_at)
        assert state.difference(shared_demo_host.read_state()) == []
        assert shared_demo_host.missing_documents(state) == []


def test_a_moment_between_two_commits_has_the_first_and_not_the_second(shared_demo_host: DemoHost) -> None:
    writer = shared_demo_host.writer
    first, second = writer.add(), writer.add()
    assert first.committed_at < second.committed_at
    between = writer.state_at(second.committed_at - timedelta(microseconds=1))
    urls = {document.url for document in between.live_documents()}
    assert first.documents[0].url in urls
    assert second.documents[0].url not in urls
    assert second.documents[0].url in {d.url for d in writer.state_at(second.committed_at).live_documents()}


def test_commit_times_are_those_of_the_server(shared_demo_host: DemoHost) -> None:
    commit = shared_demo_host.writer.add()
    if not shared_demo_host.cluster.knows("track_commit_timestamp"):  # 9.4: between two looks at its clock
        assert commit.earliest < commit.committed_at
        return
    query = f"SELECT extract(epoch FROM pg_xact_commit_timestamp('{commit.transaction}'))"
    ((epoch,),) = shared_demo_host.cluster.sql(query)
    assert commit.committed_at.timestamp() == pytest.approx(float(epoch), abs=2e-6)


def test_a_file_is_whole_before_its_rows_are_committed(shared_demo_host: DemoHost) -> None:
    commit = shared_demo_host.writer.add(size=5000)
    path = shared_demo_host.layout.contentstore / commit.documents[0].path
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    assert path.stat().st_size == 5000
    assert written < commit.committed_at


def test_a_deletion_orphans_and_only_the_purge_removes_the_file(shared_demo_host: DemoHost) -> None:
    writer = shared_demo_host.writer
    while writer.purge(1000):
        pass
    before = {document.url for document in writer.state.live_documents()}
    while before == {document.url for document in writer.state.live_documents()}:
        writer.delete()  # a node whose content another node shares orphans nothing
    (gone,) = [
        document for document in writer.state.documents() if document.url in before - urls(writer.state)
    ]
    path = shared_demo_host.layout.contentstore / gone.path
    assert path.exists()
    neighbours = [other for other in path.parent.iterdir() if other != path]
    purged = writer.purge()
    assert purged is not None
    assert purged.documents == (gone,)
    assert not path.exists()
    assert path.parent.exists() == bool(neighbours), "a minute goes with its last file, and not before"
    assert (shared_demo_host.layout.deleted_contentstore / gone.path).read_bytes() == gone.content()


def urls(state: State) -> set[str]:
    return {document.url for document in state.live_documents()}


def test_the_writer_works_in_the_background_and_says_when_its_server_goes(demo_host: DemoHost) -> None:
    writer = demo_host.writer
    writer.start(per_second=100)
    wait_until(lambda: len(writer.commits) >= 20, "the writer has committed 20 times")
    writer.stop()
    assert writer.state.difference(demo_host.read_state()) == []
    writer.start(per_second=100)
    demo_host.cluster.stop("immediate")
    with pytest.raises(SessionEndedError):
        writer.close()


def test_a_rewound_writer_forgets_what_came_after(demo_host: DemoHost) -> None:
    writer = demo_host.writer
    first, second = writer.add(), writer.add()
    writer.rewind(first.committed_at)
    assert writer.commits == [first]
    assert second.documents[0].url not in urls(writer.state)


def test_states_that_differ_in_one_row_are_told_apart() -> None:
    row = {"id": 1, "version": 0, "content_url_id": 7, "content_mimetype_id": 1}
    one, other = State(), State()
    one.apply([Change("alf_content_data", (1,), row)])
    other.apply([Change("alf_content_data", (1,), {**row, "content_url_id": 8})])
    assert one.difference(other) == [
        "alf_content_data ('1',): ('1', '0', '7', '1') here, ('1', '0', '8', '1') there"
    ]
