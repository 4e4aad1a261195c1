"""What is said to services of other people, in a process of its own, which can be killed.

Standard input is one JSON document: `urls`, `title`, `body`, `send` (false: only look whether the addresses
are known) and `seconds`. For each address that has answered a line of JSON is printed: its `number` and the
`error`, empty for none. What has not answered in time gets no line. An error may contain parts of an address:
whoever started this removes them.
"""

import json
import logging
import os
import queue
import sys
import threading
import time
from typing import Any

from apprise import Apprise, AppriseAsset, NotifyFormat, OverflowMode

UNKNOWN = "apprise knows no such service, or the address lacks something that the service needs"


class _Reasons(logging.Handler):
    """What apprise logs of a failure, by the thread it happened in: its functions only answer False."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: dict[int | None, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.said[record.thread] = record.getMessage()


def tell(url: str, title: str, body: str, *, send: bool, reasons: _Reasons) -> str:
    """Hand a text to the service of an address. Returns why that failed, empty for success."""
    asset = AppriseAsset(async_mode=False)  # in this thread
    service = Apprise.instantiate(url, asset=asset)
    if service is None:
        return UNKNOWN
    if not send:
        return ""
    if "overflow=" not in url.lower():  # else a service refuses what is longer than it takes
        service.overflow_mode = OverflowMode.TRUNCATE
    services = Apprise(asset=asset)
    services.add(service)
    try:
        if services.notify(title=title, body=body, body_format=NotifyFormat.TEXT):
            return ""
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the others are told all the same
        return type(error).__name__
    return reasons.said.get(threading.get_ident(), "the service did not take it")


def main() -> None:
    """Tell all services at once, and end when all have answered or the time is over."""
    asked: dict[str, Any] = json.load(sys.stdin)
    deadline = time.monotonic() + asked["seconds"]
    reasons = _Reasons()
    logger = logging.getLogger("apprise")
    logger.addHandler(reasons)
    logger.propagate = False
    answers: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def work(number: int, url: str) -> None:
        told = tell(url, asked["title"], asked["body"], send=asked["send"], reasons=reasons)
        answers.put((number, told))

    for number, url in enumerate(asked["urls"]):
        threading.Thread(target=work, args=(number, url), daemon=True).start()
    for _ in asked["urls"]:
        try:
            number, error = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        sys.stdout.write(json.dumps({"number": number, "error": error}) + "\n")
        sys.stdout.flush()
    os._exit(0)  # without waiting for a service that hangs


if __name__ == "__main__":
    main()
