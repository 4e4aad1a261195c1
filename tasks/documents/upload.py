"""Bringing documents back into the live repository: the plan is shown, and then done."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.documents.api import api_of
from alfresco_backup.documents.upload import UploadReport, UploadResult, make_plan, upload
from alfresco_backup.documents.upload_plan import UploadPlan, Wanted
from alfresco_backup.host.host import Host
from tasks.runs.history import publish_markdown, publish_table


@task(name="plan-upload", cache_policy=NO_CACHE, retries=0)
def plan_upload(host: Host, wanted: Sequence[Wanted], as_of: str) -> UploadPlan:
    """Ask the live repository about each document, and decide; the plan is an artifact. Changes nothing."""
    with api_of(host.settings) as api:
        plan = make_plan(api, wanted, as_of)
    publish_markdown(host.name, plan.text(), "upload-plan")
    get_run_logger().info(plan.summary())
    return plan


@task(name="upload", cache_policy=NO_CACHE, retries=0)
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
