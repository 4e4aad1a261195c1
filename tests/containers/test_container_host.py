"""A host whose PostgreSQL and Alfresco run in real containers, of accounts that it does not know."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from alfresco_backup.errors import BackupError, HostNotReady, Refused, SettingsError
from alfresco_backup.host.containers import libc_of, look_for_container, parse_inspect, server_container
from alfresco_backup.host.foreign_server import require_startable_here, why_not_started_here
from alfresco_backup.host.host import Host, load_host
from alfresco_backup.host.one_off_server import server_options, why_no_one_off
from alfresco_backup.host.service_control import look_at, start_by_pg_ctl, start_service, stop_service
from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.support import container_engine as engine
from tests.support.container_host import ContainerHost, container_host
from tests.support.streaming import receiving


@pytest.fixture(scope="module")
def contained(slow: None) -> Iterator[ContainerHost]:
    """Configured, with a receiver and one set."""
    with container_host(documents=20) as host:
        done = program(host, "configure", "--apply")
        assert done.returncode == 0, done.stdout + done.stderr
        with receiving(host):
            done = program(host, "backup")
            assert done.returncode == 0, done.stdout + done.stderr
            yield host


def program(host: ContainerHost, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = () if "--env" in words else ("--env", str(host.env_file))
    argv = (sys.executable, "-m", "alfresco_backup", verb, *words, *env)
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, cwd=PROJECT_DIRECTORY, timeout=300
    )


def test_its_places_are_found_and_a_whole_set_is_made_without_an_archive_command(
    contained: ContainerHost,
) -> None:
    host = load_host(contained.env_file)
    assert host.installation.data_directory == contained.cluster.directory
    assert host.installation.store == contained.layout.contentstore
    assert host.installation.keystore == contained.home / "keystore"
    assert (host.account.uid, host.account.name) == (engine.UID, "")
    assert contained.cluster.sql("SHOW archive_mode") == [("off",)]
    catalogue = read_catalogue(host.repository)
    (base,) = catalogue.bases
    assert (base.libc, base.image) == ("glibc", server_container(host.settings).image)
    assert catalogue.snapshots[-1].files == 21
    assert (catalogue.configurations[-1].path / "keystore/keystore").is_file()
    findings = json.loads(program(contained, "doctor", "--json").stdout)["findings"]
    subjects = {item["subject"] for item in findings if item["level"] == "error"}
    assert subjects <= {"BACKUP_DIR's disk", "server", "schedule"}, findings


def test_both_are_stopped_and_started_by_the_engine_and_the_backup_goes_on(
    contained: ContainerHost, tmp_path: Path
) -> None:
    host = load_host(contained.env_file)
    assert look_at(host, "postgresql").sentence().startswith("process ")
    stop_service(host, "alfresco", tmp_path / "log")
    stop_service(host, "postgresql", tmp_path / "log")
    for service in ("alfresco", "postgresql"):
        state = look_at(host, service)
        assert state.down and "container" in state.sentence(), state
    with pytest.raises(BackupError, match=r"do not start .* another libc"):
        start_by_pg_ctl(host, tmp_path / "log")
    start_service(host, "postgresql", tmp_path / "log")
    start_service(host, "alfresco", tmp_path / "log")
    contained.wait_for_alfresco()
    done = program(contained, "backup")
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_pg_container_the_hosts_programs_neither_start_nor_back_up_its_data_directory(
    contained: ContainerHost, tmp_path: Path
) -> None:
    plain = tmp_path / ".env"
    kept = [line for line in contained.env_file.read_text().splitlines() if "CONTAINER" not in line]
    places = (f"ALF_BASE_DIR={contained.home}", f"PG_DATA_DIR={contained.cluster.directory}")
    plain.write_text("\n".join((*kept, *places, "")))
    plain.chmod(0o600)
    host = load_host(plain)
    expected = r"\(postgres, of a container\) works in .*: the programs of this host must never start"
    with pytest.raises(Refused, match=expected):
        require_startable_here(host)
    for verb in ("backup", "drill"):
        done = program(contained, verb, "--env", str(plain))
        assert done.returncode != 0 and "of a container) works in" in done.stdout + done.stderr
    assert contained.cluster.sql("SELECT 1") == [("1",)]


def test_what_the_containers_image_must_not_recover_is_refused_with_nothing_stopped(
    contained: ContainerHost,
) -> None:
    host = load_host(contained.env_file)
    files = [base.path / "backup.json" for base in read_catalogue(host.repository).bases]
    kept = {file: file.read_text() for file in files}  # a drill takes any of them
    for file, text in kept.items():
        file.write_text(json.dumps(json.loads(text) | {"libc": "musl"}))
    execute = ("--execute", "--confirm", contained.name)
    try:
        for words in (("restore", "--mode", "postgres", *execute), ("drill",)):
            done = program(contained, *words)
            said = done.stdout + done.stderr
            assert done.returncode == 3 and "is of a server with musl (image " in said, said
            assert "its image is of glibc, which sorts text differently" in said, said
    finally:
        for file, text in kept.items():
            file.write_text(text)
    assert contained.cluster.sql("SELECT 1") == [("1",)] and "documents" in contained.answer()
    assert not list(contained.backup_dir.glob("restores/*/*"))


def test_a_one_off_container_is_tried_before_a_restore_and_says_what_its_image_lacks(
    contained: ContainerHost,
) -> None:
    host = load_host(contained.env_file)
    assert why_no_one_off(host) is None
    directory = contained.cluster.directory.with_name("nothing")
    found = why_no_one_off(replace(host, installation=replace(host.installation, data_directory=directory)))
    assert found is not None and f"{directory} is no data directory" in found.sentence
    nowhere = (contained.backup_dir / "postgres", "000000010000000000000001")
    found = why_no_one_off(host, wal=nowhere)
    assert found is not None and "is not a readable WAL archive" in found.sentence
    other = replace(read_catalogue(host.repository).bases[-1], postgresql_version=160004)
    found = why_no_one_off(host, other)
    assert found is not None and "what is to be recovered is of 16.4" in found.sentence


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        (
            "postgres -c max_connections=60 -c shared_buffers=16MB",
            {"max_connections": "60", "shared_buffers": "16MB"},
        ),
        (
            "-N 300 -p 5433 -cmax_prepared_transactions=9",
            {"max_connections": "300", "max_prepared_transactions": "9"},
        ),
        ("docker-entrypoint.sh postgres --config-file=/etc/pg.conf -l", {"config_file": "/etc/pg.conf"}),
        ("sh -c 'sleep 5'", {}),
        ("", {}),
    ],
)
def test_the_settings_of_a_containers_command_are_known(command: str, settings: dict[str, str]) -> None:
    assert server_options(tuple(command.split())) == settings


def test_a_base_backup_of_another_libc_is_refused_for_the_programs_of_the_host(
    contained: ContainerHost,
) -> None:
    host = load_host(contained.env_file)
    name = f"{engine.LABEL}-musl-{os.getpid()}"
    engine.podman("run", "-d", "--name", name, *engine.label(), engine.musl_image(), "sleep", "60")
    try:
        container = look_for_container(str(engine.program()), name)
        assert container is not None and libc_of(host.settings, container) == "musl"
    finally:
        engine.remove("container", name)
    base = replace(read_catalogue(host.repository).bases[-1], libc="musl")
    settings = host.settings.model_copy(update={"pg_container": "", "pg_data_dir": Path("/nowhere")})
    installation = replace(host.installation, data_directory=Path("/nowhere"))
    alone = Host(settings, installation, host.repository)
    assert why_not_started_here(alone, replace(base, libc="glibc")) is None
    found = why_not_started_here(alone, base)
    assert found is not None and "is of a server with musl (image " in found.sentence


INSPECTED = {
    "Name": "/db",
    "Image": "sha256:1",
    "State": {"Running": True, "Pid": 7},
    "Config": {"Env": ["PGDATA=/var/lib/postgresql/18/docker"]},
    "Mounts": [
        {"Type": "tmpfs", "Source": "", "Destination": "/run"},
        {"Type": "volume", "Source": "/v/_data", "Destination": "/var/lib/postgresql"},
    ],
}


def test_the_data_directory_is_the_servers_own_place_below_the_mount() -> None:
    container = parse_inspect("docker", json.dumps([INSPECTED]))
    assert (container.name, container.running, container.pid) == ("db", True, 7)
    assert container.data_directory == Path("/v/_data/18/docker")
    assert container.host_path(Path("/var/lib/mysql")) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no json", "Expecting value"),
        ("[]", "not enough values"),
        (json.dumps([INSPECTED | {"State": {"Running": "yes", "Pid": 7}}]), "Running is missing or no bool"),
        (
            json.dumps([{key: value for key, value in INSPECTED.items() if key != "Image"}]),
            "Image is missing",
        ),
        (json.dumps([INSPECTED | {"Mounts": [{"Source": "/v"}]}]), "Destination is missing"),
    ],
)
def test_what_an_engine_says_is_read_strictly(text: str, words: str) -> None:
    with pytest.raises(HostNotReady, match=f"docker says of a container is not understood: .*{words}"):
        parse_inspect("docker", text)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("PG_CONTAINER=db\nWAL_STREAMING=yes", "ALF_CONTAINERS is missing"),
        ("PG_CONTAINER=db\nALF_CONTAINERS=a", "WAL_STREAMING=no; expected yes"),
        ("PG_CONTAINER=db\nALF_CONTAINERS=a,a\nWAL_STREAMING=yes", "expected different names"),
        ("PG_CONTAINER=--privileged\nALF_CONTAINERS=a\nWAL_STREAMING=yes", "letters, digits"),
        ("PG_CONTAINER=db\nALF_CONTAINERS=a\nWAL_STREAMING=yes\nPG_STOP_COMMAND=x", "PG_STOP_COMMAND is set"),
    ],
)
def test_half_a_description_of_containers_is_refused(tmp_path: Path, lines: str, words: str) -> None:
    env = tmp_path / ".env"
    env.write_text(f"PGHOST=h\nPGUSER=u\nBACKUP_DIR=/b\n{lines}\n")
    env.chmod(0o600)
    with pytest.raises(SettingsError, match=words):
        load_settings(env)
