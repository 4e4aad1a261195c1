"""The same queries on the tables that Alfresco's own scripts make.

ALFRESCO_CREATE_SCRIPTS names a folder with Alfresco's AlfrescoCreate-*.sql for PostgreSQL, of any release
from 4.2: in its sources below `.../dbscripts/create/org.alfresco.repo.domain.dialect.PostgreSQLDialect/`
(until 5.2 `org.hibernate.dialect.PostgreSQLDialect`). The scripts are Alfresco's, not part of this project.
"""

import os
import re
from pathlib import Path

import pytest

from demo.cluster import default_bindir
from tests.support.common import temporary_cluster
from tests.support.libraries import check_details, check_searches, furnish, make_library

VARIABLE = "ALFRESCO_CREATE_SCRIPTS"
FIRST = ("RepoTables", "LockTables", "ContentTables", "PropertyValueTables")
"""db-schema-context.xml; the others need only these."""


def scripts_in(folder: Path, into: Path) -> list[Path]:
    """Alfresco's scripts in its order, as psql takes them."""
    names = [
        path.stem.removeprefix("AlfrescoCreate-") for path in sorted(folder.glob("AlfrescoCreate-*.sql"))
    ]
    assert {"RepoTables", "ContentTables"} <= {*names}, f"{folder} has no create scripts of Alfresco"
    made = []
    for name in (*FIRST, *(name for name in names if name not in FIRST)):
        text = (folder / f"AlfrescoCreate-{name}.sql").read_text(encoding="utf-8-sig")
        text = re.sub(r"^DROP TABLE .*optional.*$", "", text, flags=re.MULTILINE)  # of what an upgrade left
        made.append(into / f"{name}.sql")
        made[-1].write_text(text.replace("${TRUE}", "TRUE"), encoding="utf-8")
    return made


@pytest.mark.slow
@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} is unset: no create scripts")
def test_alfrescos_own_tables_hold_the_same_queries(tmp_path: Path) -> None:
    scripts = scripts_in(Path(os.environ[VARIABLE]), tmp_path)
    with temporary_cluster(default_bindir()) as cluster:
        library = make_library(cluster, tmp_path / "store", scripts)
        try:
            furnish(library)
            check_details(library)
            check_searches(library)
        finally:
            library.close()
