"""Settings: every complaint at once, nothing secret shown."""

import logging
import subprocess
from pathlib import Path

import pytest

from alfresco_backup.errors import SettingsError
from alfresco_backup.postgres.database import connection_environment
from alfresco_backup.settings.env_file import load_settings
from alfresco_backup.settings.model import PROJECT_DIRECTORY, Settings
from alfresco_backup.system.accounts import account_for_people, owner_of
from tests.support.planting import as_root, given, other_account, planted

GOOD = {"PGHOST": "localhost", "PGUSER": "alfresco", "BACKUP_DIR": "/backup", "ALF_BASE_DIR": "/opt/alfresco"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def write(path: Path, **values: str) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in (GOOD | values).items()), encoding="utf-8")
    path.chmod(0o600)
    return path


def complaints_about(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_needed_settings_suffice_and_the_rest_has_defaults(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path / "env"))
    assert (settings.pgport, settings.retention_days, settings.minimum_redundancy) == (5432, 7, 2)
    assert settings.alf_host_name


def test_all_wrong_settings_are_named_at_once_with_value_and_expectation(tmp_path: Path) -> None:
    text = complaints_about(
        write(
            tmp_path / "env",
            PGPORT="abc",
            BACKUP_DIR="relative/path",
            RETENTION_DAYS="0",
            SMTP_TYPE="TLS",
            ALF_BASE_DIR="/opt/x/../alfresco",
            BANDWIDTH_LIMIT_MIB="2000",
        )
    )
    assert "6 settings are missing or wrong" in text
    assert "PGPORT='abc'" in text and "port of the PostgreSQL server" in text
    assert "BACKUP_DIR='relative/path': expected an absolute path" in text
    assert "ALF_BASE_DIR='/opt/x/../alfresco': expected a path without `..`" in text
    assert "BANDWIDTH_LIMIT_MIB='2000': expected 0, for none, or 0.04 to 1024" in text
    assert "RETENTION_DAYS='0'" in text and "greater than or equal to 1" in text
    assert "SMTP_TYPE='TLS'" in text and "'STARTTLS'" in text


def test_a_missing_setting_is_named_with_what_it_means(tmp_path: Path) -> None:
    text = complaints_about(write(tmp_path / "env", BACKUP_DIR=""))
    assert "BACKUP_DIR is missing; expected: the repository: where backups are kept" in text


def test_a_misspelt_setting_is_named_with_the_likely_one(tmp_path: Path) -> None:
    text = complaints_about(write(tmp_path / "env", RETENTON_DAYS="3"))
    assert "RETENTON_DAYS: unknown setting" in text and "did you mean RETENTION_DAYS?" in text


def test_settings_of_other_tools_are_left_alone(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path / "env", PREFECT_API_URL="http://127.0.0.1:4200/api", LANG="de"))
    assert settings.backup_dir == Path("/backup")


@pytest.mark.parametrize(
    "name", ["BASE_BACKUP_LIMIT_HOURS", "CONTENTSTORE_LIMIT_HOURS", "RECOVERY_LIMIT_HOURS"]
)
def test_no_limit_for_a_large_copy_may_be_below_a_day(tmp_path: Path, name: str) -> None:
    assert f"{name}='23'" in complaints_about(write(tmp_path / "env", **{name: "23"}))


def test_a_wrong_password_setting_is_not_shown(tmp_path: Path) -> None:
    env = write(tmp_path / "env", PGPASSWORD="geheim-7781", PGPORT="0")
    assert "geheim-7781" not in complaints_about(env)
    env = write(tmp_path / "env", PGPASSWORD="geheim-7781")
    settings = load_settings(env)
    assert settings.pgpassword.get_secret_value() == "geheim-7781"
    assert "geheim-7781" not in repr(settings) and "geheim-7781" not in str(settings.model_dump())


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETENTION_DAYS", "30")
    assert load_settings(write(tmp_path / "env", RETENTION_DAYS="5")).retention_days == 30


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    text = complaints_about(tmp_path / "nowhere.env")
    assert "this settings file does not exist" in text and ".env.example" in text


def test_a_readable_file_is_a_warning_with_the_command_that_fixes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    env = write(tmp_path / "env")
    env.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        load_settings(env)
    assert f"chmod 600 {env}" in caplog.text
    caplog.clear()
    env.chmod(0o600)
    load_settings(env)
    assert not caplog.text


def test_further_stores_and_mail_addresses_are_lists_with_names(tmp_path: Path) -> None:
    settings = load_settings(
        write(tmp_path / "env", EXTRA_CONTENT_DIRS="deleted=/a,old=/b", ALERT_EMAIL="a@x.de, b@x.de")
    )
    assert settings.extra_content_dirs == {"deleted": Path("/a"), "old": Path("/b")}
    assert settings.alert_email == ("a@x.de", "b@x.de")
    assert "name=/absolute/path" in complaints_about(write(tmp_path / "env", EXTRA_CONTENT_DIRS="/a"))


def test_of_two_further_stores_with_one_name_none_is_left_out_silently(tmp_path: Path) -> None:
    text = complaints_about(write(tmp_path / "env", EXTRA_CONTENT_DIRS="old=/a,old=/b"))
    assert "EXTRA_CONTENT_DIRS='old=/a,old=/b': expected a different name for each path" in text


@pytest.mark.parametrize("name", ["SOLR_BACKUP_DIRS", "SOLR_INDEX_DIRS", "TOMCAT_PID_FILE"])
def test_no_place_depends_on_where_a_program_is_started(tmp_path: Path, name: str) -> None:
    text = complaints_about(write(tmp_path / "env", **{name: "alf_data/x"}))
    assert f"{name}='alf_data/x': expected an absolute path" in text
    assert "a path without `..`" in complaints_about(write(tmp_path / "env", **{name: "/opt/../x"}))


def test_a_number_without_end_is_refused(tmp_path: Path) -> None:
    text = complaints_about(write(tmp_path / "env", HOT_WINDOW_HOURS="inf", ZSTD_LEVEL="inf"))
    assert "HOT_WINDOW_HOURS='inf': should be a finite number" in text and "ZSTD_LEVEL='inf'" in text


def test_the_example_names_every_setting_and_its_default_values_are_accepted(tmp_path: Path) -> None:
    example = (PROJECT_DIRECTORY / ".env.example").read_text(encoding="utf-8")
    missing = [name for name in Settings.model_fields if f"{name.upper()}=" not in example]
    assert missing == []
    uncommented = "\n".join(
        line.removeprefix("#") if line.startswith("#") and line[1:2].isupper() and "=" in line else line
        for line in example.splitlines()
    )
    (tmp_path / "env").write_text(uncommented, encoding="utf-8")
    given = load_settings(tmp_path / "env").model_dump()
    bare = load_settings(write(tmp_path / "bare")).model_dump()
    differing = {name for name in given if given[name] != bare[name]}
    assert differing <= {"alf_base_dir", "backup_dir", "pghost", "pguser"}


def test_a_line_that_is_not_understood_is_an_error_and_no_default(tmp_path: Path) -> None:
    path = write(tmp_path / "env")
    path.write_text(path.read_text() + "RETENTION_DAYS 30\nMINIMUM_REDUNDANCY\nPGPASSWORD='it's 7781'\n")
    text = complaints_about(path)
    assert "3 settings are missing or wrong" in text
    for line, name in ((5, "RETENTION_DAYS"), (6, "MINIMUM_REDUNDANCY"), (7, "PGPASSWORD")):
        assert f"line {line} of {path}, {name}…, is not understood; expected NAME=value" in text
    assert "7781" not in text


def test_a_setting_that_is_set_twice_to_different_values_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "env")
    path.write_text(path.read_text() + "RETENTION_DAYS=30\nRETENTION_DAYS=7\nPGUSER=alfresco\n")
    text = complaints_about(path)
    assert "1 setting is missing or wrong" in text
    assert f"RETENTION_DAYS is set twice in {path}, to different values" in text


@pytest.mark.parametrize(
    ("written", "password"),
    [
        (r"""'it\'s #1 $HOME "x"'""", """it's #1 $HOME "x\""""),
        (r"'back\\slash'", r"back\slash"),
        ("plain$1", "plain$1"),
    ],
)
def test_passwords_with_quotes_and_signs_can_be_written(tmp_path: Path, written: str, password: str) -> None:
    settings = load_settings(write(tmp_path / "env", PGPASSWORD=written))
    assert settings.pgpassword.get_secret_value() == password


def test_an_empty_variable_of_the_environment_does_not_undo_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETENTION_DAYS", "")
    assert load_settings(write(tmp_path / "env", RETENTION_DAYS="30")).retention_days == 30


def test_a_password_that_would_be_cut_off_at_a_comment_sign_is_an_error(tmp_path: Path) -> None:
    text = complaints_about(write(tmp_path / "env", PGPASSWORD="it's #1"))
    assert "PGPASSWORD: ' #' begins a comment" in text and "it's" not in text


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to_is_refused_with_owner_mode_and_command(
    tmp_path: Path, mode: int
) -> None:
    env = write(tmp_path / "env")
    env.chmod(mode)
    with pytest.raises(SettingsError) as refusal:
        load_settings(env)
    owner = account_for_people(owner_of(env))
    assert f"{env} belongs to {owner} and has mode {mode:04o}; another account can change" in str(
        refusal.value
    )
    assert refusal.value.hint == f"chmod go-w {env}"
    subprocess.run(["sh", "-c", refusal.value.hint], check=True)
    load_settings(env)


@as_root
@pytest.mark.parametrize("account", ["nobody", "postgres"])
def test_a_file_of_another_account_is_refused_for_root_and_read_once_it_is_roots(
    tmp_path: Path, account: str
) -> None:
    env = given(write(tmp_path / "env"), other_account(account))
    env.chmod(0o660)
    with pytest.raises(SettingsError, match=f"{env} belongs to {account}:.* and has mode 0660") as refusal:
        load_settings(env)
    assert refusal.value.hint == f"chown root {env} && chmod go-w {env}"
    subprocess.run(["sh", "-c", refusal.value.hint], check=True)
    assert (env.owner(), env.stat().st_mode & 0o777) == ("root", 0o640)
    load_settings(env)


@as_root
def test_a_link_of_another_account_to_a_settings_file_is_refused(tmp_path: Path) -> None:
    link = planted(tmp_path / "link", write(tmp_path / "env"), other_account())
    with pytest.raises(SettingsError, match="a link of the account nobody is on this path"):
        load_settings(link)


def test_what_says_how_to_connect_is_taken_from_file_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    env = write(tmp_path / "env", PGSSLMODE="require", PGSSLROOTCERT="/etc/ca.crt", PGREQUIREAUTH="")
    settings = load_settings(env)
    assert settings.libpq == {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/etc/ca.crt"}
    copied = settings.model_copy(update={"pgport": 1})  # as a drill's
    environment = connection_environment(copied)
    assert (environment["PGSSLMODE"], environment["PGPORT"]) == ("verify-full", "1")
    assert "PGHOSTADDR" not in environment


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PGHOSTADDR", "it is not passed on to PostgreSQL's programs; remove it"),
        ("PGSSLMOD", "did you mean PGSSLMODE?"),
        ("PGTHING", "no variable of PostgreSQL's programs"),
    ],
)
def test_a_name_of_libpqs_kind_that_would_have_no_effect_is_refused(
    tmp_path: Path, name: str, said: str
) -> None:
    text = complaints_about(write(tmp_path / "env", **{name: "x"}))
    assert f"{name}" in text and said in text
