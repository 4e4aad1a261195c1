"""Doctor on a real host without Prefect: each planted fault is named, and cured by what doctor says."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clinic import Clinic, bad_of, changed, open_ward, set_in
from tests.support.common import wait_until
from tests.support.doctor_faults import FAULTS, check_fault, mode, unreadable_file
from tests.support.mail_servers import LOGIN, PASSWORD, tls_mail_server
from tests.support.web_servers import web_server

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what another account cannot read")


@pytest.fixture(scope="module")
def clinic(slow: None) -> Iterator[Clinic]:
    with open_ward() as opened:
        yield opened


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_with_what_fixes_it(name: str, clinic: Clinic) -> None:
    check_fault(clinic, FAULTS[name])


@as_root
def test_a_file_that_the_server_cannot_read_is_named_and_fixed(clinic: Clinic) -> None:
    with unreadable_file(clinic):
        found = clinic.bad(group="PostgreSQL")["data directory"]
        assert (
            found.level == "error"
            and "1 file cannot be read by " in found.sentence
            and "stray.key" in found.sentence
        )
        clinic.type_fix(found)
        assert "data directory" not in clinic.bad(group="PostgreSQL")


def test_an_archive_the_server_cannot_write_to_is_named_before_and_after_it_fails(clinic: Clinic) -> None:
    cluster, archive = clinic.host.cluster, clinic.host.wal_archive

    def failures() -> int:
        return int(cluster.sql("SELECT failed_count FROM pg_stat_archiver")[0][0])

    with mode(archive, 0o500):
        found = clinic.bad(group="PostgreSQL")["WAL archive"]
        assert found.level == "error" and f"{archive} cannot be written to by " in found.sentence
        before = failures()
        cluster.sql("SELECT pg_create_restore_point('doctor')")
        cluster.switch_segment()
        wait_until(lambda: failures() > before, "archiving fails")
        archiving = clinic.bad(group="backups")["archiving"]
        assert archiving.level == "error" and archiving.sentence.startswith("fails: 0000000")
        assert "Later commits are on the database's disk only" in archiving.sentence
        if os.geteuid() == 0:
            clinic.type_fix(found)
            assert "WAL archive" not in clinic.bad(group="PostgreSQL")

    def archives_again() -> bool:
        cluster.sql("SELECT pg_create_restore_point('doctor')")
        cluster.switch_segment()
        return "archiving" not in clinic.bad(group="backups")

    wait_until(archives_again, "archiving works again")


def test_a_wrong_password_at_the_mail_server_is_told_without_it(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_mail_server(tmp_path) as mailbox, changed(clinic.host.env_file) as env:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        secret = PASSWORD.replace("'", "\\'")
        values = {"SMTP_PORT": str(mailbox.port), "SMTP_TYPE": "STARTTLS", "SMTP_USER": LOGIN}
        for name, value in (values | {"SMTP_PASSWORD": "wrong-one"}).items():
            set_in(env, name, value)
        found = clinic.bad(group="mail")["mail server"]
        place = f"127.0.0.1:{mailbox.port}"
        assert found.sentence == f"the mail server {place} cannot be used: login refused (535)"
        assert "SMTP_USER" in found.fix and "wrong-one" not in str(found)
        set_in(env, "SMTP_PASSWORD", f"'{secret}'")
        report = clinic.run_checks(group="mail")
        assert "mail server" not in bad_of(report)
        assert any(item.sentence.startswith(f"{place} answers (STARTTLS)") for item in report.findings)
        assert mailbox.mails == []


def test_services_are_looked_at_and_told_only_when_asked(clinic: Clinic) -> None:
    with web_server() as service, changed(clinic.host.env_file) as env:
        set_in(env, "ALERT_URLS", f"json://{service.address}/a-token,nosuchthing://a-token/x")
        found = clinic.bad(group="mail")
        assert "apprise knows no such service" in found["ALERT_URLS 2 (nosuchthing)"].sentence
        assert ": ALERT_URLS=" in found["ALERT_URLS 2 (nosuchthing)"].fix and service.requests == []
        set_in(env, "PING_URL", f"http://{service.address}/a-key")
        set_in(env, "METRICS_FILE", "/nowhere/alf1.prom")
        assert clinic.bad(group="mail")["METRICS_FILE"].fix == "install -d -m 755 /nowhere"
        set_in(env, "METRICS_FILE", str(env.parent / "alf1.prom"))
        assert "METRICS_FILE" not in clinic.bad(group="mail")
        report = clinic.run_checks(group="mail", send_mail=True)
        assert "a-token" not in str(report) and "a-key" not in str(report)
        assert sorted(service.paths) == [f"/a-key/{clinic.host.name}-backup/log", "/a-token"]
        service.status = 404
        assert clinic.bad(group="mail", send_mail=True)["PING_URL"].sentence.endswith("it answered 404")
