"""Flows `find-document` and `restore-document`."""

from datetime import datetime
from typing import Annotated, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import BeforeValidator, Field

from alfresco_backup.cli.documents import parse_as_of
from alfresco_backup.cli.forms import TEXT, TIME, Confirm, PlanOrExecute, form_field, typed_time
from alfresco_backup.documents.criteria import (
    LIMIT,
    Criteria,
    RestoreOrder,
    require_sensible,
    require_sensible_order,
)
from alfresco_backup.documents.export_records import Exported
from alfresco_backup.documents.results import Findings, Now
from alfresco_backup.documents.scratch import searching
from alfresco_backup.documents.upload import Uploaded
from alfresco_backup.restore.planning.request import LATEST
from alfresco_backup.settings.commands import upload_documents_command
from tasks.alerts.hooks import HOOKS
from tasks.backup.begin import begin_run
from tasks.documents.find import (
    compare_with_live,
    locate,
    require_live,
    search_for_missing,
    search_live,
    search_recovered,
)
from tasks.documents.restore import documents_as_of, export_documents, prepare_export
from tasks.documents.scratch import recovered
from tasks.documents.upload import bring_back, require_api
from tasks.runs.history import run_name
from tasks.runs.identity import load_own_host


def typed_as_of(value: object) -> object:
    """A form gives a time and a backup ID alike as text."""
    return parse_as_of(value, local=True) if isinstance(value, str) else typed_time(value)


AsOf = Annotated[
    datetime | str,
    BeforeValidator(typed_as_of),
    TEXT,
    form_field("As of", f"`latest`: now; {TIME}; or the ID of a backup"),
]
Time = Annotated[datetime | None, BeforeValidator(typed_time), TEXT]


@flow(name="find-document", flow_run_name=run_name, retries=0, **HOOKS)
def find_document(  # noqa: PLR0913, PLR0917 - the fields of a form
    as_of: AsOf = LATEST,
    name: Annotated[str, form_field("Name", "`*` any letters, `?` one; capitals do not matter")] = "",
    path: Annotated[str, form_field("Path", "of a document, or of a folder with all below it")] = "",
    site: Annotated[str, form_field("Site", "short name of a site")] = "",
    node: Annotated[list[str], form_field("Node ids", "as an earlier search lists them")] = [],  # noqa: B006 - Prefect copies it
    creator: Annotated[str, form_field("Creator", "user name")] = "",
    modifier: Annotated[str, form_field("Modifier", "user name")] = "",
    changed_since: Annotated[Time, form_field("Changed since", TIME, default="")] = None,
    deleted_since: Annotated[
        Time, form_field("Deleted since", f"{TIME}; of what is in the trashcan now", default="")
    ] = None,
    missing: Annotated[
        bool,
        form_field("Missing", "as of a time: only what is gone, changed or moved in the live database since"),
    ] = False,
    limit: Annotated[int, Field(ge=1), form_field("Limit")] = LIMIT,
) -> State[Findings]:
    """Find documents and folders as they were at a time: what somebody deleted, overwrote or moved.

    As of `latest` the live database and its trashcan are asked. For another time the database is recovered
    beside the live host, isolated and read only, and kept for DOCUMENTS_SCRATCH_HOURS: a further search of
    the same time takes seconds. The table tells where the content is: in the live store, in a snapshot, in
    the off-site copy, or nowhere. The live host is not changed.
    """
    asked = Criteria(
        tuple(node), name, path, site, creator, modifier, changed_since, deleted_since, missing, limit
    )
    require_sensible(asked, as_of)
    host = load_own_host()
    with searching(host):
        run, catalogue = begin_run(host, "find-document", only_reads=True)
        if asked.missing:
            require_live(host)
        live = search_live(host, asked) if as_of == LATEST else None
        if live:
            found, words = live, "now"
            now: list[Now] = ["as then"] * len(found.nodes)
        else:
            with recovered(run, as_of) as (copy, words):
                if asked.missing:
                    found, now = search_for_missing(host, copy, asked)
                else:
                    found = search_recovered(copy, asked, with_trashcan=as_of == LATEST)
            if not asked.missing:
                now = compare_with_live(host, found.nodes)
        findings = locate(run, catalogue, asked, words, found, now)
    return Completed(message=findings.sentence, data=findings)


@flow(name="restore-document", flow_run_name=run_name, retries=0, **HOOKS)
def restore_document(  # noqa: PLR0913, PLR0917 - the fields of a form
    node: Annotated[list[str], form_field("Node ids", "a folder's: with all below it")],
    as_of: AsOf = LATEST,
    to: Annotated[str, form_field("To", "a new folder; empty: one in BACKUP_DIR/exports")] = "",
    versions: Annotated[bool, form_field("Versions", "earlier versions, too")] = False,
    limit: Annotated[int, Field(ge=1), form_field("Limit")] = LIMIT,
    action: Annotated[
        Literal["export", "upload"],
        form_field("Action", "export: into a folder, at once; upload: into Alfresco"),
    ] = "export",
    mode: PlanOrExecute = "plan",
    confirm: Confirm = "",
) -> State[Exported] | State[Uploaded]:
    """Export documents as they were at a time into a new folder, each with a JSON that describes it.

    Node ids are those that `find-document` lists; more documents than the limit are refused with their
    number. Each file is compared with the checksum that was recorded when it was backed up, if there is one;
    a damaged copy is not taken. What this host has no sound copy of comes from the off-site copy. Nothing
    is overwritten, and the live host is not changed.

    `upload` brings them back into Alfresco through its REST API: out of the trashcan where they are in it, as
    a new version where they live with other content, else as new documents in their old folders, which are
    made again where they are gone. Nothing there is overwritten; the plan tells what does not come back. To
    execute, `confirm` must be the host's name. The export stays where `to` names it, or not all is back.
    """
    order = RestoreOrder(tuple(node), versions, limit)
    require_sensible_order(order)
    host = load_own_host()
    if action == "upload":
        require_api(host, mode, confirm)
    with searching(host):
        run, catalogue = begin_run(host, "restore-document", only_reads=True)
        target = prepare_export(run, to)
        with documents_as_of(run, order, as_of) as wanted:
            exported = export_documents(run, catalogue, order, wanted, target)
            details = tuple(wanted.details()) if action == "upload" else ()
        if action == "export":
            return Completed(message=exported.sentence, data=exported)
        asked = upload_documents_command(order.nodes, str(as_of), limit, host.name)
        uploaded = bring_back(
            host, exported, details, command=asked, execute=mode == "execute", keep=bool(to)
        )
    return Completed(message=uploaded.sentence, data=uploaded)
