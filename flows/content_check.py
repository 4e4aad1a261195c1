"""Flow `content-check`."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.alerts.hooks import HOOKS
from tasks.restore.content_check import check_documents
from tasks.runs.history import finished, run_name
from tasks.runs.identity import load_own_host


@flow(name="content-check", flow_run_name=run_name, **HOOKS)
def content_check() -> State[str]:
    """Check that every document of the running database has its file, with its size.

    Reads the database and looks at every file of the content stores; changes nothing, so it may run at any
    time, beside Alfresco and beside a backup. It fails when documents are missing, and then lists them with
    their nodes in a table artifact and, completely, in a CSV file in the repository's logs. Contents are not
    read: a file that was changed at the same size is not seen.
    """
    result = check_documents(load_own_host())
    result.require_complete()
    return finished(result.sentence(), result.sentence())
