"""The pages for developers name files that exist, and every folder of the code is in the tour."""

import re
from pathlib import Path

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY

PAGES = sorted((PROJECT_DIRECTORY / "docs/develop").glob("*.md"))
ROOTS = ("", "alfresco_backup", "alfresco_backup/restore")
NAMED = re.compile(r"`((?:[\w.]+/)+[\w.]*)`")
PACKAGES = ("alfresco_backup", "tasks")
LARGEST_FOLDER = 16


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    places = {name: [PROJECT_DIRECTORY / root / name for root in ROOTS] for name in named}
    assert [name for name, paths in places.items() if not any(path.exists() for path in paths)] == []


def test_every_folder_of_the_code_has_its_line_in_the_tour() -> None:
    tour = (PROJECT_DIRECTORY / "docs/develop/tour.md").read_text()
    folders = [
        folder.parent.relative_to(PROJECT_DIRECTORY / package).as_posix()
        for package in PACKAGES
        for folder in (PROJECT_DIRECTORY / package).rglob("__init__.py")
    ]
    assert [name for name in folders if name not in {".", "restore"} and f"  {name}/" not in tour] == []


def test_folders_are_small_enough_to_be_looked_over() -> None:
    loose = list((PROJECT_DIRECTORY / "alfresco_backup").glob("*.py"))
    assert len(loose) <= 6
    folders = [PROJECT_DIRECTORY / "flows"]
    for package in PACKAGES:
        folders += [path.parent for path in (PROJECT_DIRECTORY / package).rglob("__init__.py")]
    large = {str(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in large.items() if count > LARGEST_FOLDER + 1} == {}


def test_a_package_says_what_it_is_and_has_no_code() -> None:
    folders = [PROJECT_DIRECTORY / package for package in (*PACKAGES, "flows")]
    for path in [path for folder in folders for path in folder.rglob("__init__.py")]:
        text = path.read_text()
        assert re.fullmatch(r'""".+?"""\n', text, re.DOTALL), f"{path}: one docstring and no code"
