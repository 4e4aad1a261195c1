"""Alerts about runs: failures, crashes, cancellations, time-outs, and the first success after them; signals.

Flows take them as `@flow(..., **HOOKS)`. Prefect runs the hooks of a killed or cancelled run in the worker,
so everything is looked up anew: settings from the `.env`, the run's past from Prefect, the last good backup
from the repository. A hook never raises and changes no state; what keeps an alert from being sent is logged.
"""

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypedDict

import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.flows import Flow, FlowStateHook
from prefect.logging.loggers import flow_run_logger
from prefect_email import EmailServerCredentials
from prefect_email.credentials import SMTPServer, SMTPType
from pydantic import SecretStr

from alfresco_backup.errors import BackupError, SettingsError
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.notify.deliver import deliver, why_nobody_is_told
from alfresco_backup.notify.messages import Mail, failure_mail, hold_mail, recovery_mail, success_mail
from alfresco_backup.notify.ping import KINDS, Signal, ping
from alfresco_backup.notify.smtp import MailServer, block_name, mail_server
from alfresco_backup.repository.layout import COMPONENTS, is_everything
from alfresco_backup.retention.holds import Hold, open_holds, read_holds
from alfresco_backup.settings.model import Settings
from alfresco_backup.status.metrics_file import write_metrics
from alfresco_backup.times import utc_now
from tasks.alerts.facts import (
    FREQUENT,
    alarmed_before,
    already_mailed,
    defaults_of,
    gather_facts,
    mark_mailed,
)
from tasks.runs.cancelling import RunCancelled, ended_itself, show_as_cancelled
from tasks.runs.fleet import publish_state
from tasks.runs.host_lock import SKIPPED
from tasks.runs.run_logs import show_known_errors_in_words

show_known_errors_in_words()  # every flow imports this file, however it is loaded

# The mail server as Prefect knows it: a prefect-email block without a password, beside the `.env` with it.
#
# The block makes the mail server visible and changeable in Prefect. Prefect keeps the key to its secrets in
# the same database as the secrets, so the password is not there: it is read from the host's `.env` whenever a
# mail is sent. It goes to the server that the `.env` names, and encrypted as the `.env` says, only: whoever
# may edit blocks could have it sent elsewhere. A block that says otherwise is used without login.


def credentials_without_password(settings: Settings) -> EmailServerCredentials:
    """The block that bootstrap stores."""
    return EmailServerCredentials(
        username=settings.smtp_user or None,
        smtp_server=settings.smtp_host,
        smtp_type=settings.smtp_type,
        smtp_port=settings.smtp_port,
    )


def load_mail_server(settings: Settings) -> MailServer:
    """The mail server by the host's block, or by the settings where there is none or no server to ask."""
    try:
        block = EmailServerCredentials.load(block_name(settings.alf_host_name))
    except (ValueError, ObjectNotFound, httpx.HTTPError):
        return mail_server(settings)
    assert isinstance(block, EmailServerCredentials)
    server, encryption = block.smtp_server, block.smtp_type
    assert isinstance(encryption, SMTPType)
    host = server.value if isinstance(server, SMTPServer) else server
    known = (host, encryption.name) == (settings.smtp_host, settings.smtp_type)
    return MailServer(
        host,
        block.smtp_port or encryption.value,
        encryption.name,
        (block.username or "") if known else "",
        settings.smtp_password if known else SecretStr(""),
        verify=block.verify is not False,
    )


Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]
Hook = FlowStateHook[..., Any]
RETRY_PAUSES = (5.0, 20.0, 0.0)
"""Seconds between the tries to send a mail; after the last try none."""


def mail_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell that the run failed, crashed, timed out or was cancelled."""
    _guarded(flow, flow_run, state, _failure)


def show_cancelled(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Show a run that stopped by itself because it was cancelled as cancelled, not as failed."""
    if not ended_itself(state):
        return
    try:
        show_as_cancelled(flow_run.id, RunCancelled().message)
    except httpx.HTTPError as error:
        flow_run_logger(flow_run, flow).warning("the run cannot be shown as cancelled: %r", error)


def mail_success(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell that the flow works again after a mail about its failure; with `both`, tell of any success."""
    if state.name != SKIPPED:
        _guarded(flow, flow_run, state, _success)


def ping_start(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Signal PING_URL that a run has begun."""
    _ping(flow, flow_run, state, "start")


def ping_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Signal PING_URL that the run failed, crashed, timed out or was cancelled."""
    _ping(flow, flow_run, state, "fail")


def ping_success(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Signal PING_URL that the run succeeded; one that was skipped has done nothing."""
    if state.name != SKIPPED:
        _ping(flow, flow_run, state, "success")


def announce(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Say in the run's log what it will do: its flow's first sentence, and what was asked otherwise."""
    purpose = (inspect.getdoc(flow.fn) or flow.name).split("\n\n")[0].partition(": ")[0]
    usual = defaults_of(flow)
    asked = [
        f"{name}={value}"
        for name, value in flow_run.parameters.items()
        if name == "mode" or value != usual.get(name)
    ]
    sentence = " ".join(purpose.split()).rstrip(".")
    flow_run_logger(flow_run, flow).info("%s: %s", flow.name, "; ".join([sentence, *asked]))


def write_run_metrics(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Write METRICS_FILE as things stand after the run."""
    logger = flow_run_logger(flow_run, flow)
    try:
        write_metrics(load_host().settings, utc_now())
    except (BackupError, OSError, ValueError) as error:
        logger.warning("METRICS_FILE was not written: %s", error)


def publish(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Publish the host's state for the fleet, however the run ended, unless it was skipped."""
    if state.name == SKIPPED or flow.name == "offsite-wal":  # of minutes ago; wal-audit tells it soon enough
        return
    logger = flow_run_logger(flow_run, flow)
    try:
        publish_state(load_host(), flow.name, flow_run.id)
    except (BackupError, OSError, ValueError, httpx.HTTPError, PrefectException) as error:
        logger.warning("the state of this host was not published: %s", error)


class Hooks(TypedDict):
    on_running: list[Hook]
    on_failure: list[Hook]
    on_crashed: list[Hook]
    on_cancellation: list[Hook]
    on_completion: list[Hook]


HOOKS: Hooks = {
    "on_running": [announce, ping_start],
    "on_failure": [show_cancelled, ping_failure, mail_failure, write_run_metrics, publish],
    "on_crashed": [ping_failure, mail_failure, write_run_metrics, publish],
    "on_cancellation": [ping_failure, mail_failure, write_run_metrics, publish],
    "on_completion": [ping_success, mail_success, write_run_metrics, publish],
}


def send_alert(alert: Mail, settings: Settings, logger: Logger) -> str:
    """Tell by every way of the settings, free of their secrets; who was told. Raises AlertNotSent.

    A mail server that is being restarted or is busy is tried again twice within half a minute. A way that
    fails is logged; only where all fail nobody was told.
    """
    delivery = deliver(alert, settings, load_mail_server(settings), RETRY_PAUSES)
    for failure in delivery.failed:
        logger.error("%s", failure)
    return "; ".join(delivery.told)


def _guarded(
    flow: Flow[..., Any],
    flow_run: FlowRun,
    state: State[Any],
    tell: Callable[[Host, FlowRun, State[Any], Flow[..., Any]], str],
) -> None:
    logger = flow_run_logger(flow_run, flow)
    try:
        host = load_host()
        untold = why_nobody_is_told(host.settings)
        if not untold and (told := tell(host, flow_run, state, flow)):
            logger.info(told)
        elif untold and not state.is_completed() and host.settings.email_alert_mode != "none":
            logger.warning(untold)
    except SettingsError as error:
        logger.error("no alert, because the settings cannot be read: %s", error)
    except Exception as error:  # noqa: BLE001 - whatever keeps an alert from being sent changes no run
        logger.error("no alert was sent about this run: %s", error)


def _ping(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any], signal: Signal) -> None:
    """Signal of a drill, an off-site copy or a backup of everything: others say nothing about a set."""
    kind = KINDS.get(flow.name)
    components = {**defaults_of(flow), **flow_run.parameters}.get("components", COMPONENTS)
    if kind is None or not is_everything(components):
        return
    logger = flow_run_logger(flow_run, flow)
    try:
        settings = load_host().settings
        if not settings.ping_url.get_secret_value():
            return
        message = "" if signal == "start" else state.message or ""
        if said := ping(settings, kind, signal, message):
            logger.warning("PING_URL did not take the signal %s of %s: %s", signal, kind, said)
    except Exception as error:  # noqa: BLE001 - whatever keeps a signal from being sent changes no run
        logger.warning("no signal %s of %s was sent: %s", signal, kind, error)


def _is_of(hold: Hold, flow_run: FlowRun) -> bool:
    """Whether this run found the reason: later runs on hold say nothing new."""
    return bool(hold.held_at and flow_run.start_time and hold.held_at >= flow_run.start_time)


def _failure(host: Host, flow_run: FlowRun, state: State[Any], flow: Flow[..., Any]) -> str:
    """Mail about a failure, unless a frequent run has failed the same way and was told of within hours."""
    if FREQUENT in flow_run.tags:
        told = already_mailed(host, flow_run, state, flow.name, defaults_of(flow))
        if told:
            return f"no mail: the same failure was mailed for {told}"
    alert = failure_mail(gather_facts(host, flow_run, state, flow.name))
    return f"{send_alert(alert, host.settings, flow_run_logger(flow_run, flow))}{mark_mailed(flow_run)}"


def _success(host: Host, flow_run: FlowRun, state: State[Any], flow: Flow[..., Any]) -> str:
    held = [hold for hold in open_holds(read_holds(host.repository), utc_now()) if _is_of(hold, flow_run)]
    if held:
        said = [(hold.said, hold.fix) for hold in held]
        alert = hold_mail(gather_facts(host, flow_run, state, flow.name), said)
    elif before := alarmed_before(host, flow_run, flow.name, defaults_of(flow)):
        alert = recovery_mail(gather_facts(host, flow_run, state, flow.name), before)
    elif host.settings.email_alert_mode == "both" and FREQUENT not in flow_run.tags:
        alert = success_mail(gather_facts(host, flow_run, state, flow.name))
    else:
        return ""
    return send_alert(alert, host.settings, flow_run_logger(flow_run, flow))
