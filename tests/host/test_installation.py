"""Finding an installation: dirty properties, both places of the data directory, own paths by settings."""

import os
from pathlib import Path

import pytest

from alfresco_backup.errors import HostNotReady, SettingsError, ToolFailed
from alfresco_backup.host.alfresco_files import alfresco_files, unreadable_keystores
from alfresco_backup.host.installation import find_installation
from alfresco_backup.host.properties import parse_properties, resolve
from alfresco_backup.postgres.programs import data_directory_version, find_programs
from alfresco_backup.preflight.rules import judge_absent_places
from alfresco_backup.settings.model import Settings

DIRTY = (
    "# installer\r\n"
    "dir.root=/opt//alfresco/alf_data\r\n"
    "dir.contentstore=${dir.root}/contentstore\n"
    "  spaced.key : a value \\\n     that goes on\n"
    "unicode=\\u00e4\\tb\n"
    "loop.a=${loop.b}\nloop.b=${loop.a}\n"
    "missing=${not.there}/x\n"
    "!comment\n"
    "novalue\n"
    "dir.root=/later/wins\n"
)


def test_dirty_properties_are_read_by_java_rules() -> None:
    values = parse_properties(DIRTY)
    assert values["dir.root"] == "/later/wins"
    assert values["spaced.key"] == "a value that goes on"
    assert values["unicode"] == "ä\tb"
    assert values["novalue"] == ""
    assert resolve(values, "dir.contentstore") == "/later/wins/contentstore"


def test_references_that_cannot_be_resolved_are_nothing() -> None:
    values = parse_properties(DIRTY)
    assert resolve(values, "missing") is None
    assert resolve(values, "loop.a") is None
    assert resolve(values, "absent") is None


def settings_for(home: Path, **more: object) -> Settings:
    return Settings.model_validate(
        {"pghost": "x", "pguser": "x", "backup_dir": "/backup", "alf_base_dir": str(home), **more}
    )


def make_home(home: Path, properties: str) -> None:
    (home / "tomcat/shared/classes").mkdir(parents=True)
    (home / "tomcat/shared/classes/alfresco-global.properties").write_text(properties)
    for name in (
        "contentstore",
        "keystore",
        "postgresql",
        "solr4Backup/alfresco",
        "solr4/index/workspace/SpacesStore",
    ):
        (home / "alf_data" / name).mkdir(parents=True)


def test_an_installers_home_is_found_with_all_its_places(tmp_path: Path) -> None:
    make_home(tmp_path, f"dir.root={tmp_path}//alf_data\nsystem.content.orphanProtectDays=3\n")
    (tmp_path / "alfresco.sh").touch()
    (tmp_path / "alf_data/postgresql/PG_VERSION").write_text("9.4\n")
    found = find_installation(settings_for(tmp_path))
    assert found.data_directory == tmp_path / "alf_data/postgresql"
    assert found.store == tmp_path / "alf_data/contentstore"
    assert found.keystore == tmp_path / "alf_data/keystore"
    assert found.control_script == tmp_path / "alfresco.sh"
    assert found.solr_backups == (tmp_path / "alf_data/solr4Backup/alfresco",)
    assert found.solr_indexes == (tmp_path / "alf_data/solr4/index/workspace/SpacesStore",)
    assert found.orphan_protect_days == 3
    assert data_directory_version(found.data_directory) == 90400


def test_properties_about_orphans_may_refer_to_others(tmp_path: Path) -> None:
    make_home(
        tmp_path,
        "keep.days=5\nyes=TRUE\nsystem.content.orphanProtectDays=${keep.days}\n"
        "system.content.eagerOrphanCleanup=${yes}\n",
    )
    found = find_installation(settings_for(tmp_path))
    assert (found.orphan_protect_days, found.eager_cleanup) == (5, True)
    properties = tmp_path / "tomcat/shared/classes/alfresco-global.properties"
    properties.write_text("system.content.orphanProtectDays=${nowhere}\n")
    found = find_installation(settings_for(tmp_path))
    assert (found.orphan_protect_days, found.eager_cleanup) == (14, False)


def test_a_data_directory_below_is_found_too(tmp_path: Path) -> None:
    make_home(tmp_path, "")
    (tmp_path / "alf_data/postgresql/data").mkdir()
    (tmp_path / "alf_data/postgresql/data/PG_VERSION").write_text("15\n")
    found = find_installation(settings_for(tmp_path))
    assert found.data_directory == tmp_path / "alf_data/postgresql/data"


def test_a_property_that_names_no_directory_falls_back_to_the_usual_place(tmp_path: Path) -> None:
    make_home(
        tmp_path, "dir.root=/opt/alfresco/alf_datadb.driver=org.postgresql.Driver\ndir.keystore=${gone}\n"
    )
    found = find_installation(settings_for(tmp_path))
    assert found.store == tmp_path / "alf_data/contentstore"
    assert found.keystore == tmp_path / "alf_data/keystore"


def test_settings_name_places_of_an_installation_without_embedded_postgresql(tmp_path: Path) -> None:
    store, data = tmp_path / "srv/content", tmp_path / "var/lib/pg"
    found = find_installation(
        settings_for(
            tmp_path,
            contentstore_dir=str(store),
            pg_data_dir=str(data),
            extra_content_dirs=f"deleted={tmp_path}/deleted",
        )
    )
    assert (found.store, found.data_directory) == (store, data)
    assert found.stores == {"contentstore": store, "deleted": tmp_path / "deleted"}


@pytest.mark.parametrize(
    ("line", "folder", "expected"),
    [
        ("", "alf_data/contentstore.deleted", "old"),
        ("dir.contentstore.deleted=${dir.root}/gone", "alf_data/gone", "old"),
        ("dir.contentstore.deleted=${dir.root}/gone", "alf_data/contentstore.deleted", ""),
        ("", "alf_data/second", ""),
    ],
    ids=["usual name", "named", "another is named", "none"],
)
def test_the_store_of_deleted_content_is_known_by_its_property_or_its_usual_name(
    tmp_path: Path, line: str, folder: str, expected: str
) -> None:
    classes = tmp_path / "tomcat/shared/classes"
    classes.mkdir(parents=True)
    root = f"dir.root={tmp_path}/alf_data"
    (classes / "alfresco-global.properties").write_text(f"{root}\n{line}\n")
    found = find_installation(settings_for(tmp_path, extra_content_dirs=f"old={tmp_path}/{folder}"))
    assert found.deleted_store == expected


def test_the_settings_folder_of_programs_comes_first_then_the_installations_own(tmp_path: Path) -> None:
    for folder, version in (("own/bin", "15.1"), ("postgresql/bin", "9.4.26")):
        (tmp_path / folder).mkdir(parents=True)
        program = tmp_path / folder / "pg_basebackup"
        program.write_text(f"#!/bin/sh\necho 'pg_basebackup (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    found = find_programs(settings_for(tmp_path, pg_bindir=str(tmp_path / "own/bin")), "pg_basebackup")
    assert [(item.directory, item.version) for item in found[:2]] == [
        (tmp_path / "own/bin", 150001),
        (tmp_path / "postgresql/bin", 90426),
    ]


def test_a_folder_that_is_no_data_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostNotReady, match="is not a PostgreSQL data directory that can be read"):
        data_directory_version(tmp_path)


def test_a_store_that_is_named_but_not_mounted_is_told_from_an_old_one_in_the_usual_place(
    tmp_path: Path,
) -> None:
    make_home(tmp_path, "dir.root=./alf_data\ndir.contentstore=/not/mounted/store\n")
    found = find_installation(settings_for(tmp_path))
    assert found.named_but_absent == (("dir.contentstore", "/not/mounted/store"),)
    (finding,) = judge_absent_places(found.named_but_absent, found.store)
    assert (
        finding.level == "error"
        and f"{tmp_path}/alf_data/contentstore would be backed up" in finding.sentence
    )
    mount, edit = finding.fix.splitlines()
    assert mount == "mount /not/mounted/store" and ": CONTENTSTORE_DIR=..." in edit
    told = find_installation(settings_for(tmp_path, contentstore_dir=tmp_path / "alf_data/contentstore"))
    assert told.named_but_absent == ()


def test_two_solr_backups_of_the_same_name_both_belong_to_a_set(tmp_path: Path) -> None:
    make_home(tmp_path, "")
    folders = [tmp_path / "a/backup/alfresco", tmp_path / "b/backup/alfresco"]
    for folder in folders:
        folder.mkdir(parents=True)
    found = find_installation(settings_for(tmp_path, solr_backup_dirs=",".join(map(str, folders))))
    assert set(folders) <= set(found.configuration_parts.values())


def test_a_servers_configuration_outside_its_data_directory_belongs_to_a_set(tmp_path: Path) -> None:
    make_home(tmp_path, "")
    data, conf = tmp_path / "alf_data/postgresql", tmp_path / "etc/postgresql/15/main"
    conf.mkdir(parents=True)
    started = f'/usr/lib/postgresql/15/bin/postgres "-D" "{data}" "-c" "config_file={conf}/postgresql.conf"\n'
    (data / "postmaster.opts").write_text(started)
    assert "postgresql" not in find_installation(settings_for(tmp_path)).configuration_parts
    (conf / "pg_hba.conf").write_text("local all all peer\n")
    assert find_installation(settings_for(tmp_path)).configuration_parts["postgresql"] == conf
    (data / "postmaster.opts").write_text(f'/usr/lib/postgresql/15/bin/postgres "-D" "{data}"\n')
    assert "postgresql" not in find_installation(settings_for(tmp_path)).configuration_parts


def test_a_folder_of_programs_without_any_is_wrong_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for wrong in ("empty", "absent"):
        settings = settings_for(tmp_path, pg_bindir=str(tmp_path / wrong))
        with pytest.raises(
            SettingsError, match=f"PG_BINDIR={tmp_path}/{wrong}: expected a folder with PostgreSQL's"
        ):
            find_programs(settings, "psql")


def test_a_place_that_may_not_be_looked_at_is_named_with_who_may(reachable_path: Path) -> None:
    make_home(reachable_path, "dir.root=" + str(reachable_path / "alf_data"))
    closed = reachable_path / "alf_data/postgresql"
    closed.chmod(0)
    settings, account = settings_for(reachable_path), os.geteuid()
    if account == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(HostNotReady) as caught:
            find_installation(settings)
    finally:
        os.seteuid(account)
        closed.chmod(0o700)
    assert caught.value.message == f"{closed}/data/PG_VERSION cannot be read: Permission denied"
    assert caught.value.hint == f"namei -l {closed}/data/PG_VERSION  # run it as root or as its owner"


def test_programs_that_do_not_start_are_passed_over_unless_they_are_all_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old installation's, whose libraries an upgrade of the system has taken away."""
    broken, good = tmp_path / "postgresql/bin/pg_odd", tmp_path / "bin/pg_odd"
    for program, does in ((broken, "echo libssl.so.1.0.0 is missing; exit 127"), (good, "exit 1")):
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)
    with pytest.raises(ToolFailed, match=r"libssl\.so\.1\.0\.0 is missing"):
        find_programs(settings_for(tmp_path), "pg_odd")
    good.write_text("#!/bin/sh\necho 'pg_odd (PostgreSQL) 15.1'\n")
    monkeypatch.setenv("PATH", f"{good.parent}:{os.environ['PATH']}")
    assert [item.version for item in find_programs(settings_for(tmp_path), "pg_odd")] == [150001]
    with pytest.raises(ToolFailed, match=r"libssl\.so\.1\.0\.0 is missing"):
        find_programs(settings_for(tmp_path, pg_bindir=str(broken.parent)), "pg_odd")


def test_the_folder_of_the_tenants_stores_is_a_store_by_itself_unless_it_is_in_one(tmp_path: Path) -> None:
    make_home(tmp_path, f"dir.root={tmp_path}/alf_data\ndir.contentstore.tenants=${{dir.root}}/tenants\n")
    tenants = tmp_path / "alf_data/tenants"
    found = find_installation(settings_for(tmp_path))
    assert list(found.stores) == ["contentstore"]
    (absent,) = judge_absent_places(found.named_but_absent, found.store)
    assert (absent.level, absent.subject) == ("warning", "dir.contentstore.tenants")
    tenants.mkdir()
    assert find_installation(settings_for(tmp_path)).stores["tenants"] == tenants
    named = settings_for(tmp_path, extra_content_dirs={"mt": tenants})
    assert list(find_installation(named).stores) == ["contentstore", "mt"]


def test_keystores_elsewhere_and_what_names_their_passwords_are_found(tmp_path: Path) -> None:
    outside = tmp_path / "secrets"
    make_home(
        tmp_path,
        f"dir.keystore={tmp_path}/alf_data/keystore\n"
        "encryption.keystore.location=${dir.keystore}/keystore\n"
        f"cryptodoc.jce.keystore.path={outside}/master.jks\n"
        f"encryption.ssl.truststore.location=file:{outside}/x/../ssl.truststore\n"
        f"encryption.keystore.type={outside}/JCEKS\n",
    )
    outside.mkdir()
    (outside / "master.jks").write_bytes(b"\xfe\xed\xfe\xed")
    unit = tmp_path / "machine/etc/systemd/system/tomcat.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("Environment=JAVA_TOOL_OPTIONS=-Dmetadata-keystore.metadata.password=x\n")
    unit.with_name("other.service").write_text("Environment=PASSWORD=x\n")
    found = find_installation(settings_for(tmp_path))
    assert list(alfresco_files(found, tmp_path / "machine")) == [outside / "master.jks", unit]
    assert unreadable_keystores(found) == {"encryption.ssl.truststore.location": outside / "ssl.truststore"}
