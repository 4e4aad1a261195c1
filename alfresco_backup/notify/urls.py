"""Handing an alert to the services that ALERT_URLS names, by apprise, within a time limit.

The plugins of apprise are other people's code, and a thread that hangs in one cannot be ended. So they run in
a process of their own (`child`). An address contains what lets one write to it: it goes there by standard
input, and is called by its place in ALERT_URLS and its scheme everywhere else.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from alfresco_backup.errors import ToolFailed, ToolTimedOut
from alfresco_backup.notify.messages import MASK, SECRET_MINIMUM, Mail
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.system.processes import Command, run

START_SECONDS = 30.0
"""More than Python and apprise take to start on the slowest machine."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
PASSED_ON = frozenset((*PROXIES, *map(str.lower, PROXIES), *CERTIFICATES))
"""How the network is reached, from the environment or the `.env`."""


@dataclass(frozen=True)
class Answer:
    """What became of one address: `name` is what people may see of it, `error` empty where all went well."""

    name: str
    error: str


def tell_services(mail: Mail, settings: Settings, seconds: float, *, send: bool = True) -> list[Answer]:
    """Tell every service of ALERT_URLS, all at once; one answer for each, in their order.

    `send=False` only looks whether the addresses are known. Takes at most `seconds` from when apprise has
    started. Raises nothing of a service's.
    """
    urls = [url.get_secret_value() for url in settings.alert_urls]
    if not urls:
        return []
    answers: dict[int, str] = {}

    def take(line: str) -> None:
        answer = _answer(line)
        if answer:
            answers[answer[0]] = answer[1]

    command = Command(
        (sys.executable, "-m", "alfresco_backup.notify.child"),
        seconds + START_SECONDS,
        environment=network_variables(settings),
        directory=PROJECT_DIRECTORY,
    )
    asked = {"urls": urls, "title": mail.subject, "body": mail.body, "send": send, "seconds": seconds}
    missing = f"no answer within {seconds:g} s"
    try:
        run(command, on_line=take, input_text=json.dumps(asked))
    except ToolTimedOut:
        pass  # what has answered has answered
    except ToolFailed as error:
        missing = last_words(error)
    return [
        Answer(name_of(number, url), without_parts_of(urls, answers.get(number, missing)))
        for number, url in enumerate(urls)
    ]


def last_words(error: ToolFailed) -> str:
    """How the process ended that was to tell somebody, in a line; the rest of a traceback helps nobody."""
    last = error.tail.rpartition("\n")[2]
    return f"its process ended with exit code {error.returncode}: {last}"


def network_variables(settings: Settings) -> dict[str, str]:
    """The variables by which a program finds its way out."""
    given = {**settings.offsite_variables, **os.environ}
    return {name: value for name, value in given.items() if name in PASSED_ON and value}


def name_of(number: int, url: str) -> str:
    """An address without its secrets: `ALERT_URLS 2 (slack)`."""
    return f"ALERT_URLS {number + 1} ({url.partition('://')[0]})"


def without_parts_of(urls: Sequence[str], text: str) -> str:
    """A text without any part of the addresses, as written there and as a service sees it."""
    parts = {part for url in urls for part in re.split(r"[/:@?&=#,;]+", url.partition("://")[2])}
    for part in sorted({*urls, *parts, *map(unquote, parts)}, key=len, reverse=True):
        if len(part) >= SECRET_MINIMUM:
            text = text.replace(part, MASK)
    return text


def _answer(line: str) -> tuple[int, str] | None:
    """A line of the child's; None for anything else that a plugin may have printed."""
    try:
        document = json.loads(line)
        return int(document["number"]), str(document["error"])
    except (ValueError, KeyError, TypeError):
        return None
