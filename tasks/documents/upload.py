"""Bringing documents back into the live repository: the plan is shown, and then done."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.documents.api import ROOT, api_of
from alfresco_backup.documents.export_records import Exported
from alfresco_backup.documents.nodes import NodeDetails
from alfresco_backup.documents.upload import (
    Uploaded,
    UploadReport,
    UploadResult,
    make_plan,
    read_wanted,
    require_whole,
    upload,
)
from alfresco_backup.documents.upload_plan import UploadPlan, Wanted
from alfresco_backup.host.host import Host
from alfresco_backup.restore.planning.request import RunMode, require_confirmed
from alfresco_backup.system.folders import remove_tree
from tasks.runs.history import publish_markdown, publish_table


@task(name="ask-alfresco", task_run_name="ask Alfresco", cache_policy=NO_CACHE, retries=0)
def require_api(host: Host, mode: RunMode, confirm: str) -> None:
    """Refuse what cannot be carried out before anything is recovered: no confirmation, no API, no login."""
    if mode == "execute":
        require_confirmed("an upload", confirm, host.name)
    with api_of(host.settings) as api:
        api.node(ROOT)


@task(name="plan-upload", task_run_name="plan of the upload", cache_policy=NO_CACHE, retries=0)
def plan_upload(host: Host, wanted: Sequence[Wanted], as_of: str) -> UploadPlan:
    """Ask the live repository about each document, and decide; the plan is an artifact. Changes nothing."""
    with api_of(host.settings) as api:
        plan = make_plan(api, wanted, as_of)
    publish_markdown(host.name, plan.text(), "upload-plan")
    get_run_logger().info(plan.summary())
    return plan


@task(name="upload", task_run_name="upload into Alfresco", cache_policy=NO_CACHE, retries=0)
def upload_documents(host: Host, plan: UploadPlan) -> UploadReport:
    """Do what the plan says; each document is logged when it is done, and a row of the table `upload`."""
    logger = get_run_logger()

    def tell(result: UploadResult) -> None:
        logger.info("%s: %s. %s", result.step.path, result.outcome, result.said)

    with api_of(host.settings) as api:
        report = upload(api, plan, tell)
    publish_table(host.name, report.rows(), "upload", report.summary())
    logger.info(report.summary())
    return report


def bring_back(
    host: Host, exported: Exported, details: Sequence[NodeDetails], *, command: str, execute: bool, keep: bool
) -> Uploaded:
    """Plan the upload of what was exported, and do it where that was asked for.

    Raises DocumentsMissing or BackupError where not all is back. The exported files stay where `keep` says
    so, and once the upload has begun, unless all is back with all that belongs to it.
    """
    folder, report = str(exported.folder), None
    needed = keep
    try:
        plan = plan_upload(host, read_wanted(exported.folder, details, exported.identity), exported.as_of)
        if execute:
            needed = True
            report = upload_documents(host, plan)
            require_whole(report, exported.not_found, folder)
            needed = keep or report.lacks
    finally:
        if not needed:
            remove_tree(exported.folder)
        elif execute and not (report and report.whole):
            get_run_logger().info("the exported files stay in %s", folder)
    return Uploaded(plan, report, command, folder if needed else "", exported.not_found)
