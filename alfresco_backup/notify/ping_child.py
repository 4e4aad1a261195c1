"""One signal to a monitoring service, in a process of its own, which can be killed.

Standard input is one JSON document: `url`, `body` and `seconds`. What went wrong is printed, nothing for
success. It may contain parts of the address: whoever started this removes them.
"""

import json
import os
import sys
import threading
from typing import Any

import httpx


def post(url: str, body: str, seconds: float) -> str:
    """Post a text. Returns why that failed, empty for success."""
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=1), timeout=seconds) as client:
            answer = client.post(url, content=body.encode(), follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return str(error) or type(error).__name__
    if not answer.is_success:
        return f"it answered {answer.status_code}"
    return answer.text if "not found" in answer.text[:100] else ""  # Healthchecks says so with 200


def main() -> None:
    """Post what was asked for, and end when the time is over, whatever hangs: a name server, for instance."""
    asked: dict[str, Any] = json.load(sys.stdin)
    said = [f"no answer within {asked['seconds']:g} s"]

    def work() -> None:
        said[0] = post(asked["url"], asked["body"], asked["seconds"])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(asked["seconds"])
    sys.stdout.write(said[0])
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
