"""A wrong value of a setting of the upload is named with what is expected; no password is ever shown."""

from pathlib import Path

import pytest

from alfresco_backup.errors import SettingsError
from alfresco_backup.settings.env_file import load_settings

OWN = {
    "ALF_HOST_NAME": "alf1",
    "ALF_BASE_DIR": "/opt/alfresco",
    "BACKUP_DIR": "/backup",
    "PGHOST": "/run",
    "PGUSER": "backup",
    "ALF_API_URL": "http://127.0.0.1:8080/alfresco",
    "ALF_API_USER": "admin",
    "ALF_API_PASSWORD": "correct horse",
}


def env_file(folder: Path, **changes: str) -> Path:
    file = folder / "alf1.env"
    file.write_text("".join(f"{key}='{text}'\n" for key, text in {**OWN, **changes}.items()))
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALF_API_URL", "alfresco.example.com"),
        ("ALF_API_URL", "ftp://alfresco.example.com/alfresco"),
        ("ALF_API_URL", "https:///alfresco"),
        ("ALF_API_URL", "http://[::1/alfresco"),
        ("ALF_API_URL", "http://alf:99999/alfresco"),
        ("ALF_API_URL", "https://admin:correct horse@alf/alfresco"),
        ("ALF_API_URL", "https://alf/alfresco?alf_ticket=correct horse"),
        ("ALF_API_URL", "https://alf/alfresco/api/-default-/public/alfresco/versions/1"),
        ("ALF_API_USER", ""),
        ("ALF_API_PASSWORD", ""),
        ("ALF_API_PASWORD", "correct horse"),
    ],
)
def test_a_wrong_value_is_named_alone(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as wrong:
        load_settings(env_file(tmp_path, **{name: value}))
    assert len(wrong.value.complaints) == 1
    assert wrong.value.complaints[0].startswith(name)
    assert wrong.value.exit_code == 2
    assert "correct horse" not in str(wrong.value)


def test_an_address_is_taken_with_or_without_its_last_slash(tmp_path: Path) -> None:
    settings = load_settings(env_file(tmp_path, ALF_API_URL="https://alf.example.com:8443/alfresco/"))
    assert settings.alf_api_url == "https://alf.example.com:8443/alfresco"
    assert "correct horse" not in repr(settings)


def test_without_an_address_neither_user_nor_password_is_needed(tmp_path: Path) -> None:
    changes = {"ALF_API_URL": "", "ALF_API_USER": "", "ALF_API_PASSWORD": ""}
    assert load_settings(env_file(tmp_path, **changes)).alf_api_url == ""
