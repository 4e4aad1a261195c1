"""`python -m alfresco_backup doctor` as it is typed, also where nothing works; and its smaller parts."""

import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.places import check_env_file, disks_of
from alfresco_backup.doctor.report import DoctorReport, doctor_text
from alfresco_backup.findings import Finding
from alfresco_backup.host.schedules import Schedule, local_schedules, minutes_of_day
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from alfresco_backup.times import utc_now
from alfresco_backup.wal.archive_command import ArchiveCommand, parse_archive_command
from demo.host import DemoHost
from tests.cli.test_commands import command, settings_file
from tests.support.clinic import bad_of, run_doctor, set_in
from tests.support.mail_servers import refusing_port, silent_mail_server

pytestmark = pytest.mark.slow

PATIENT = ("--time-limit", "110")
DOCUMENT = PROJECT_DIRECTORY / "docs/reference/doctor-json.md"


def test_it_needs_no_prefect_and_tells_what_does_not_work_instead_of_failing(tmp_path: Path) -> None:
    env_file = settings_file(tmp_path / "not-mounted")
    done = command("doctor", "--json", *PATIENT, env_file)
    assert (done.returncode, done.stderr) == (5, "")
    report = json.loads(done.stdout)
    assert (report["schema"], report["state"], report["exit_code"], report["host"]) == (
        2,
        "errors",
        5,
        "alf1",
    )
    found = {(item["group"], item["subject"]): item for item in report["findings"] if item["level"] != "ok"}
    missing = found["repository", "BACKUP_DIR"]
    assert missing["sentence"] == f"{tmp_path}/not-mounted does not exist; is the disk mounted?"
    assert missing["fix"].splitlines()[0] == f"mount {tmp_path}/not-mounted"
    assert found["backups", "backups"]["fix"] == f"namei -l {tmp_path}/not-mounted"
    assert ("schedule", "schedule") in found and ("mail", "mail") in found
    assert {item["group"] for item in report["findings"]} == set(groups_in_the_document())


def groups_in_the_document() -> list[str]:
    line = next(line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `group`"))
    return re.findall(r"`([^`]+)`", line.partition("|")[2].partition("|")[2])


def test_every_field_of_the_json_is_documented(tmp_path: Path) -> None:
    report: dict[str, Any] = json.loads(command("doctor", "--json", settings_file(tmp_path / "x")).stdout)
    told = set(re.findall(r"`([a-z_]+)`", DOCUMENT.read_text()))
    assert report.keys() | report["findings"][0].keys() <= told


def test_wrong_settings_end_with_2(tmp_path: Path) -> None:
    done = command("doctor", "--json", tmp_path / "none.env")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert (document["state"], document["exit_code"]) == ("error", 2)
    assert document["error"]["kind"] == "SettingsError" and document["error"]["fix"].startswith(
        "install -m 600 "
    )
    assert command("doctor", "--time-limit", "soon").returncode == 2


def test_errors_stand_first_and_what_is_good_in_a_line_for_each_group(shared_demo_host: DemoHost) -> None:
    typed = command("doctor", *PATIENT, shared_demo_host.env_file)
    assert (typed.returncode, typed.stderr) == (5, "")
    head, _, *lines = typed.stdout.splitlines()
    assert re.fullmatch(r"demo: \d+ errors, \d+ warnings?; \d+ checks are good", head)
    levels = [line.partition(":")[0] for line in lines if line and not line.startswith("  ")]
    assert levels == sorted(levels, key=["ERROR", "warning", "ok"].index)
    assert "ok: settings: .env" in lines
    newest = lines.index(
        f"ERROR: backups: newest backup: there is no complete backup in {shared_demo_host.backup_dir}"
    )
    backup = f".venv/bin/python -m alfresco_backup backup --env {shared_demo_host.env_file}"
    assert lines[newest + 1] == f"  HINT: cd {PROJECT_DIRECTORY} && {backup}"
    level = shared_demo_host.cluster.facts.recommended_wal_level
    verbose = command("doctor", "--verbose", *PATIENT, shared_demo_host.env_file).stdout
    assert f"ok: PostgreSQL: wal_level: is {level}" in verbose.splitlines()


@pytest.mark.parametrize(
    ("levels", "code", "headline"),
    [
        (["ok", "ok"], 0, "all 2 checks are good"),
        (["ok", "warning", "warning"], 7, "2 warnings; 1 checks are good"),
        (["warning", "unknown"], 1, "1 unknown, 1 warning; 0 checks are good"),
        (["error", "unknown", "warning"], 5, "1 error, 1 unknown, 1 warning; 0 checks are good"),
    ],
)
def test_the_exit_code_tells_the_severity(levels: list[Any], code: int, headline: str) -> None:
    findings = tuple(Finding(level, "subject", "sentence", "fix", "group") for level in levels)
    report = DoctorReport("alf1", Path("/backup"), utc_now(), findings)
    assert (report.exit_code, report.headline) == (code, headline)
    assert doctor_text(report).startswith(f"alf1: {headline}\n")


def test_a_database_server_that_is_down_hides_nothing_else(demo_host: DemoHost) -> None:
    demo_host.stop("postgresql")
    found = bad_of(run_doctor(demo_host))
    assert found["server"].level == "error" and found["server"].sentence.startswith("does not answer: ")
    assert "/psql -h 127.0.0.1 -p " in found["server"].fix
    assert {"newest backup", "mail", "schedule"} <= found.keys()


def test_archiving_that_is_off_is_fixed_by_what_is_said(demo_host: DemoHost) -> None:
    cluster = demo_host.cluster
    facts = facts_of(cluster.version)
    for name, value in {"wal_level": "minimal", "archive_mode": "off", "max_wal_senders": "0"}.items():
        cluster.sql(f"ALTER SYSTEM SET {name} = '{value}'")
    cluster.stop()
    cluster.start()
    found = bad_of(run_doctor(demo_host))
    assert found["wal_level"].sentence.startswith("is minimal; expected ") and found[
        "max_wal_senders"
    ].sentence.startswith("is 0; ")
    assert found["archive_mode"].sentence == "is off; no WAL reaches the archive"
    for name in ("wal_level", "archive_mode", "max_wal_senders"):
        assert (found[name].level, found[name].group) == ("error", "PostgreSQL")
        assert found[name].fix.endswith(f"configure --apply --restart --env {demo_host.env_file}")
    subprocess.run(["sh", "-c", found["wal_level"].fix], check=True)
    assert cluster.sql("SHOW wal_level") == [(facts.recommended_wal_level,)]
    left = bad_of(run_doctor(demo_host))
    assert not {"wal_level", "archive_mode", "max_wal_senders", "replication"} & left.keys()


def test_a_repository_on_the_file_system_of_the_data_is_a_warning(shared_demo_host: DemoHost) -> None:
    found = bad_of(run_doctor(shared_demo_host, group="repository"))["BACKUP_DIR's disk"]
    layout = shared_demo_host.layout
    both = f"{layout.data_directory}, {layout.contentstore}"
    if found.level == "error":  # tests often run in memory, which is worse
        assert found.sentence.endswith("is in memory (tmpfs); all backups are lost at a restart")
        found = next(
            item
            for item in run_doctor(shared_demo_host, group="repository").findings
            if item.subject == "BACKUP_DIR's disk" and item.level == "warning"
        )
    assert found.sentence == (
        f"{shared_demo_host.backup_dir} is on the same file system as {both}; "
        "both are lost, or full, together"
    )
    assert found.fix == f"findmnt --target {shared_demo_host.backup_dir}  # mount a disk of its own there"


def test_a_prefect_server_that_is_down_is_an_error(shared_demo_host: DemoHost) -> None:
    address = f"http://127.0.0.1:{refusing_port()}/api"
    found = bad_of(run_doctor(shared_demo_host, {"PREFECT_API_URL": address}))
    assert (
        found["server"].sentence
        == f"PREFECT_API_URL={address} does not answer: [Errno 111] Connection refused"
    )
    assert found["server"].fix == f"curl {address}/health\nsystemctl status prefect-server"
    assert found["schedule"].sentence == "none on this machine; the Prefect server does not answer"


def test_a_mail_server_that_never_answers_is_given_up_and_hides_nothing(demo_host: DemoHost) -> None:
    with silent_mail_server() as port:
        for name, value in {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": port, "ALERT_EMAIL": "a@b.c"}.items():
            set_in(demo_host.env_file, name, str(value))
        set_in(demo_host.env_file, "SMTP_TIMEOUT_SECONDS", "1")
        found = bad_of(run_doctor(demo_host, group="mail"))["mail server"]
        assert found.level == "error"
        assert found.sentence.startswith(f"the mail server 127.0.0.1:{port} cannot be used: ")
        assert found.sentence.endswith("timed out")
        set_in(demo_host.env_file, "SMTP_TIMEOUT_SECONDS", "600")
        unknown = bad_of(run_doctor(demo_host, group="mail", limit=5.0))["mail"]
        assert (unknown.level, unknown.sentence) == ("unknown", "the check did not end within 5 s")
        assert unknown.fix.endswith(f"doctor --time-limit 600 --env {demo_host.env_file}")


def test_cron_lines_that_make_backups_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "etc/cron.d"
    folder.mkdir(parents=True)
    text = (PROJECT_DIRECTORY / "deployments/cron.example").read_text()
    (folder / "alfresco-backup").write_text(
        text.replace("APP=/opt/alfresco-backup", f"APP={PROJECT_DIRECTORY}")
    )
    verb = ".venv/bin/python -m alfresco_backup backup"
    (folder / "others").write_text(
        "0 1 * * * root /opt/predecessor/backup.py\n#0 2 * * * root backup.py\n"
        f"0 3 * * * root cd /opt/another && {verb}\n0 4 * * * root /opt/another/{verb}\n"
        f"0 5 * * * root cd {PROJECT_DIRECTORY} && {verb.removesuffix('backup')}status\n"
    )
    (folder / "of-earlier-versions").write_text(
        f"0 6 * * * root {PROJECT_DIRECTORY}/.venv/bin/python {PROJECT_DIRECTORY}/backup.py /etc/alf1.env\n"
        f"0 7 * * * root {PROJECT_DIRECTORY}/{verb}\n"
    )
    lines = text.splitlines()
    nightly = next(number for number, line in enumerate(lines, 1) if line.startswith("30 2"))
    found = local_schedules(tmp_path)
    assert found[0] == Schedule(f"{folder}/alfresco-backup, line {nightly}", "30 2 * * *")
    assert [(item.cron, item.whole) for item in found] == [
        ("30 2 * * *", True),
        ("10 * * * *", False),
        ("30 5 * * 0", False),
        ("0 6 1 * *", False),
        ("0 6 * * *", True),
        ("0 7 * * *", True),
    ]


def test_systemd_timers_that_are_on_are_found(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    (units / "timers.target.wants").mkdir(parents=True)
    (units / "nightly@.service").write_text(f"[Service]\nExecStart=python {PROJECT_DIRECTORY}/backup.py %i\n")
    (units / "nightly@alf1.timer").write_text("[Timer]\nOnCalendar=*-*-* 02:30\n")
    assert local_schedules(tmp_path) == ()
    (units / "timers.target.wants/nightly@alf1.timer").symlink_to(units / "nightly@alf1.timer")
    assert local_schedules(tmp_path) == (Schedule("nightly@alf1.timer"),)


def test_times_of_day_are_read_from_cron_and_quartz() -> None:
    assert minutes_of_day("30 2 * * *") == minutes_of_day("0 30 2 * * ?") == {150}
    assert minutes_of_day("0,30 1-2 * * 0") == {60, 90, 120, 150}
    assert minutes_of_day("0 */30 4/10 * * ? 2026") == {240, 270, 840, 870}
    assert minutes_of_day("@daily") == {0}
    for wrong in ("every day", "0 60 2 * * ?", "5"):
        with pytest.raises(ValueError):
            minutes_of_day(wrong)


def test_an_archive_command_is_taken_apart_as_the_shell_would() -> None:
    parsed = parse_archive_command('test -d /b && "/opt/a b/archive-wal" --zstd "%p" "%f" "/b/pg wal"')
    assert parsed == ArchiveCommand(Path("/opt/a b/archive-wal"), Path("/b/pg wal"))
    assert parse_archive_command("archive-wal %p %f") == ArchiveCommand(Path("archive-wal"), None)
    assert parse_archive_command("cp %p /archive/%f") is None
    assert parse_archive_command("archive-wal 'unclosed") is None


def test_the_disks_beneath_volumes_are_found(tmp_path: Path) -> None:
    """As the kernel shows them in /sys: a volume over a partition and a whole disk."""
    devices, block = tmp_path / "devices", tmp_path / "block"
    block.mkdir()
    (devices / "sda/sda1").mkdir(parents=True)
    (devices / "sda/sda1/partition").write_text("1")
    (devices / "sdb").mkdir()
    (devices / "dm-0/slaves").mkdir(parents=True)
    (devices / "dm-0/slaves/sda1").symlink_to(devices / "sda/sda1")
    (devices / "dm-0/slaves/sdb").symlink_to(devices / "sdb")
    for name, place in {"253:0": "dm-0", "8:1": "sda/sda1"}.items():
        (block / name).symlink_to(devices / place)
    assert disks_of(os.makedev(253, 0), block) == {"sda", "sdb"}
    assert disks_of(os.makedev(8, 1), block) == {"sda"}
    assert disks_of(os.makedev(0, 42), block) == frozenset()


def test_exported_variables_of_libpq_that_have_no_effect_are_named_with_what_unsets_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / ".env"
    file.touch(mode=0o600)
    exported = {"PGSERVICE": "production", "PGHOSTADDR": "10.0.0.1", "PGTZ": "", "PGSSLMODE": "require"}
    context = cast(CheckContext, SimpleNamespace(env_file=file, environment=exported))
    (found,) = [item for item in check_env_file(context) if item.subject == "environment"]
    assert found.level == "warning"
    assert found.sentence.startswith("PGHOSTADDR, PGSERVICE in the environment are not passed on to psql")
    assert found.fix == "unset PGHOSTADDR PGSERVICE"
