"""Signals to a monitoring service that raises an alarm where none comes: Healthchecks and its like.

PING_URL is the beginning of the addresses, as https://hc-ping.com/PING-KEY. Behind it stand the host and the
kind of the run, and `/start` or `/fail`: https://hc-ping.com/PING-KEY/alf1-backup/start. Source: "Pinging
API" in the documentation of Healthchecks.
"""

import json
import re
import sys
from typing import Literal

from alfresco_backup.errors import ToolFailed, ToolTimedOut
from alfresco_backup.notify.messages import Mail, scrub, sentence_of
from alfresco_backup.notify.smtp import secrets_of
from alfresco_backup.notify.urls import START_SECONDS, last_words, network_variables, without_parts_of
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.system.processes import Command, run

KINDS = {"backup": "backup", "restore-drill": "drill", "offsite-copy": "offsite"}
"""What the addresses call the runs of a flow."""
PING_SECONDS = 5.0
Signal = Literal["start", "success", "fail", "log"]


def ping(settings: Settings, kind: str, signal: Signal, message: str = "") -> str:
    """Send a signal with the first line of a message. Returns why that failed, empty for success.

    Takes no longer than PING_SECONDS once a process has started. Raises nothing.
    """
    url = ping_address(settings, kind, signal)
    first = sentence_of(message).partition("\n")[0]
    body = scrub(Mail("", first), secrets_of(settings)).body
    command = Command(
        (sys.executable, "-m", "alfresco_backup.notify.ping_child"),
        PING_SECONDS + START_SECONDS,
        environment=network_variables(settings),
        directory=PROJECT_DIRECTORY,
    )
    asked = json.dumps({"url": url, "body": body, "seconds": PING_SECONDS})
    try:
        said = run(command, keep_output=True, input_text=asked).output
    except ToolTimedOut:
        said = f"no answer within {PING_SECONDS:g} s"
    except ToolFailed as error:
        said = last_words(error)
    return without_parts_of([url], said.strip().partition("\n")[0])


def ping_name(settings: Settings, kind: str) -> str:
    """What a kind of run is called at the monitoring service: `alf1-backup`."""
    return f"{re.sub(r'[^a-z0-9]+', '-', settings.alf_host_name.lower())}-{kind}"


def ping_address(settings: Settings, kind: str, signal: Signal) -> str:
    """Where a signal goes. What stands behind a question mark in PING_URL stays at the end: `?create=1`."""
    base, mark, query = settings.ping_url.get_secret_value().partition("?")
    end = "" if signal == "success" else f"/{signal}"
    return f"{base.rstrip('/')}/{ping_name(settings, kind)}{end}{mark}{query}"
