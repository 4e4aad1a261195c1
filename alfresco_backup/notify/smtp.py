"""Handing one plain-text mail to a mail server, within a time limit."""

import re
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, make_msgid

from pydantic import SecretStr

from alfresco_backup.errors import BackupError
from alfresco_backup.notify.messages import Mail
from alfresco_backup.settings.env_file import env_file_path
from alfresco_backup.settings.model import Settings
from alfresco_backup.times import utc_now

BLOCK_PREFIX = "mail-"
_SECRET_NAME = re.compile("SECRET|PASSWORD|KEY|TOKEN")


class AlertNotSent(BackupError):
    """A mail server, or every way of telling, could not be reached, was late or refused an alert.

    `passing`: whether the same mail may be taken in a moment; nobody has got it then.
    """

    def __init__(self, message: str, hint: str, *, passing: bool = False) -> None:
        super().__init__(message, hint)
        self.passing = passing


@dataclass(frozen=True)
class MailServer:
    """A mail server. `encryption`: SSL, STARTTLS or INSECURE. `verify`: whether to check its certificate."""

    host: str
    port: int
    encryption: str
    user: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""), repr=False)
    verify: bool = True


def mail_server(settings: Settings) -> MailServer:
    """The mail server of the settings; its host is empty where e-mail alerts are disabled."""
    return MailServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_type,
        settings.smtp_user,
        settings.smtp_password,
    )


def sender_of(settings: Settings) -> str:
    """Who the mail is from: ALERT_FROM, SMTP_USER where it is an address, else a name at this host."""
    if settings.alert_from:
        return settings.alert_from
    return settings.smtp_user if "@" in settings.smtp_user else f"alfresco-backup@{settings.alf_host_name}"


def wants_mail(settings: Settings) -> bool:
    """Whether mails are sent: a server, a recipient, and a mode other than `none`."""
    return not why_no_mail(settings)


def why_no_mail(settings: Settings) -> str:
    """The setting for which no mail is sent, as a sentence; empty where mails are sent."""
    if settings.email_alert_mode == "none":
        return "e-mail alerts are disabled (EMAIL_ALERT_MODE=none)"
    missing = next((name for name in ("smtp_host", "alert_email") if not getattr(settings, name)), "")
    return f"e-mail alerts are disabled ({missing.upper()} is empty)" if missing else ""


def secrets_of(settings: Settings) -> list[str]:
    """Every secret of the settings, to be kept out of alerts."""
    values = (getattr(settings, name) for name in Settings.model_fields)
    secrets = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    login = (value for name, value in settings.offsite_variables.items() if _SECRET_NAME.search(name))
    return [*(each.get_secret_value() for each in secrets if isinstance(each, SecretStr)), *login]


def block_name(host_name: str) -> str:
    """The block that holds a host's mail server; Prefect allows small letters, digits and dashes."""
    return BLOCK_PREFIX + "".join(char if char.isalnum() else "-" for char in host_name.lower())


def send(
    mail: Mail, server: MailServer, sender: str, recipients: Sequence[str], timeout_seconds: float
) -> None:
    """Send the mail to all recipients. Each step at the mail server may take `timeout_seconds`.

    Raises AlertNotSent; also when the server took the mail for some of the recipients only.
    """
    message = EmailMessage(policy=SMTP_POLICY)
    message["Subject"] = mail.subject
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(utc_now().astimezone())
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2] or None)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies to alarms
    message.set_content(mail.body)
    place = f"{server.host}:{server.port}"
    try:
        with _connect(server, timeout_seconds) as connection:
            refused = connection.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        words = f"the mail server {place} did not take the mail: {_reason(error)}"
        raise AlertNotSent(words, _hint(), passing=_may_pass(error)) from error
    if refused:
        raise AlertNotSent(f"the mail server {place} refused {', '.join(refused)}", _hint())


def try_login(server: MailServer, timeout_seconds: float) -> None:
    """Greet the mail server and log in as for a mail, without sending one. Raises AlertNotSent."""
    try:
        with _connect(server, timeout_seconds) as connection:
            connection.ehlo_or_helo_if_needed()
            connection.noop()
    except (OSError, smtplib.SMTPException) as error:
        place = f"{server.host}:{server.port}"
        raise AlertNotSent(f"the mail server {place} cannot be used: {_reason(error)}", _hint()) from error


def _hint() -> str:
    return f"check SMTP_HOST, SMTP_PORT, SMTP_TYPE, SMTP_USER and ALERT_EMAIL in {env_file_path()}"


def _connect(server: MailServer, timeout_seconds: float) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if not server.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if server.encryption == "SSL":
        connection: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, timeout=timeout_seconds, context=context
        )
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=timeout_seconds)
    try:
        if server.encryption == "STARTTLS":
            connection.starttls(context=context)
        if server.user:
            connection.login(server.user, server.password.get_secret_value())
    except (OSError, smtplib.SMTPException):
        connection.close()
        raise
    return connection


def _may_pass(error: Exception) -> bool:
    """Whether another try may help: no answer, or a refusal that the server calls temporary (RFC 5321)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(400 <= code < 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        return 400 <= error.smtp_code < 500
    return isinstance(error, smtplib.SMTPServerDisconnected) or not isinstance(
        error, (smtplib.SMTPException, ssl.SSLError)
    )


def _reason(error: Exception) -> str:
    """The error in a line; refusals at login can repeat what was sent, so only the code is kept of those."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"login refused ({error.smtp_code})"
    return f"{error}" or type(error).__name__
