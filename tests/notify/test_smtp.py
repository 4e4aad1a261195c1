"""Mails against real mail servers: plain, STARTTLS with login, refused, hanging, refusing the recipient."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from alfresco_backup.notify.messages import Mail
from alfresco_backup.notify.smtp import AlertNotSent, MailServer, send
from tests.support.mail_servers import (
    LOGIN,
    PASSWORD,
    mail_server,
    refusing_port,
    silent_mail_server,
    tls_mail_server,
)

MAIL = Mail("[alfresco-backup] hôst: it failed", "Grüße\n.\nthe line above is a single dot\n")


def test_a_mail_arrives_with_date_id_and_every_line() -> None:
    with mail_server() as mailbox:
        send(MAIL, MailServer("127.0.0.1", mailbox.port, "INSECURE"), "a@b.example", ["x@y.z", "u@v.w"], 60)
    [mail] = mailbox.mails
    assert (mail["Subject"], mail["From"], mail["To"]) == (MAIL.subject, "a@b.example", "x@y.z, u@v.w")
    assert mailbox.envelopes[0].rcpt_tos == ["x@y.z", "u@v.w"]
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().splitlines() == MAIL.body.splitlines()
    assert abs(parsedate_to_datetime(mail["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert mail["Message-ID"].endswith("@b.example>")
    assert mail["Auto-Submitted"] == "auto-generated"


def test_starttls_comes_before_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_mail_server(tmp_path) as mailbox:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        server = MailServer("127.0.0.1", mailbox.port, "STARTTLS", LOGIN, SecretStr(PASSWORD))
        send(MAIL, server, LOGIN, ["x@y.z"], 60)
        assert mailbox.sessions[0].ssl is not None and mailbox.sessions[0].authenticated
        assert mailbox.subjects() == [MAIL.subject]


def test_a_certificate_nobody_vouches_for_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    with tls_mail_server(tmp_path) as mailbox:
        strict = MailServer("127.0.0.1", mailbox.port, "STARTTLS", LOGIN, SecretStr(PASSWORD))
        with pytest.raises(AlertNotSent, match="CERTIFICATE_VERIFY_FAILED"):
            send(MAIL, strict, LOGIN, ["x@y.z"], 60)
        loose = MailServer("127.0.0.1", mailbox.port, "STARTTLS", LOGIN, SecretStr(PASSWORD), verify=False)
        send(MAIL, loose, LOGIN, ["x@y.z"], 60)
        assert len(mailbox.mails) == 1


def test_a_wrong_password_is_not_repeated_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_mail_server(tmp_path) as mailbox:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        server = MailServer("127.0.0.1", mailbox.port, "STARTTLS", LOGIN, SecretStr("wrong word"))
        with pytest.raises(AlertNotSent) as caught:
            send(MAIL, server, LOGIN, ["x@y.z"], 60)
    assert (
        caught.value.message
        == f"the mail server 127.0.0.1:{mailbox.port} did not take the mail: login refused (535)"
    )
    assert "wrong word" not in str(caught.value) + repr(server)
    assert not caught.value.passing


def test_a_server_that_refuses_the_connection_is_named() -> None:
    port = refusing_port()
    with pytest.raises(AlertNotSent) as caught:
        send(MAIL, MailServer("127.0.0.1", port, "INSECURE"), "a@b.c", ["x@y.z"], 60)
    assert f"the mail server 127.0.0.1:{port} did not take the mail: " in caught.value.message
    assert "Connection refused" in caught.value.message
    assert caught.value.hint.startswith("check SMTP_HOST")


@pytest.mark.parametrize("encryption", ["INSECURE", "STARTTLS", "SSL"])
def test_a_server_that_never_answers_is_given_up(encryption: str) -> None:
    with silent_mail_server() as port, pytest.raises(AlertNotSent, match="timed out"):
        send(MAIL, MailServer("127.0.0.1", port, encryption), "a@b.c", ["x@y.z"], 0.3)


def test_a_refused_mail_is_an_error() -> None:
    with mail_server() as mailbox, pytest.raises(AlertNotSent, match="no such mailbox") as caught:
        server = MailServer("127.0.0.1", mailbox.port, "INSECURE")
        send(MAIL, server, "a@b.c", ["nobody@y.z"], 60)
    assert mailbox.mails == [] and not caught.value.passing


def test_a_server_that_is_busy_or_away_may_take_the_mail_later() -> None:
    with mail_server() as mailbox, pytest.raises(AlertNotSent, match="busy, try again later") as caught:
        mailbox.busy = 1
        send(MAIL, MailServer("127.0.0.1", mailbox.port, "INSECURE"), "a@b.c", ["x@y.z"], 60)
    assert caught.value.passing
    with pytest.raises(AlertNotSent) as caught:
        send(MAIL, MailServer("127.0.0.1", refusing_port(), "INSECURE"), "a@b.c", ["x@y.z"], 60)
    assert caught.value.passing
