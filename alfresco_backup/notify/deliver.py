"""Telling people by every way that is set up: mail, and the services of ALERT_URLS.

A way that fails stops no other. Nothing is promised of what happens behind the server that took the alert.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from alfresco_backup.notify.messages import Mail, scrub
from alfresco_backup.notify.smtp import (
    AlertNotSent,
    MailServer,
    secrets_of,
    send,
    sender_of,
    wants_mail,
    why_no_mail,
)
from alfresco_backup.notify.urls import tell_services
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.settings.model import Settings

ONCE = (0.0,)


@dataclass(frozen=True)
class Delivery:
    """Which ways took an alert, in words, and which did not, with the reason."""

    told: tuple[str, ...]
    failed: tuple[str, ...]


def why_nobody_is_told(settings: Settings) -> str:
    """The setting for which no alert is sent, as a sentence; empty where anybody is told."""
    return "" if settings.alert_urls else why_no_mail(settings)


def deliver(alert: Mail, settings: Settings, server: MailServer, pauses: Sequence[float] = ONCE) -> Delivery:
    """Tell by every way, free of the secrets of the settings. Raises AlertNotSent where none worked.

    A mail server that is being restarted or is busy is tried again after each of the `pauses`, in seconds,
    but the last. SMTP_TIMEOUT_SECONDS limits each step at the mail server, and all services together.
    """
    clean = scrub(alert, secrets_of(settings))
    told, failed = [], []
    last: AlertNotSent | None = None
    for answer in tell_services(clean, settings, settings.smtp_timeout_seconds):
        if answer.error:
            failed.append(f"{answer.name} did not take the alert: {answer.error}")
        else:
            told.append(f"alert sent by {answer.name}")
    if wants_mail(settings):
        try:
            _send_mail(clean, settings, server, pauses)
            told.insert(0, f"mail sent to {', '.join(settings.alert_email)}")
        except AlertNotSent as error:
            last = error
            failed.insert(0, error.message)
    if failed and not told:
        hint = last.hint if last else f"check ALERT_URLS in {env_file_path()}"
        raise AlertNotSent("; ".join(failed), hint)
    return Delivery(tuple(told), tuple(failed))


def _send_mail(clean: Mail, settings: Settings, server: MailServer, pauses: Sequence[float]) -> None:
    for pause in pauses:
        try:
            send(clean, server, sender_of(settings), settings.alert_email, settings.smtp_timeout_seconds)
            return
        except AlertNotSent as error:
            if not (error.passing and pause):
                raise
        time.sleep(pause)
