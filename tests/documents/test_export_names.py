"""A document keeps its name in an export; what no file can be called gets another, and that is listed."""

import unicodedata

import pytest

from alfresco_backup.documents.export_records import LONGEST, Names, beside, safe_name
from alfresco_backup.documents.nodes import ContentFile, Node, Version
from demo.library import ODD_NAMES

CONTENT = ContentFile("store://2026/1/2/3/4/a.bin", 1)


def document(path: str, number: int = 1, name: str = "") -> Node:
    name = name or path.rpartition("/")[2]
    return Node(number, f"uuid-{number}", name, path, "cm:content", content=CONTENT)


def folder(path: str, number: int = 1) -> Node:
    return Node(number, f"uuid-{number}", path.rpartition("/")[2], path, "cm:folder", is_folder=True)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("budget.xlsx", "budget.xlsx"),
        ("", "_"),
        (".", "_"),
        ("..", "__"),
        ("a/b", "a_b"),
        ("a\0b", "a_b"),
        ("line\nbreak\x85\u2028.txt", "line_break__.txt"),
        ("gpj\u202eexe.txt", "gpj_exe.txt"),
        ("dots...", "dots___"),
        ("space ", "space_"),
        (" leading", " leading"),
        (".hidden", ".hidden"),
        ("-rf", "-rf"),
        ("half \udce4.txt", "half _.txt"),
        ("n" * 300 + ".txt", "n" * 251 + ".txt"),
        ("\u00e9" * 200 + ".pdf", "\u00e9" * 125 + ".pdf"),
        ("x" * 250 + "." * 20, "x" * 250 + "_" * 5),
    ],
)
def test_a_name_that_no_file_can_have_is_made_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert safe_name(safe) == safe


def test_the_odd_names_of_a_library_stay_unless_they_cannot() -> None:
    changed = {name for name in ODD_NAMES if safe_name(name) != name}
    assert changed == {
        name
        for name in ODD_NAMES
        if len(name.encode()) > LONGEST or any(unicodedata.category(one) in {"Cc", "Zl"} for one in name)
    }
    assert changed


def test_names_that_differ_by_capitals_or_form_only_are_told_apart_and_listed() -> None:
    names = Names()
    placed = [
        names.place(document(f"/f/{name}", number)).path
        for number, name in enumerate(["A.txt", "a.txt", "\u00dc.txt", "U\u0308.txt", "a/.txt", "a\n.txt"])
    ]
    assert len({unicodedata.normalize("NFC", path).casefold() for path in placed}) == len(placed)
    assert ("/f/a.txt", "f/a (2).txt") in names.changed
    assert "/f/A.txt" not in dict(names.changed)


def test_a_document_called_as_the_json_of_another_gets_another_name() -> None:
    names = Names()
    first = names.place(document("/f/plan.xlsx", 1))
    second = names.place(document("/f/plan.xlsx.json", 2))
    third = names.place(document("/f/plan.xlsx.versions", 3))
    used = [path for one in (first, second, third) for path in (one.path, one.description, one.versions)]
    assert first.path == "f/plan.xlsx" and first.description == "f/plan.xlsx.json"
    assert len(set(used)) == len(used)


def test_what_the_manifest_is_called_no_document_is_called() -> None:
    names = Names()
    placed = [
        names.place(document(f"/{name}")).path for name in ("export.json", "SHA1SUMS", "documents.jsonl")
    ]
    assert placed == ["export (2).json", "SHA1SUMS (2)", "documents (2).jsonl"]


def test_a_name_with_a_slash_is_one_name() -> None:
    assert Names().place(document("/f/and/or.txt", name="and/or.txt")).path == "f/and_or.txt"


def test_a_folder_and_what_is_in_it_go_to_one_place_whatever_its_name() -> None:
    names = Names()
    inside = names.place(document("/f/../x.txt", 2))
    outside = names.place(folder("/f/..", 1))
    assert (outside.path, inside.path) == ("f/__", "f/__/x.txt")
    assert names.changed == [("/f/..", "f/__")]
    assert names.place(folder("/f/..", 3)).description != outside.description


def test_a_long_name_keeps_its_ending_when_it_is_numbered_or_described() -> None:
    name = "n" * 251 + ".txt"
    names = Names()
    first, second = names.place(document(f"/{name}", 1)), names.place(document(f"/{name}", 2))
    assert (first.name, second.name) == (name, "n" * 238 + " (2).txt")
    assert all(
        len(part.encode()) <= LONGEST for part in (first.description, first.versions, second.description)
    )
    assert beside(name, ".json") == "n" * 250 + ".json"


def test_a_thousand_documents_of_one_name_are_a_thousand_files() -> None:
    names = Names()
    assert len({names.place(document("/f/same.txt", number)).path for number in range(1000)}) == 1000


def test_versions_are_called_by_their_labels() -> None:
    names = Names()
    placed = names.place(document("/f/plan.xlsx"))
    labels = ("1.0", "1.0", "", "../2")
    versions = [Version(label, number, "", "", None, CONTENT) for number, label in enumerate(labels)]
    assert [names.place_version(placed, version) for version in versions] == [
        "1.0 plan.xlsx",
        "1.0 plan (2).xlsx",
        "2 plan.xlsx",
        ".._2 plan.xlsx",
    ]
