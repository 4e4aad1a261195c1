"""The page of `status --html`: one file, escaped, with charts; what it never overwrites."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import pytest

from alfresco_backup.__main__ import main
from alfresco_backup.findings import error
from alfresco_backup.status.as_html import status_page
from alfresco_backup.status.as_json import status_document
from alfresco_backup.status.assess import read_status
from alfresco_backup.status.report import StatusReport
from alfresco_backup.status.web_page import Point, bar_chart
from alfresco_backup.times import utc_now
from tests.support.repository_on_disk import DiskRepository
from tests.support.restorable_repositories import env_of, restorable_repository

VOID = {"meta", "br", "path"}
EVIL = "<img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """What a page is made of; raises for a tag that is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> DiskRepository:
    return restorable_repository(tmp_path_factory.mktemp("page") / "backup", utc_now(), ("2d", "1d", "3h"))


@pytest.fixture(scope="module")
def report(disk: DiskRepository) -> StatusReport:
    return read_status(disk.settings(alf_host_name="demo"), disk.now)


def test_the_page_shows_what_the_json_has_and_loads_nothing(report):
    page = Page(status_page(report))
    document = status_document(report)
    assert document["headline"] in page.words and "Backups of demo" in page.words
    assert all(item["backup_id"] in page.words for item in document["sets"])
    assert {"img", "script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.tags)
    assert not [
        name for _, attributes in page.tags for name in attributes if name in ("src", "href", "onload")
    ]
    assert {"name": "viewport", "content": "width=device-width,initial-scale=1"} in page.all("meta")
    assert "prefers-color-scheme:dark" in status_page(report)


def test_every_chart_says_in_words_what_it_shows_and_the_table_has_headers(report):
    page = Page(status_page(report))
    said = [item["aria-label"] or "" for item in page.all("svg")]
    assert [words.partition(":")[0] for words in said] == [
        "Set size",
        "Duration of a complete set",
        "Repository growth",
    ]
    assert all("3 of 3 are known" in words for words in said)
    assert len(page.all("rect")) == 9
    assert {item["scope"] for item in page.all("th")} == {"col", "row"}


def test_everything_that_comes_from_outside_is_escaped(report):
    found = error(EVIL, EVIL, EVIL)
    page = Page(status_page(replace(report, host=EVIL, headline=EVIL, root=Path(EVIL), problems=(found,))))
    assert not page.all("img") and page.words.count(EVIL) >= 5
    assert Page(bar_chart(EVIL, [Point(EVIL, 1.0, EVIL)])).all("svg")[0]["aria-label"].startswith(EVIL)


def test_a_size_that_is_not_known_leaves_a_hole_and_a_clock_that_went_back_no_negative_bar():
    chart = bar_chart("Size", [Point("a", None, "unknown"), Point("b", 0.0, "0 B"), Point("c", 5.0, "5 B")])
    page = Page(chart)
    assert len(page.all("rect")) == 2 and "2 of 3 are known" in page.all("svg")[0]["aria-label"]
    assert all(float(item["height"] or 0) > 0 for item in page.all("rect"))
    assert Page(bar_chart("Size", [])).words == "Size: not known yet"


@pytest.fixture
def own_environment() -> Iterator[None]:
    """The program names its `.env` to all that it starts; the tests after it are not meant."""
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.usefixtures("own_environment")
def test_the_verb_writes_the_page_beside_its_json_and_over_an_older_page(disk, tmp_path, capsys):
    env, page = env_of(disk.repository.root, tmp_path), tmp_path / "page.html"
    for _ in range(2):
        assert main(["status", "--json", "--html", str(page), "--env", str(env)]) == 0
        assert json.loads(capsys.readouterr().out)["host"] == "demo"
        assert "Backups of demo" in Page(page.read_text()).words
    assert main(["status", "--env", str(env), "--html"]) == 0
    assert Page(capsys.readouterr().out).all("svg")


@pytest.mark.usefixtures("own_environment")
def test_a_file_that_is_no_page_is_never_overwritten(disk, tmp_path, capsys):
    env = env_of(disk.repository.root, tmp_path)
    before = env.read_text()
    assert main(["status", "--html", str(env), "--env", str(env)]) == 3
    assert env.read_text() == before
    assert f"{env} exists and is not a page written by this program" in capsys.readouterr().err
    assert main(["status", "--html", str(tmp_path / "none/page.html"), "--env", str(env)]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["status", "--json", "--html", "--env", str(env)]) == 2


def test_a_repository_without_a_set_has_a_page_too(tmp_path):
    disk = DiskRepository(tmp_path / "backup", utc_now() - timedelta(seconds=1))
    page = Page(status_page(read_status(disk.settings(alf_host_name="demo"), disk.now)))
    assert "Set size: not known yet" in page.words and not page.all("svg")
