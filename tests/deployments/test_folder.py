"""A directory of `.env` files: each is judged, all are named, and none is deployed beside a bad one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from alfresco_backup.__main__ import main
from alfresco_backup.errors import SettingsError
from deployments.folder import name_server, read_folder

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a host's `.env` into a directory; nothing of the environment counts, and it stays as it was."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in [name for name in os.environ if name.startswith(("PREFECT_API_", "ALF"))]:
        monkeypatch.delenv(name)
    (tmp_path / "etc").mkdir()

    def written(name: str, **values: object) -> Path:
        given: dict[str, object] = {"PGHOST": "localhost", "PGUSER": "alfresco", "ALF_HOST_NAME": name}
        given |= {"BACKUP_DIR": "/backup", "ALF_BASE_DIR": "/opt/alf", **values}
        file = tmp_path / "etc" / f"{name}.env"
        file.touch(0o600)
        file.write_text("".join(f"{key}={value}\n" for key, value in given.items() if value != ""))
        return file

    return written


def complaints_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read_folder(folder)
    return caught.value.complaints


def test_each_file_is_a_host_but_those_that_only_name_a_server(write: Write, tmp_path: Path) -> None:
    files = [write("alf1"), write("alf2")]
    for name in ("fleet.env", "prefect-server.env"):
        (tmp_path / "etc" / name).write_text("PREFECT_SERVER_API_AUTH_STRING=admin:x\n")
    (tmp_path / "etc/alf1.env.repository").write_text("{}")
    (tmp_path / "etc/old.env").mkdir()
    found = read_folder(tmp_path / "etc")
    assert {file: settings.alf_host_name for file, settings in found.items()} == dict(
        zip(files, ("alf1", "alf2"), strict=True)
    )


def test_every_bad_file_is_named_beside_the_good_ones(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("alf1")
    write("alf2", PGUSER="")
    write("alf3").chmod(0o622)
    (tmp_path / "etc/alf4.env").touch(0o600)
    (tmp_path / "etc/alf5.env").symlink_to(tmp_path / "nowhere")
    write("alf6", NIGHTLY_TIME="25:00")
    complaints = complaints_of(tmp_path / "etc")
    named = [complaint.split(":")[0] for complaint in complaints]
    assert list(dict.fromkeys(named)) == [f"alf{number}.env" for number in range(2, 7)]
    assert any("PGUSER is missing" in complaint for complaint in complaints)
    assert any("mode 0622; another account can change" in complaint for complaint in complaints)
    assert any("NIGHTLY_TIME='25:00'" in complaint for complaint in complaints)
    assert main(["deploy", "--env", str(tmp_path / "etc")]) == SettingsError.exit_code
    assert "alf2.env: PGUSER is missing" in capsys.readouterr().err


def test_a_directory_without_hosts_is_refused(tmp_path: Path) -> None:
    assert complaints_of(tmp_path)[0].startswith(f"{tmp_path} contains no host's settings")


@pytest.mark.parametrize("other", ["alf-1", "ALF.1"])
def test_two_files_of_one_name_are_refused_by_name(write: Write, tmp_path: Path, other: str) -> None:
    write("a", ALF_HOST_NAME="alf-1")
    write("b", ALF_HOST_NAME=other)
    assert complaints_of(tmp_path / "etc") == (
        f"a.env and b.env: ALF_HOST_NAME={', '.join(dict.fromkeys(('alf-1', other)))}: "
        "each host needs a name of its own",
    )


def test_two_hosts_of_this_machine_need_a_repository_each(write: Write, tmp_path: Path) -> None:
    homes = [tmp_path / "alf1", tmp_path / "alf2"]
    (tmp_path / "backup").mkdir()
    (tmp_path / "same").symlink_to(tmp_path / "backup")
    write("alf1", ALF_BASE_DIR=homes[0], BACKUP_DIR=tmp_path / "backup")
    write("alf2", ALF_BASE_DIR=homes[1], BACKUP_DIR=tmp_path / "same")
    assert len(read_folder(tmp_path / "etc")) == 2  # homes of other machines: each has its own /backup
    for home in homes:
        home.mkdir()
    assert complaints_of(tmp_path / "etc") == (
        f"alf1.env and alf2.env: BACKUP_DIR={tmp_path}/backup: two hosts of this machine need one each",
    )


def test_the_server_is_that_of_fleet_env_else_that_of_all_hosts(write: Write, tmp_path: Path) -> None:
    folder, secret = tmp_path / "etc", "admin:one-secret"
    write("alf1", PREFECT_API_URL="http://one/api", PREFECT_API_AUTH_STRING=secret)
    write("alf2", PREFECT_API_URL="http://two/api", PREFECT_API_AUTH_STRING="admin:other")
    with pytest.raises(SettingsError) as caught:
        name_server(folder, read_folder(folder))
    assert caught.value.complaints == (
        "PREFECT_API_AUTH_STRING is not the same in all files: alf1.env / alf2.env",
        "PREFECT_API_URL is not the same in all files: alf1.env / alf2.env",
    )
    assert "PREFECT_API_URL" not in os.environ
    text = f"PREFECT_API_URL=http://here/api\nPREFECT_API_AUTH_STRING={secret}\n"
    (folder / "fleet.env").write_text(text)
    name_server(folder, read_folder(folder))
    assert os.environ["PREFECT_API_URL"] == "http://here/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == secret


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--execute", "--confirm", "alf1"), "--execute and --confirm belong to --remove"),
        (("--remove", "../../admin"), "--remove '../../admin': expected the name of a host"),
    ],
)
def test_words_that_would_mean_something_else_are_refused(
    words: tuple[str, ...], said: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("alf1")
    assert main(["deploy", *words, "--env", str(tmp_path / "etc")]) == SettingsError.exit_code
    assert said in capsys.readouterr().err


def test_a_machine_takes_the_place_of_one_host_only(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("alf1")
    assert main(["deploy", "--take-over", "--env", str(tmp_path / "etc")]) == SettingsError.exit_code
    assert "--take-over is of one host, on its machine" in capsys.readouterr().err
