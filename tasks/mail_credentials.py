"""The mail server as Prefect knows it: a prefect-email block without a password, beside the `.env` with it.

The block makes the mail server visible and changeable in Prefect. Prefect keeps the key to its secrets in the
same database as the secrets, so the password is not there: it is read from the host's `.env` whenever a mail
is sent. It goes to the server that the `.env` names, and encrypted as the `.env` says, only: whoever may edit
blocks could have it sent elsewhere. A block that says otherwise is used without login.
"""

import httpx
from prefect.exceptions import ObjectNotFound
from prefect_email import EmailServerCredentials
from prefect_email.credentials import SMTPServer, SMTPType
from pydantic import SecretStr

from alfresco_backup.settings import Settings
from alfresco_backup.smtp import MailServer, block_name, mail_server


def credentials_without_password(settings: Settings) -> EmailServerCredentials:
    """The block that bootstrap stores."""
    return EmailServerCredentials(
        username=settings.smtp_user or None,
        smtp_server=settings.smtp_host,
        smtp_type=settings.smtp_type,
        smtp_port=settings.smtp_port,
    )


def load_mail_server(settings: Settings) -> MailServer:
    """The mail server by the host's block, or by the settings where there is none or no server to ask."""
    try:
        block = EmailServerCredentials.load(block_name(settings.alf_host_name))
    except (ValueError, ObjectNotFound, httpx.HTTPError):
        return mail_server(settings)
    assert isinstance(block, EmailServerCredentials)
    server, encryption = block.smtp_server, block.smtp_type
    assert isinstance(encryption, SMTPType)
    host = server.value if isinstance(server, SMTPServer) else server
    known = (host, encryption.name) == (settings.smtp_host, settings.smtp_type)
    return MailServer(
        host,
        block.smtp_port or encryption.value,
        encryption.name,
        (block.username or "") if known else "",
        settings.smtp_password if known else SecretStr(""),
        verify=block.verify is not False,
    )
