"""The end of a restore: check, compare, make Solr rebuild, start Alfresco, report."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from alfresco_backup.contentstore.check import ContentCheckResult
from alfresco_backup.errors import AlfrescoNotStarted, BackupError, BackupUnsound
from alfresco_backup.host.service_control import require_down, start_command, start_service
from alfresco_backup.restore.journal.journal_record import RestoreState, read_journal
from alfresco_backup.restore.planning.plan import Step
from alfresco_backup.restore.recovery.configuration import ConfigurationDifference, compare_with_set
from alfresco_backup.restore.recovery.indexes import replace_index
from alfresco_backup.restore.recovery.report import (
    REPORT,
    REPORT_TEXT,
    RestoreReport,
    report_document,
    restore_markdown,
)
from alfresco_backup.restore.recovery.restoration import Restoration, asked_for
from alfresco_backup.settings.commands import accept_command
from alfresco_backup.system.files import write_json, write_text
from alfresco_backup.times import utc_now
from tasks.restore.content import StoreRestored
from tasks.restore.content_check import check_documents
from tasks.restore.database import Extracted
from tasks.restore.opening import database_to_check
from tasks.restore.recovery import Reached
from tasks.runs.history import publish_markdown

FINDINGS = "content-check.csv"


@dataclass(frozen=True)
class Checked:
    """The outcome of the content check: a result, or the error that made it fail."""

    result: ContentCheckResult | None
    error: BackupError | None

    def require_complete(self) -> None:
        """Raise what the check found: DocumentsMissing, or the error."""
        if self.error is not None:
            raise self.error
        if self.result is not None:
            self.result.require_complete()


@dataclass(frozen=True)
class Started:
    """The outcome of starting Alfresco: why it did not start; None when it did, or was not to."""

    error: BackupError | None

    def require_up(self, restoration: Restoration) -> None:
        """Raise AlfrescoNotStarted unless it started, or was not to."""
        if self.error is None:
            return
        hints = (
            self.error.hint,
            f"{restoration.undo}  # or undo the restore",
        )
        raise AlfrescoNotStarted(
            f"restore {restoration.plan.restore_id} is complete and its data is in place, but Alfresco did "
            f"not start: {self.error.message}",
            "\n".join(filter(None, hints)),
        )


@dataclass(frozen=True)
class Restored:
    """The results of the steps of a restore, for its report. None and empty: it had no such step."""

    checked: Checked
    started: Started
    content: Sequence[StoreRestored] = ()
    reached: Reached | None = None
    extracted: Extracted | None = None
    configuration: ConfigurationDifference | None = None


def check_content(restoration: Restoration) -> Checked:
    """Check every document of the restored database against the stores. Findings are in Checked.

    A check that fails must not leave the host partly restored; the flow fails at its very end. Access to a
    restored database is still restricted.
    """
    if not restoration.plans(Step.CHECK_CONTENT):
        return Checked(None, None)
    database = database_to_check(restoration)
    try:
        with restoration.noted(Step.CHECK_CONTENT):
            findings = restoration.folder / FINDINGS
            return Checked(check_documents(restoration.host, findings, database), None)
    except BackupError as error:
        return Checked(None, error)


@task(name="compare-configuration", task_run_name="compare configuration", cache_policy=NO_CACHE, retries=0)
def compare_configuration(restoration: Restoration) -> ConfigurationDifference | None:
    """Name what differs from the set's configuration, the keystore first; copy what is missing."""
    if not restoration.plans(Step.COMPARE_CONFIGURATION):
        return None
    with restoration.step(Step.COMPARE_CONFIGURATION):
        difference = compare_with_set(restoration)
    for sentence in difference.sentences():
        get_run_logger().warning(sentence)
    return difference


@task(name="set-aside-indexes", task_run_name="set search indexes aside", cache_policy=NO_CACHE, retries=0)
def set_aside_indexes(restoration: Restoration) -> None:
    """Set Solr's indexes aside, which know of transactions that are gone; put the set's copies back."""
    if not restoration.plans(Step.SET_ASIDE_INDEXES):
        return
    with restoration.step(Step.SET_ASIDE_INDEXES):
        require_down(restoration.host, "alfresco")
        for index in restoration.plan.indexes:
            found = replace_index(restoration, index)
            tell = get_run_logger().info if found.level == "ok" else get_run_logger().warning
            tell("%s", found.with_hint)


@task(name="start-alfresco", task_run_name="start Alfresco", cache_policy=NO_CACHE, retries=0)
def start_up_alfresco(restoration: Restoration) -> Started:
    """The restore is complete; start Alfresco if the plan says so and wait for its process and port.

    Does not raise why it did not start: see Started. The report, and documents that are missing, come first:
    without some of its own documents Alfresco refuses to start.
    """
    accept = accept_command(restoration.plan.restore_id, restoration.plan.host)
    restoration.journal.state(RestoreState.COMPLETED, f"{accept}  # all is in place")
    if not restoration.plans(Step.START_ALFRESCO):
        return Started(None)
    try:
        with restoration.noted(Step.START_ALFRESCO):
            start_service(restoration.host, "alfresco", restoration.log)
    except BackupError as error:
        get_run_logger().error("Alfresco did not start: %s", error)
        return Started(error)
    get_run_logger().info("Alfresco has started")
    return Started(None)


@task(name="report-restore", task_run_name="report of the restore", cache_policy=NO_CACHE, retries=0)
def report_restore(restoration: Restoration, done: Restored) -> tuple[str, str]:
    """Publish the report and keep it beside the journal, as text and JSON; returns its gist and its text.

    The restore is complete by then. Raises DocumentsMissing when some are, or why the check failed; else
    AlfrescoNotStarted when it did not start; else BackupUnsound where it had to do without stored files.
    """
    notes = [
        *(done.extracted.warnings if done.extracted else ()),
        *(done.configuration.sentences() if done.configuration else ()),
    ]
    if not restoration.plans(Step.START_ALFRESCO):
        command = start_command(restoration.host, "alfresco")
        notes.append(f"Alfresco was not started, as requested; to start it: `{command}`")
    result = done.checked.result
    report = RestoreReport(
        plan=restoration.plan,
        record=read_journal(restoration.journal.path),
        asked=asked_for(restoration.plan),
        reached=done.reached.sentence() if done.reached else "",
        content=tuple(store.sentence() for store in done.content),
        documents=result.sentence() if result else "",
        missing=result.lost if result else 0,
        findings=result.csv if result else None,
        problem=done.checked.error.message if done.checked.error else "",
        notes=tuple(notes),
        finished_at=utc_now(),
        content_bytes=sum(store.bytes for store in done.content),
        content_compared=sum(store.compared for store in done.content),
        content_damaged=sum(len(store.damaged) for store in done.content),
        documents_checked=result.checked if result else 0,
        documents_not_checked=result.elsewhere if result else {},
        not_started=done.started.error.message if done.started.error else "",
    )
    text = restore_markdown(report)
    write_text(restoration.folder / REPORT_TEXT, text)
    write_json(restoration.folder / REPORT, report_document(report))
    told = f"{text}\nRaw output of the tools: `{restoration.log}`\n"
    publish_markdown(restoration.host.name, told, "restore-report")
    get_run_logger().info("restore %s is complete; to undo it: %s", report.plan.restore_id, report.undo)
    require_whole(restoration, done)
    return _last_words(report), text


def require_whole(restoration: Restoration, done: Restored) -> None:
    """Raise what is wrong with the restored host, the documents first; see report_restore."""
    try:
        done.checked.require_complete()
    except BackupError as error:
        for store in done.content:
            error.message += f"; {store.sentence()}" if store.damaged else ""
        if done.started.error is not None:
            error.message += (
                f"; Alfresco did not start, possibly because of that: {done.started.error.message}"
            )
            error.hint = "\n".join(filter(None, (error.hint, done.started.error.hint)))
        raise
    done.started.require_up(restoration)
    require_undamaged(restoration, done.content)


def require_undamaged(restoration: Restoration, content: Sequence[StoreRestored]) -> None:
    """Raise BackupUnsound where stored files were damaged, and no other copy and nothing in place was right.

    The host is restored by then.
    """
    left = [store for store in content if store.left]
    if left:
        count = sum(store.left for store in left)
        files = "1 stored file differs" if count == 1 else f"{count:,} stored files differ"
        raise BackupUnsound(
            f"restore {restoration.plan.restore_id} is complete, but {files} from the recorded checksums; "
            "what differs was not used, and there is no other copy: "
            f"{'; '.join(store.sentence() for store in left)}",
            "\n".join(f"less {shlex.quote(str(store.damaged_list))}" for store in left),
        )


def _last_words(report: RestoreReport) -> str:
    """The sentence in the list of runs."""
    parts = [part for part in (report.reached, report.documents) if part]
    return f"restore {report.plan.restore_id} complete: {'; '.join(parts)}"
