"""Alerts to the services of ALERT_URLS: a real web server, one that hangs, one that refuses; no secret."""

import json
import time
from pathlib import Path

import pytest

from alfresco_backup.errors import SettingsError
from alfresco_backup.notify import urls
from alfresco_backup.notify.deliver import deliver, why_nobody_is_told
from alfresco_backup.notify.messages import Mail
from alfresco_backup.notify.smtp import AlertNotSent, mail_server, secrets_of
from alfresco_backup.notify.urls import tell_services, without_parts_of
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import Settings
from tests.support.mail_servers import mail_server as running_mail_server
from tests.support.mail_servers import refusing_port, silent_mail_server
from tests.support.web_servers import web_server

slow = pytest.mark.slow
ALERT = Mail("[alfresco-backup] hôst: it failed", "Grüße\n  indented\nthe password is pass#1word\n")
TOKEN = "t0p-secret-token"
SECONDS = 60.0
"""More than a service needs on the slowest machine."""


def settings(tmp_path: Path, **values: str) -> Settings:
    file = tmp_path / "host.env"
    needed = {"PGHOST": "localhost", "PGUSER": "x", "BACKUP_DIR": "/backup", "ALF_BASE_DIR": str(tmp_path)}
    given = {**needed, "ALF_HOST_NAME": "alf1", "PGPASSWORD": "pass#1word", "SMTP_TIMEOUT_SECONDS": "60"}
    file.write_text("".join(f"{name}='{value}'\n" for name, value in {**given, **values}.items()))
    file.chmod(0o600)
    return load_settings(file)


def test_every_secret_of_the_settings_is_kept_out_of_alerts(tmp_path: Path) -> None:
    names = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    values = {name: f"{'https://host/' if name.endswith(('url', 'urls')) else ''}{name}-0" for name in names}
    assert len(names) > 5
    asked = settings(tmp_path, **{name.upper(): value for name, value in values.items()})
    assert set(values.values()) <= set(secrets_of(asked))


@slow
def test_a_service_gets_the_words_of_the_mail_without_the_hosts_secrets(tmp_path: Path) -> None:
    with web_server() as server:
        asked = settings(tmp_path, ALERT_URLS=f"json://{server.address}/{TOKEN}/")
        delivery = deliver(ALERT, asked, mail_server(asked))
    assert (delivery.told, delivery.failed) == (("alert sent by ALERT_URLS 1 (json)",), ())
    [request] = server.requests
    assert (request.method, request.path) == ("POST", f"/{TOKEN}/")
    sent = json.loads(request.body)
    assert sent["title"] == ALERT.subject
    assert sent["message"].split() == ALERT.body.replace("pass#1word", "***").split()


@slow
def test_one_that_hangs_and_one_that_refuses_stop_neither_the_others_nor_the_mail(tmp_path: Path) -> None:
    with web_server() as server, silent_mail_server() as silent, running_mail_server() as mailbox:
        urls = (
            f"json://127.0.0.1:{silent}/{TOKEN}?rto=900&cto=900",
            f"json://127.0.0.1:{refusing_port()}/{TOKEN}",
            f"json://{server.address}/well",
            f"json://user:{TOKEN}@{server.address}/well-too",
        )
        mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port), "SMTP_TYPE": "INSECURE"}
        values = {"ALERT_URLS": ", ".join(urls), "ALERT_EMAIL": "a@b.c", "SMTP_TIMEOUT_SECONDS": "8"}
        asked = settings(tmp_path, **mail, **values)
        began = time.monotonic()
        delivery = deliver(ALERT, asked, mail_server(asked))
        took = time.monotonic() - began
        assert mailbox.subjects() == [ALERT.subject]
    assert delivery.told == (
        "mail sent to a@b.c",
        "alert sent by ALERT_URLS 3 (json)",
        "alert sent by ALERT_URLS 4 (json)",
    )
    hanging, refusing = delivery.failed
    assert hanging == "ALERT_URLS 1 (json) did not take the alert: no answer within 8 s"
    assert refusing.startswith("ALERT_URLS 2 (json) did not take the alert: A Connection error occurred")
    assert TOKEN not in str(delivery) and "127.0.0.1" not in str(delivery)
    assert took < 60, "the limit is 8 s; the rest is for a slow machine"


@slow
def test_an_answer_that_is_no_success_is_told_with_its_code(tmp_path: Path) -> None:
    with web_server(status=403) as server:
        asked = settings(tmp_path, ALERT_URLS=f"json://{server.address}/{TOKEN}")
        with pytest.raises(AlertNotSent, match="error=403") as caught:
            deliver(ALERT, asked, mail_server(asked))
    assert caught.value.message.startswith("ALERT_URLS 1 (json) did not take the alert: ")
    assert caught.value.hint.startswith("check ALERT_URLS in ")
    assert TOKEN not in str(caught.value)


@slow
def test_a_mail_server_that_is_away_does_not_keep_a_service_from_being_told(tmp_path: Path) -> None:
    with web_server() as server:
        mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(refusing_port()), "ALERT_EMAIL": "a@b.c"}
        asked = settings(tmp_path, ALERT_URLS=f"json://{server.address}", **mail)
        delivery = deliver(ALERT, asked, mail_server(asked))
    assert delivery.told == ("alert sent by ALERT_URLS 1 (json)",)
    assert "did not take the mail: " in delivery.failed[0] and len(server.requests) == 1


@slow
def test_a_text_that_is_too_long_is_cut_not_refused(tmp_path: Path) -> None:
    with web_server() as server:
        asked = settings(tmp_path, ALERT_URLS=f"json://{server.address}")
        [answer] = tell_services(Mail("long", "begin " + "x " * 40_000), asked, SECONDS)
    assert answer.error == ""
    [request] = server.requests
    assert json.loads(request.body)["message"].startswith("begin x")
    assert len(request.body) < 40_000


@slow
def test_addresses_are_looked_at_without_telling_anybody(tmp_path: Path) -> None:
    with web_server() as server:
        urls = f"json://{server.address}/{TOKEN},nosuchthing://{TOKEN},slack://{TOKEN}"
        answers = tell_services(ALERT, settings(tmp_path, ALERT_URLS=urls), SECONDS, send=False)
    assert server.requests == []
    unknown = "apprise knows no such service, or the address lacks something that the service needs"
    assert [(answer.name, answer.error) for answer in answers] == [
        ("ALERT_URLS 1 (json)", ""),
        ("ALERT_URLS 2 (nosuchthing)", unknown),
        ("ALERT_URLS 3 (slack)", unknown),
    ]


def test_a_comma_within_an_address_ends_none(tmp_path: Path) -> None:
    urls = "mailto://me:pw@example.com?to=a@b.c,d@e.f, ntfys://ntfy.example.com/topic"
    asked = settings(tmp_path, ALERT_URLS=urls)
    assert [url.get_secret_value() for url in asked.alert_urls] == urls.split(", ")
    assert "pw@example" not in repr(asked) and "ntfy" not in repr(asked)
    assert why_nobody_is_told(asked) == ""
    assert why_nobody_is_told(settings(tmp_path)) == "e-mail alerts are disabled (SMTP_HOST is empty)"


def test_a_wrong_address_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ALERT_URLS=\*\*\*: expected addresses such as") as caught:
        settings(tmp_path, ALERT_URLS=f"https//hooks.example.com/{TOKEN}")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("no route to hooks.example.com", "no route to ***"),
        ("the token x%23yz is refused", "the token *** is refused"),
        ("the token x#yz is refused", "the token *** is refused"),
        ("POST /services/T000: 404", "POST /***/***: 404"),
    ],
)
def test_no_part_of_an_address_is_left_in_a_reason(text: str, cleaned: str) -> None:
    url = "slack://bot@hooks.example.com/services/T000/x%23yz?format=markdown"
    assert without_parts_of([url], text) == cleaned


@slow
def test_a_process_that_cannot_start_is_told_in_a_line_without_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "PROJECT_DIRECTORY", tmp_path)  # where the module is not
    asked = settings(tmp_path, ALERT_URLS=f"json://127.0.0.1/{TOKEN}")
    with pytest.raises(AlertNotSent) as caught:
        deliver(ALERT, asked, mail_server(asked))
    assert caught.value.message.startswith("ALERT_URLS 1 (json) did not take the alert: its process ended")
    assert "No module named" in caught.value.message and "\n" not in caught.value.message
    assert TOKEN not in str(caught.value)
