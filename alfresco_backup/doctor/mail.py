"""Doctor's checks of alerts: whether anybody would be told, and whether that way works."""

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.notify.messages import Mail, scrub
from alfresco_backup.notify.ping import KINDS, ping, ping_name
from alfresco_backup.notify.smtp import (
    AlertNotSent,
    mail_server,
    secrets_of,
    send,
    sender_of,
    try_login,
    wants_mail,
)
from alfresco_backup.notify.urls import tell_services
from alfresco_backup.settings.commands import edit_setting, program_command
from alfresco_backup.times import for_people

STEP_SECONDS = 15.0
"""A step at the mail server may take no longer here, whatever the settings allow for alarms."""


def check_mail(context: CheckContext) -> list[Finding]:
    """Connect, encrypt and log in; a mail is sent only where that was asked for."""
    settings = context.host.settings
    if settings.alert_urls and not (settings.smtp_host or settings.alert_email):
        return []  # chosen: the services are told
    if not wants_mail(settings):
        if settings.email_alert_mode == "none":
            what = "e-mail alerts are disabled (EMAIL_ALERT_MODE=none)"
            edits = [edit_setting("EMAIL_ALERT_MODE", "failure_only")]
        else:
            named = {"SMTP_HOST": settings.smtp_host, "ALERT_EMAIL": settings.alert_email}
            missing = [name for name, value in named.items() if not value]
            what = f"{' and '.join(missing)} not set; nobody is told when a backup fails"
            edits = [edit_setting(name) for name in missing]
        return [warning("mail", what, "\n".join([*edits, program_command("doctor", "--send-mail")]))]
    server, seconds = mail_server(settings), min(settings.smtp_timeout_seconds, STEP_SECONDS)
    recipients = ", ".join(settings.alert_email)
    place = f"{server.host}:{server.port}"
    try:
        if not context.send_mail:
            try_login(server, seconds)
            return [ok("mail server", f"{place} answers ({server.encryption}); mails go to {recipients}")]
        send(_test_mail(context), server, sender_of(settings), settings.alert_email, seconds)
    except AlertNotSent as failure:
        return [error("mail server", failure.message, failure.hint)]
    return [ok("mail", f"{place} accepted a mail to {recipients}; check that it arrives")]


def check_services(context: CheckContext) -> list[Finding]:
    """Whether apprise knows the services of ALERT_URLS; they are told only where that was asked for."""
    settings = context.host.settings
    seconds = min(settings.smtp_timeout_seconds, STEP_SECONDS)
    done = "took a test message; check that it arrives" if context.send_mail else "apprise knows it"
    found = []
    for answer in tell_services(_test_mail(context), settings, seconds, send=context.send_mail):
        if answer.error:
            fix = f"{edit_setting('ALERT_URLS')}\n{program_command('doctor', '--send-mail')}"
            found.append(error(answer.name, f"cannot be told: {answer.error}", fix))
        else:
            found.append(ok(answer.name, done))
    return found


def check_ping(context: CheckContext) -> list[Finding]:
    """Where signals go; one that changes nothing there is sent only where that was asked for."""
    settings = context.host.settings
    if not settings.ping_url.get_secret_value():
        return []
    names = ", ".join(ping_name(settings, kind) for kind in KINDS.values())
    if not context.send_mail:
        return [ok("PING_URL", f"runs signal as {names}")]
    if said := ping(settings, "backup", "log", "test by doctor"):
        fix = f"{edit_setting('PING_URL')}\n{program_command('doctor', '--send-mail')}"
        return [error("PING_URL", f"it did not take a signal: {said}", fix)]
    return [ok("PING_URL", f"took a line for its log; runs signal as {names}")]


def _test_mail(context: CheckContext) -> Mail:
    settings = context.host.settings
    name = (
        f"{settings.alf_host_name} ({settings.customer_name})"
        if settings.customer_name
        else settings.alf_host_name
    )
    body = f"Alerts about the backups of {name} arrive. Sent by doctor at {for_people(context.now)}.\n"
    return scrub(Mail(f"[alfresco-backup] {name}: test of alerts", body), secrets_of(settings))
