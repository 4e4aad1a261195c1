"""Real mail servers on sockets: with or without TLS and login, and one that never answers."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

LOGIN, PASSWORD = "backup@example.org", "mail server's #1 secret"


@dataclass
class Mailbox:
    """What a server has taken. `port` is where it listens; the next `busy` mails it will not take now."""

    port: int = 0
    busy: int = 0
    envelopes: list[Any] = field(default_factory=list)
    sessions: list[Any] = field(default_factory=list)
    already_read: int = 0

    async def handle_DATA(self, _server: object, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        if any("nobody@" in recipient for recipient in envelope.rcpt_tos):
            return "550 no such mailbox"
        if self.busy:
            self.busy -= 1
            return "451 busy, try again later"
        self.envelopes.append(envelope)
        self.sessions.append(session)
        return "250 taken"

    def read_all(self) -> None:
        """Of the mails that are there now, `mails` tells no more."""
        self.already_read = len(self.envelopes)

    @property
    def mails(self) -> list[EmailMessage]:
        unread = self.envelopes[self.already_read :]
        parsed = [message_from_bytes(item.content, policy=default) for item in unread]
        return [mail for mail in parsed if isinstance(mail, EmailMessage)]

    def subjects(self, words: str = "") -> list[str]:
        return [mail["Subject"] for mail in self.mails if words in mail["Subject"]]

    def mail(self, words: str) -> EmailMessage:
        """The only mail whose subject has these words."""
        found = [mail for mail in self.mails if words in mail["Subject"]]
        assert len(found) == 1, f"{len(found)} mails with {words!r}: {self.subjects()}"
        return found[0]


@contextmanager
def mail_server(**options: Any) -> Iterator[Mailbox]:
    """A mail server; `options` are aiosmtpd's."""
    mailbox = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mailbox.port = probe.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port, **options)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def certificate(directory: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, signed by itself."""
    file, key = directory / "certificate.pem", directory / "key.pem"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    make = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    subprocess.run([*make, *subject, "-keyout", key, "-out", file], check=True, capture_output=True)
    return file


@contextmanager
def tls_mail_server(directory: Path) -> Iterator[Mailbox]:
    """A mail server that wants STARTTLS and then a login. Trust its certificate.pem by SSL_CERT_FILE."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(directory), directory / "key.pem")

    def check(
        _server: object, _session: object, _envelope: object, _mechanism: str, login: Any
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        right = (login.login.decode(), login.password.decode()) == (LOGIN, PASSWORD)
        return AuthResult(success=right, handled=right)

    options = {
        "tls_context": context,
        "require_starttls": True,
        "auth_required": True,
        "authenticator": check,
    }
    with mail_server(**options) as mailbox:
        yield mailbox


@contextmanager
def silent_mail_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refusing_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
