"""Every call of the upload is accepted by Alfresco's own definition of its REST API, served by Prism.

Both are npm packages that nothing here ships. Where they are installed this runs, elsewhere it is skipped:

    npm install --ignore-scripts --prefix DIRECTORY alfresco-js-api@2.6.1 @stoplight/prism-cli@5
    ALFRESCO_API_PACKAGES=DIRECTORY .venv/bin/python -m pytest tests/documents/test_api_definition.py
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from pydantic import SecretStr

from alfresco_backup.documents.api import AlfrescoApi
from alfresco_backup.documents.nodes import Permission
from alfresco_backup.documents.upload import make_plan, upload
from alfresco_backup.documents.upload_plan import Wanted
from alfresco_backup.settings.commands import ALFRESCO_API
from tests.documents.test_upload import Backup
from tests.support.alfresco_api import PASSWORD, USER, FakeAlfresco, fake_alfresco

pytestmark = pytest.mark.slow
VARIABLE = "ALFRESCO_API_PACKAGES"
PACKAGES = Path(os.environ.get(VARIABLE) or "/var/cache/alfresco-backup/api-definition", "node_modules")
DEFINITION = PACKAGES / "alfresco-js-api/definitions/alfresco-core.yaml"
PRISM = PACKAGES / "@stoplight/prism-cli/dist/index.js"
CREATE = "/nodes/{nodeId}/children"


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    missing = [str(path) for path in (DEFINITION, PRISM) if not path.exists()]
    if missing or not shutil.which("node"):
        pytest.skip(f"node or {', '.join(missing)} is not installed; {VARIABLE} names their folder")
    found: dict[str, Any] = yaml.safe_load(DEFINITION.read_text())
    return cast(dict[str, Any], with_patterns_that_compile(found))


def with_patterns_that_compile(value: Any) -> Any:
    """The definition with its patterns as Prism can use them.

    It has needless escapes, as `\\:`, which Unicode expressions do not allow. A schema that does not compile
    is passed over by Prism 5.16 without a word: no body would be validated at all.
    """
    if isinstance(value, dict):
        return {
            key: re.sub(r'\\([">:<])', r"\1", item)
            if key == "pattern" and isinstance(item, str)
            else with_patterns_that_compile(item)
            for key, item in value.items()
        }
    return [with_patterns_that_compile(item) for item in value] if isinstance(value, list) else value


def form_fields(definition: dict[str, Any]) -> set[str]:
    """The fields of the form of `create a node`, which the definition has in words: `**name** field`."""
    text = definition["paths"][CREATE]["post"]["description"].partition("**Using JSON**")[0]
    fields = re.findall(r"\*\*(\w+)\*\*(?: boolean)?\s+field", text)
    fields += re.findall(r"Use \*\*(\w+)\*\* to overwrite", text)
    assert {"filedata", "name", "nodeType", "autoRename", "relativePath", "overwrite"} <= set(fields)
    return set(fields)


def as_form(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition with the form of `create a node` in the place of its JSON.

    Swagger 2 has either of them for a call. The definition has the JSON, lists the form among what the call
    consumes, and describes its fields in words.
    """
    call, fields = definition["paths"][CREATE]["post"], form_fields(definition)
    needed = definition["definitions"]["NodeBodyCreate"]["required"]
    form = [
        {
            "name": name,
            "in": "formData",
            "type": "string",  # Prism would take `file` for a schema that does not compile
            "required": name in needed,
        }
        for name in sorted(fields)
    ]
    others = [item for item in call["parameters"] if item.get("in") != "body"]
    others = [item for item in others if item.get("name") != "autoRename"]  # its name is twice, prism minds
    changed = {**call, "consumes": ["multipart/form-data"], "parameters": [*others, *form]}
    return {**definition, "paths": {**definition["paths"], CREATE: {"post": changed}}}


@contextmanager
def prism(definition: dict[str, Any], folder: Path, upstream: str) -> Iterator[str]:
    """A proxy that lets nothing pass which the definition does not allow, requests and answers alike."""
    folder.mkdir()
    file = folder / "definition.yaml"
    file.write_text(yaml.safe_dump(definition))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "prism.log"
    words = ("node", PRISM, "proxy", "--errors", "-p", str(port), file, f"{upstream}{ALFRESCO_API}")
    with log.open("wb") as stream:
        server = subprocess.Popen(words, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while "Prism is listening" not in log.read_text(errors="replace"):
            assert server.poll() is None and time.monotonic() < until, log.read_text(errors="replace")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait(60)


def restored(site: FakeAlfresco, folder: Path) -> list[Wanted]:
    """Documents to be brought back, one in each way."""
    backup = Backup(site, folder)
    own = Permission("GROUP_finance", "Consumer", allowed=True, inherited=False)
    kinds = {"cm:title": "Title", "cm:hits": 7, "cm:from": "2026-11-22T09:15:00+01:00", "exif:flash": False}
    new = site.add("Docs/Gone/new.txt", b"new" * 99, properties=dict(kinds), aspects={"cm:titled"})
    taken = site.add("Docs/taken.txt", b"taken" * 99)
    trash = site.add("Docs/trash.txt", b"trash")
    plain = site.add("Docs/plain.txt", b"plain")
    wanted = [
        backup.take(new, permissions=(own,), inherits_permissions=False),
        *(backup.take(node) for node in (taken, trash, plain)),
    ]
    site.purge(site.nodes[new.parent])
    site.purge(taken)
    site.add("Docs/taken.txt", b"other")
    site.delete(trash)
    plain.content = b"plain, changed"
    return wanted


def test_every_call_of_a_whole_upload_is_accepted(
    definition: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_alfresco() as site:
        wanted = restored(site, tmp_path)
        direct = site.address
        with (
            prism(definition, tmp_path / "json", direct) as address,
            prism(as_form(definition), tmp_path / "form", direct) as forms,
        ):
            seen: list[str] = []
            monkeypatch.setattr("alfresco_backup.documents.api.ALFRESCO_API", "")
            with AlfrescoApi(address, USER, SecretStr(PASSWORD), 60) as api:
                _send_forms_to(api, forms, seen)
                report = upload(api, make_plan(api, wanted, "2026-11-22T09:15:00+01:00"))
        assert report.whole, report.text()
        assert report.summary() == "4 of 4 documents are back, compared byte for byte."
        assert {
            "GET /nodes/-root-",
            "GET /nodes/{id}",
            "GET /deleted-nodes/{id}",
            "GET /nodes/{id}/content",
            "GET /nodes/{id}/versions",
            "GET /nodes/{id}/versions/1.0/content",
            "POST /deleted-nodes/{id}/restore",
            "POST /nodes/{id}/children",
            "POST /nodes/{id}/children, a form",
            "PUT /nodes/{id}",
            "PUT /nodes/{id}/content",
        } == set(seen)
        assert site.fields <= form_fields(definition)
        assert len(site.calls) == len(seen), "a call was answered by Prism and not by what is behind it"


def _send_forms_to(api: AlfrescoApi, address: str, seen: list[str]) -> None:
    """Note each call of a client, and have its forms validated by the definition that has the form."""

    def note(request: httpx.Request) -> None:
        form = request.headers.get("Content-Type", "").startswith("multipart/form-data")
        call = re.sub(r"/[0-9a-f-]{36}", "/{id}", f"{request.method} {request.url.path}")
        seen.append(f"{call}, a form" if form else call)
        if form:
            request.url = httpx.URL(f"{address}{request.url.raw_path.decode()}")

    api._client.event_hooks["request"].append(note)


def test_what_the_definition_does_not_allow_is_refused_by_it(
    definition: dict[str, Any], tmp_path: Path
) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/nodes/-root-/children", {"json": {"name": "without a type"}}),
        ("POST", "/nodes/-root-/children", {"json": {"name": "a/b", "nodeType": "cm:folder"}}),
        ("POST", "/nodes/-root-/children", {"data": {"name": "a"}, "files": {"filedata": b"a"}}),
        ("PUT", "/nodes/1", {"json": {"permissions": {"locallySet": [{"accessStatus": "PERHAPS"}]}}}),
        # Alfresco takes a list of values (NodesImpl.java); its definition does not say so.
        ("PUT", "/nodes/1", {"json": {"properties": {"cm:several": ["a", "b"]}}}),
        ("GET", "/nodes/-root-/no-such-call", {}),
    ]
    with (
        fake_alfresco() as site,
        prism(as_form(definition), tmp_path / "form", site.address) as forms,
        prism(definition, tmp_path / "json", site.address) as address,
    ):
        for method, path, given in calls:
            place = forms if "files" in given else address
            answer = httpx.request(method, f"{place}{path}", auth=(USER, PASSWORD), timeout=60, **given)
            assert answer.status_code in (404, 422), (given, answer.text)
        assert site.calls == []
