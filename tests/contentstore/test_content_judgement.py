"""How the content check judges URLs and rows: tables."""

import pytest

from alfresco_backup.contentstore.check import (
    ContentRow,
    FoundFile,
    Problem,
    judge,
    place_of,
    places_in_words,
    protocol_of,
    relative_path,
)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("store://2024/12/11/2/20/4e309e94.bin", "2024/12/11/2/20/4e309e94.bin"),
        ("store://volume7/2024/1/1/0/0/a.bin", "volume7/2024/1/1/0/0/a.bin"),
        ("store://2024/1/1/0/0/3/a.bin", "2024/1/1/0/0/3/a.bin"),
        ("store:///etc/passwd", "etc/passwd"),
        ("store://2024//1/a.bin", "2024/1/a.bin"),
        ("store://2024/./1/a.bin", "2024/1/a.bin"),
        ("store://2024/x/../1/a.bin", "2024/1/a.bin"),
        ("store://2024/a..b.bin", "2024/a..b.bin"),
        ("store://../keystore/keystore", None),
        ("store:///../keystore", None),
        ("store://2024/../../keystore", None),
        ("store://..", None),
        ("store://.", None),
        ("store://2024/..", None),
        ("store://", None),
    ],
)
def test_a_url_leads_to_a_path_inside_its_store_or_to_none(url: str, path: str | None) -> None:
    assert relative_path(url) == path


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("store://2024/1/1/0/0/a.bin", "store"),
        ("spoof://{seed=1}", "spoof"),
        ("s3v2://bucket/a://b", "s3v2"),
        ("empty", "empty"),
        ("", "empty"),
        ("garbage", "(no protocol)"),
        ("Store://2024/a.bin", "Store"),
    ],
)
def test_urls_are_grouped_by_protocol(url: str, protocol: str) -> None:
    assert protocol_of(url) == protocol


HERE = FoundFile("contentstore", 7)
ELSEWHERE = FoundFile("archive", 10)
BROKEN = FoundFile("contentstore", -1, "Input/output error")


@pytest.mark.parametrize(
    ("size", "encrypted", "path", "found", "expected"),
    [
        pytest.param(7, False, "a", [HERE], None, id="size as recorded"),
        pytest.param(7, False, "a", [], (Problem.MISSING, ""), id="no file"),
        pytest.param(8, False, "a", [HERE], (Problem.WRONG_SIZE, "7"), id="cut short"),
        pytest.param(10, False, "a", [HERE, ELSEWHERE], None, id="whole in another store"),
        pytest.param(9, False, "a", [HERE, ELSEWHERE], (Problem.WRONG_SIZE, "7"), id="wrong in both"),
        pytest.param(7, False, "a", [BROKEN], (Problem.MISSING, "Input/output error"), id="unreadable"),
        pytest.param(10, False, "a", [BROKEN, ELSEWHERE], None, id="unreadable, whole in another store"),
        pytest.param(3, True, "a", [HERE], None, id="encrypted: only there or not"),
        pytest.param(3, True, "a", [], (Problem.MISSING, ""), id="encrypted and gone"),
        pytest.param(
            3, True, "a", [BROKEN], (Problem.MISSING, "Input/output error"), id="encrypted, unreadable"
        ),
        pytest.param(0, False, "a", [FoundFile("contentstore", 0)], None, id="empty document"),
        pytest.param(0, False, "a", [HERE], (Problem.SIZE_NOT_RECORDED, "7"), id="size never recorded"),
        pytest.param(0, False, "a", [], (Problem.MISSING, ""), id="size never recorded and gone"),
        pytest.param(7, False, None, [], (Problem.OUTSIDE_STORE, ""), id="leads out of the store"),
    ],
)
def test_a_row_is_judged_by_the_files_found(
    size: int, encrypted: bool, path: str | None, found: list[FoundFile], expected: tuple[Problem, str] | None
) -> None:
    finding = judge(ContentRow("1", "store://a", size, encrypted), path, found)
    assert (finding and (finding.problem, finding.on_disk)) == expected


def test_a_size_that_was_never_recorded_alone_is_no_loss() -> None:
    assert {problem for problem in Problem if not problem.is_loss} == {Problem.SIZE_NOT_RECORDED}


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3v2://bucket/a/b.bin", "s3v2://bucket/"),
        ("s3v2://b3a1.bin", "s3v2://"),
        ("azure:///x.bin", "azure://"),
        ("Store://2024/a.bin", "Store://2024/"),
        ("garbage", "(no protocol)"),
    ],
)
def test_a_url_that_is_not_checked_is_counted_by_protocol_and_first_folder(url: str, place: str) -> None:
    assert place_of(url) == place


def test_the_places_with_most_documents_are_named() -> None:
    places = {"a://": 1, "b://": 4, "c://": 3, "d://": 2, "e://": 1}
    assert places_in_words(places) == "4 in b://, 3 in c://, 2 in d://, 2 in 2 other places"
