"""A wrong value of a setting of the off-site copy is named with what is expected; nothing is asked then."""

from pathlib import Path

import pytest

from alfresco_backup.errors import SettingsError
from alfresco_backup.settings.commands import far_space_command, sftp_command
from alfresco_backup.settings.env_file import load_settings

OWN = {
    "ALF_HOST_NAME": "alf1",
    "ALF_BASE_DIR": "/opt/alfresco",
    "BACKUP_DIR": "/backup",
    "PGHOST": "/run",
    "PGUSER": "backup",
    "OFFSITE_REPOSITORY": "/mnt/other/alf1",
    "OFFSITE_PASSWORD": "correct horse",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OFFSITE_REPOSITORY", "other/alf1"),
        ("OFFSITE_REPOSITORY", "ftp://nas/alf1"),
        ("OFFSITE_PASSWORD", ""),
        ("OFFSITE_PASSWORD_FILE", "password"),
        ("OFFSITE_BANDWIDTH_LIMIT_KIB", "-1"),
        ("OFFSITE_WAL_MINUTES", "0"),
        ("OFFSITE_WAL_MINUTES", "five"),
        ("OFFSITE_GRACE_DAYS", "-3"),
        ("OFFSITE_PRUNE", "sometimes"),
        ("OFFSITE_CHECK_CYCLE", "0"),
        ("OFFSITE_PASWORD", "correct horse"),
    ],
)
def test_a_wrong_value_is_named_alone(name: str, value: str, tmp_path: Path) -> None:
    file = tmp_path / "alf1.env"
    file.write_text("".join(f"{key}='{text}'\n" for key, text in {**OWN, name: value}.items()))
    file.chmod(0o600)
    with pytest.raises(SettingsError) as wrong:
        load_settings(file)
    assert len(wrong.value.complaints) == 1
    assert wrong.value.complaints[0].startswith(name)
    assert wrong.value.exit_code == 2
    assert "correct horse" not in str(wrong.value)


@pytest.mark.parametrize(
    ("repository", "target"),
    [
        ("sftp:nas:/backup/alf1", "nas"),
        ("sftp:backup@nas:alf1", "backup@nas"),
        ("sftp://backup@nas:2222//backup/alf1", "-P 2222 backup@nas"),
        ("sftp://nas//backup/alf1", "nas"),
    ],
)
def test_what_to_type_for_sftp_goes_where_restic_goes(repository: str, target: str) -> None:
    assert sftp_command(repository) == f"sftp -b /dev/null {target}"
    assert far_space_command(repository) == f"echo df -h | sftp -b - {target}"
