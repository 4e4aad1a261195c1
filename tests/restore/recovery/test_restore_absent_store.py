"""A restore of the database alone needs the documents' store to be there: it is checked at the end."""

import pytest

from alfresco_backup.errors import Refused
from alfresco_backup.settings.model import ENV_FILE_VARIABLE
from flows.backup import backup
from flows.restore_postgres import restore_postgres
from tests.support.common import temporary_demo_host


@pytest.mark.slow
def test_a_restore_of_the_database_is_refused_before_it_begins_where_the_store_is_gone(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_demo_host(documents=20) as host:
        monkeypatch.setenv(ENV_FILE_VARIABLE, str(host.env_file))
        backup()
        store = host.layout.contentstore
        away = store.rename(store.with_name("not mounted"))
        before = host.read_state()
        with pytest.raises(Refused, match="contentstore does not exist, and this restore does not") as told:
            restore_postgres(mode="execute", confirm="demo", start_alfresco=False)
        assert told.value.hint.startswith(f"mount {store}")
        assert host.read_state().difference(before) == []
        away.rename(store)
