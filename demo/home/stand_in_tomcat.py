"""Stands in for Tomcat with Alfresco: the boot guard, a port that answers, a process with a pid file.

Like Alfresco it refuses to start when the system descriptor's content file is missing. That is one file:
a clean start proves nothing about the others. Uses only the standard library; the folder of the home is
its one argument.
"""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DESCRIPTOR = """
SELECT u.content_url FROM alf_content_url u
  JOIN alf_content_data d ON d.content_url_id = u.id
  JOIN alf_node_properties p ON p.long_value = d.id AND p.actual_type_n IN (3, 21)
  JOIN alf_qname q ON q.id = p.qname_id
 WHERE q.local_name = 'versionProperties'
"""
DOCUMENTS = "SELECT count(*) FROM alf_content_data"


class Alfresco:
    """What the stand-in knows of its host, from tomcat/conf/stand-in.json."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = json.loads((home / "tomcat/conf/stand-in.json").read_text())

    def ask(self, query: str) -> str:
        """One value from the database. Raises CalledProcessError when the database does not answer."""
        argv = [*self.settings["psql"], "-c", query]
        environment = {**os.environ, **self.settings["environment"]}
        answer = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True, timeout=60)
        return answer.stdout.strip()

    def check_content(self) -> None:
        """The boot guard; ends the process."""
        try:
            url = self.ask(DESCRIPTOR)
        except subprocess.CalledProcessError as error:
            sys.exit(f"ERROR the database does not answer: {error.stderr.strip()}")
        file = Path(self.settings["contentstore"], url.removeprefix("store://"))
        if not url or not file.is_file():
            sys.exit(f"CONTENT INTEGRITY ERROR: System content not found in content store: '{url}'")


class Answer(BaseHTTPRequestHandler):
    """GET anything: how many documents the database holds."""

    alfresco: Alfresco

    def do_GET(self) -> None:
        try:
            status, text = 200, f"{self.alfresco.ask(DOCUMENTS)} documents\n"
        except subprocess.SubprocessError as error:
            status, text = 503, f"{error}\n"
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


def main() -> None:
    home = Path(sys.argv[1])
    Answer.alfresco = Alfresco(home)
    Answer.alfresco.check_content()
    listening = home / f"tomcat/temp/listening.{os.getpid()}"
    with ThreadingHTTPServer(("127.0.0.1", Answer.alfresco.settings["port"]), Answer) as server:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        listening.touch()
        print("INFO: Server startup", flush=True)
        try:
            server.serve_forever(poll_interval=0.1)
        finally:
            listening.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
