"""What a PostgreSQL server reads outside its data directory is found by reading as it reads."""

import os
from pathlib import Path

from alfresco_backup.host.server_files import find_server_files
from alfresco_backup.system.accounts import Account


def test_what_pg_hba_and_pg_ident_include_is_found_to_any_depth(tmp_path: Path) -> None:
    data, etc = tmp_path / "data", tmp_path / "etc"
    (etc / "hba.d").mkdir(parents=True)
    data.mkdir()
    (data / "postgresql.conf").write_text(f"ident_file = '{etc}/ident.conf'\n")
    (data / "pg_hba.conf").write_text(
        f"# local @{etc}/commented all md5\n"
        f"local one,@{etc}/databases  @users  md5\n"
        "include ../etc/more.conf\n"
        f"include_if_exists {etc}/absent.conf\ninclude {etc}/gone.conf\ninclude_dir {etc}/hba.d\n"
    )
    texts = {
        "databases": f"@{etc}/deeper",
        "deeper": "alfresco",
        "more.conf": "include more.conf",
        "hba.d/a.conf": f"host all @{etc}/lost 127.0.0.1/32 md5",
        "ident.conf": f"include {etc}/idents",
        "idents": "m a b",
    }
    for name, text in texts.items():
        (etc / name).write_text(f"{text}\n")
    (data / "users").write_text("alfresco\n")
    found = find_server_files(data, Account(os.geteuid(), os.getegid()), None)
    assert {str(path.relative_to(etc)) for path in found.files} == texts.keys()
    assert [path.name for path, _ in found.missing] == ["gone.conf"]
    assert [path.name for path, _ in found.unread] == ["lost"]
