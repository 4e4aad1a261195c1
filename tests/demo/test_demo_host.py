"""The demo host: what the other tests stand on must be as real as it says."""

import stat
from datetime import datetime
from pathlib import Path

import pytest

from alfresco_backup.errors import ToolFailed
from alfresco_backup.host.installation import find_installation
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.system.processes import Command, run
from demo.cluster import client_bindir
from demo.documents import url_key
from demo.host import DemoHost
from demo.state import DATABASE
from tests.support.common import every_version, wait_until

DESCRIPTOR = """
SELECT u.content_url FROM alf_content_url u JOIN alf_content_data d ON d.content_url_id = u.id
  JOIN alf_node_properties p ON p.long_value = d.id JOIN alf_qname q ON q.id = p.qname_id
 WHERE q.local_name = 'versionProperties'"""


def count(host: DemoHost, query: str) -> int:
    return int(host.cluster.sql(f"SELECT count(*) FROM {query}", DATABASE)[0][0])


def test_every_live_document_has_its_file_byte_for_byte(shared_demo_host: DemoHost) -> None:
    state = shared_demo_host.read_state()
    assert len(state.live_documents()) > 250
    assert shared_demo_host.missing_documents(state) == []


def test_a_missing_and_a_changed_file_are_noticed(demo_host: DemoHost) -> None:
    first, second = demo_host.writer.add(2).documents
    store = demo_host.layout.contentstore
    (store / first.path).unlink()
    (store / second.path).write_bytes(b"x" * second.size)
    assert sorted(demo_host.missing_documents(demo_host.read_state())) == sorted([first.url, second.url])


def test_the_url_keys_are_as_alfresco_makes_them(shared_demo_host: DemoHost) -> None:
    assert url_key("store://2024/1/2/3/4/0b7f5d3F6A11.bin")[0] == "5d3f6a11.bin"
    assert url_key("123456789")[1] == 0xCBF43926, "the check value of CRC-32"
    rows = shared_demo_host.read_state().tables["alf_content_url"].values()
    for row in rows:
        short, checksum = url_key(row[1])
        assert row[2:4] == (short, str(checksum))


def test_the_odd_cases_of_real_databases_are_there(shared_demo_host: DemoHost) -> None:
    host = shared_demo_host
    unused = "NOT EXISTS (SELECT 1 FROM alf_content_data d WHERE d.content_url_id = u.id)"
    assert count(host, f"alf_content_url u WHERE {unused} AND orphan_time > 0") > 0
    assert count(host, f"alf_content_url u WHERE {unused} AND orphan_time = 0") > 0
    assert count(host, f"alf_content_url u WHERE NOT ({unused}) AND orphan_time IS NOT NULL") > 0
    assert count(host, "alf_content_url WHERE content_size = 0") > 0
    assert count(host, "alf_content_url WHERE content_url LIKE 'spoof://%'") > 0
    assert count(host, "alf_content_url_encryption") > 0
    assert count(host, "alf_node n JOIN alf_store s ON s.id = n.store_id WHERE s.protocol = 'archive'") > 0
    shared = "SELECT content_url_id FROM alf_content_data GROUP BY 1 HAVING count(*) > 1"
    assert count(host, f"({shared}) AS shared") > 0
    named = {document.path for document in host.read_state().documents()}
    store = host.layout.contentstore
    assert any(str(path.relative_to(store)) not in named for path in store.rglob("*.bin"))


def test_encrypted_files_are_larger_than_their_rows_say(shared_demo_host: DemoHost) -> None:
    store = shared_demo_host.layout.contentstore
    encrypted = [
        document for document in shared_demo_host.read_state().live_documents() if document.encrypted
    ]
    assert encrypted
    for document in encrypted:
        assert (store / document.path).stat().st_size == document.size + 16


def test_files_and_directories_are_dated_as_their_paths_say(shared_demo_host: DemoHost) -> None:
    store = shared_demo_host.layout.contentstore
    years = {int(entry.name) for entry in store.iterdir()}
    assert len(years) >= 4
    for minute in store.glob("*/*/*/*/*"):
        year, month, day, hour, minutes = (int(part) for part in minute.relative_to(store).parts)
        local = datetime.fromtimestamp(minute.stat().st_mtime).astimezone()
        assert (local.year, local.month, local.day, local.minute) == (year, month, day, minutes)
        assert minute.relative_to(store).parts[3] == str(hour)


def test_the_control_script_starts_and_stops_both_in_their_order(demo_host: DemoHost) -> None:
    assert demo_host.control("status") == "tomcat already running\npostgresql already running\n"
    stopped = demo_host.stop().splitlines()
    assert [line.rpartition(" : ")[2] for line in stopped] == ["tomcat stopped", "postgresql stopped"]
    assert demo_host.control("status") == "tomcat not running\npostgresql not running\n"
    assert not demo_host.layout.pid_file.exists()
    assert not demo_host.cluster.running
    again = demo_host.stop().splitlines()
    assert [line.rpartition(" : ")[2] for line in again] == ["tomcat not running", "postgresql not running"]
    demo_host.start("postgresql")
    assert demo_host.control("status") == "tomcat not running\npostgresql already running\n"
    demo_host.start()
    pid = int(demo_host.layout.pid_file.read_text())
    assert Path(f"/proc/{pid}").exists()
    assert demo_host.answer().endswith(" documents")


@pytest.mark.parametrize("words", [("start", "postgres"), ("stop-tomcat", ""), ("", "")])
def test_an_unknown_component_prints_help_and_fails(
    shared_demo_host: DemoHost, words: tuple[str, str]
) -> None:
    argv = (str(shared_demo_host.layout.control_script), *filter(None, words))
    with pytest.raises(ToolFailed, match="exit code 1") as failed:
        run(Command(argv, 20))
    assert "(start|stop|restart|status) [postgresql|tomcat]" in failed.value.tail
    assert shared_demo_host.control("status", "tomcat") == "tomcat already running\n"


def test_the_stand_in_refuses_to_start_without_the_system_descriptor(demo_host: DemoHost) -> None:
    ((url,),) = demo_host.cluster.sql(DESCRIPTOR, DATABASE)
    demo_host.stop("tomcat")
    (demo_host.layout.contentstore / url.removeprefix("store://")).unlink()
    with pytest.raises(ToolFailed) as failed:
        demo_host.start("tomcat")
    assert f"CONTENT INTEGRITY ERROR: System content not found in content store: '{url}'" in failed.value.tail
    assert demo_host.control("status", "tomcat") == "tomcat not running\n"


def test_the_stand_in_refuses_to_start_without_the_database(demo_host: DemoHost) -> None:
    demo_host.stop()
    with pytest.raises(ToolFailed, match="the database does not answer"):
        demo_host.start("tomcat")


def test_the_settings_file_is_complete_and_closed_to_others(shared_demo_host: DemoHost) -> None:
    host = shared_demo_host
    assert stat.S_IMODE(host.env_file.stat().st_mode) == 0o600
    settings = load_settings(host.env_file)
    assert settings.alf_base_dir == host.home
    assert settings.pgport == host.cluster.port
    assert settings.superuser_password.get_secret_value() == host.cluster.password
    environment = host.cluster.environment(settings.pguser, settings.pgpassword.get_secret_value())
    argv = (*host.cluster.psql_argv(settings.pgdatabase), "-c", "SELECT current_user")
    assert run(Command(argv, 20, environment), keep_output=True).output.strip() == "alfresco"


def test_a_wrong_password_is_refused_also_for_replication(shared_demo_host: DemoHost) -> None:
    psql = str(client_bindir(shared_demo_host.cluster.bindir) / "psql")
    environment = shared_demo_host.cluster.environment("alfresco", "wrong")
    for database, query in (("dbname=alfresco", "SELECT 1"), ("replication=true", "IDENTIFY_SYSTEM")):
        with pytest.raises(ToolFailed, match="password authentication failed"):
            run(Command((psql, "-X", "-d", database, "-c", query), 20, environment))


def test_the_installation_is_found_through_the_dirty_properties(shared_demo_host: DemoHost) -> None:
    installation = find_installation(load_settings(shared_demo_host.env_file))
    layout = shared_demo_host.layout
    assert "//" in layout.properties.read_text(encoding="latin-1")
    assert installation.data_directory == layout.data_directory
    assert installation.store == layout.contentstore
    assert installation.keystore == layout.keystore
    assert installation.control_script == layout.control_script
    assert installation.tomcat_pid_file == layout.pid_file
    assert installation.orphan_protect_days == 14
    assert len(installation.solr_backups) == 2
    assert len(installation.solr_indexes) == 4


@every_version
def test_a_host_of_each_version_archives_its_wal(demo_host: DemoHost) -> None:
    archived = demo_host.wal_archive / "000000010000000000000001.zst"
    demo_host.cluster.sql(f"SELECT {facts_of(demo_host.cluster.version).switch_wal}()")
    wait_until(archived.exists, "the first segment is in the archive")
    control = run(Command(("zstd", "-q", "-d", "-c", str(archived)), 20), keep_output=True)
    assert len(control.output) > 1_000_000
    assert demo_host.cluster.sql("SELECT failed_count FROM pg_stat_archiver") == [("0",)]


def test_a_replacement_host_has_the_ports_and_the_repository_but_no_data(demo_host: DemoHost) -> None:
    demo_host.stop()
    other = DemoHost.install(demo_host.directory.parent / "other", like=demo_host)
    assert other.cluster.port == demo_host.cluster.port
    assert other.tomcat_port == demo_host.tomcat_port
    assert other.backup_dir.samefile(demo_host.backup_dir)
    assert not other.layout.data_directory.exists()
    assert not list(other.layout.contentstore.iterdir())


def test_a_wiped_host_keeps_its_programs_and_its_backups(demo_host: DemoHost) -> None:
    demo_host.wipe()
    assert not demo_host.layout.data_directory.exists()
    assert not demo_host.layout.contentstore.exists()
    assert not demo_host.layout.properties.exists()
    assert demo_host.layout.control_script.exists()
    assert demo_host.wal_archive.is_dir()


def test_a_host_can_be_opened_again(demo_host: DemoHost) -> None:
    demo_host.stop()
    again = DemoHost.open(demo_host.directory)
    again.start()
    assert again.cluster.port == demo_host.cluster.port
    again.writer.add()
    assert again.writer.state.difference(again.read_state()) == []
    again.writer.close()
