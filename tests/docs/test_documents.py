"""The mechanism of tests/support/documents.py, what guides must have, and who executes which commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tests.support.documents import (
    COMMANDS,
    Names,
    all_documents,
    blocks_of,
    execute,
    guides,
    name_of,
    plain_environment,
)

LANGUAGES = {*COMMANDS, "text", "sql", "usage"}
HOW_TO = "docs/how-to"
IN_PROCESS, HOSTS = "docs/test_how_to.py", "docs/test_how_to_hosts.py"
CONTAINERS = "docs/test_how_to_containers.py"
SERVER, BY_HAND = "prefect/test_prefect_docs.py", "docs/test_by_hand.py"
EXECUTED_BY = {
    f"{HOW_TO}/back-up.md": {"": IN_PROCESS, "server": SERVER},
    f"{HOW_TO}/containers.md": dict.fromkeys(("", "restore", "undo", "by-hand"), CONTAINERS),
    f"{HOW_TO}/drill.md": {"": IN_PROCESS, "server": SERVER},
    f"{HOW_TO}/from-the-predecessor.md": {"": HOSTS},
    f"{HOW_TO}/fleet.md": {"fleet": "prefect/test_prefect_fleet.py"},
    f"{HOW_TO}/install.md": {"": HOSTS},
    f"{HOW_TO}/uninstall.md": {"": HOSTS},
    f"{HOW_TO}/upgrade.md": {"": HOSTS},
    f"{HOW_TO}/move-to-a-new-host.md": {"old-host": HOSTS, "new-host": HOSTS},
    f"{HOW_TO}/monitoring.md": {"": IN_PROCESS},
    f"{HOW_TO}/postgresql-under-prefect.md": dict.fromkeys(
        ("database", "unit", "dump", "lost", "worked"), "prefect/test_prefect_postgresql.py"
    ),
    f"{HOW_TO}/off-site-copy.md": {"": IN_PROCESS, "repair": IN_PROCESS, "index": IN_PROCESS},
    f"{HOW_TO}/recover-to-a-target-time.md": {"": IN_PROCESS, "server": SERVER},
    f"{HOW_TO}/restore-a-document.md": {
        "": "documents/test_export.py",
        "upload": "documents/test_upload_flow.py",
    },
    f"{HOW_TO}/restore-a-lost-host.md": {"": HOSTS},
    f"{HOW_TO}/restore.md": {"": IN_PROCESS, "server": SERVER},
    f"{HOW_TO}/stream-wal.md": {"": IN_PROCESS},
    f"{HOW_TO}/undo.md": {"": IN_PROCESS},
    "docs/operations.md": {
        "": IN_PROCESS, "units": IN_PROCESS,
        "server": SERVER, "cancel": SERVER, "lock": SERVER, "pause": SERVER,
    },
    "docs/reference/configure.md": {"by-hand": HOSTS},
    "docs/reference/repository.md": dict.fromkeys(
        (
            *("", "off-site", "latest", "moment", "set"),
            *("tablespace", "old-wal", "elsewhere", "from-12", "before-12"),
        ),
        BY_HAND,
    ),
    "docs/reference/restore.md": {"": IN_PROCESS},
    "docs/explanation/restores.md": {"": IN_PROCESS},
}  # fmt: skip
"""The test file that executes a document's blocks, by the words behind them. What needs a Prefect server is
executed by `make test-prefect`."""
MACHINE = "accounts and services of a machine"
NOT_EXECUTED = {
    "README.md": {
        "make demo": "make installs packages of the machine first",
        "make test": "make installs packages of the machine first",
    },
    f"{HOW_TO}/containers.md": dict.fromkeys(
        (
            "cd /srv/alfresco && install -d -o 33000 -g 33000 alf_data",
            "install -d -o 33007 -g 33007 solr-data",
            "docker compose up -d",
        ),
        "needs images of a registry; the test starts the services of that file by the engine",
    ),
    f"{HOW_TO}/install.md": {
        "cd /opt/alfresco-backup && make setup":
            "installs packages of the machine; make test itself begins with it",
    },
    f"{HOW_TO}/fleet.md": {
        "make deploy ALFRESCO_BACKUP_ENV=/etc/alfresco-backup":
            "a directory of hosts; test_prefect_folder.py",
        **dict.fromkeys(
            (
                "systemctl disable --now prefect-worker@alf1",
                ".venv/bin/python -m alfresco_backup deploy --remove alf1 --execute --confirm alf1 "
                "--env /etc/alfresco-backup/fleet.env",
            ),
            "alf1 stays in service; test_prefect_folder.py",
        ),
    },
    f"{HOW_TO}/move-to-a-new-host.md": {
        "systemctl disable --now prefect-worker@alf1 alfresco-backup-freshness@alf1.timer":
            "services of a machine",
        "python -m alfresco_backup deploy --take-over":
            "a Prefect server of its own; test_prefect_identity.py",
    },
    f"{HOW_TO}/monitoring.md": dict.fromkeys(
        (
            "cp alfresco-backup.rules.yml /etc/prometheus/ && "
            "promtool check rules /etc/prometheus/alfresco-backup.rules.yml",
            "systemctl reload prometheus",
        ),
        "files and services of another machine",
    ),
    f"{HOW_TO}/off-site-copy.md": {
        **dict.fromkeys(
            (
                "aws s3api create-bucket --bucket copies --object-lock-enabled-for-bucket",
                "aws s3api put-object-lock-configuration --bucket copies --object-lock-configuration \\\n    "
                """'{"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", """
                """"Days": 60}}}'""",
            ),
            "needs an account at a provider of S3",
        ),
        **dict.fromkeys(
            (
                "restic snapshots --tag alfresco-backup --host alf1",
                "restic forget --host alf1 --tag kind=wal --keep-last 10 --keep-daily 60 --prune",
            ),
            "needs a second machine with another key",
        ),
    },
    "docs/reference/repository.md": {
        "cd /opt/alfresco-backup && .venv/bin/python -m alfresco_backup begin-repository"
        " --env /etc/alfresco-backup/alf1.env": "a disk is replaced; test_unmounted.py",
    },
    f"{HOW_TO}/undo.md": dict.fromkeys(
        (
            "python -m alfresco_backup undo --accept",
            "python -m alfresco_backup undo --accept --execute --confirm alf1",
        ),
        "needs a restore that broke off; test_restore_killed.py and test_restore_aftermath.py make them",
    ),
    f"{HOW_TO}/uninstall.md": {
        **dict.fromkeys(
            (
                "systemctl disable --now prefect-worker@alf1 alfresco-backup-freshness@alf1.timer "
                "prefect-server",
                "rm -f /etc/cron.d/alfresco-backup /etc/systemd/system/prefect-server.service "
                "/etc/systemd/system/prefect-worker@.service",
                "rm -f /etc/systemd/system/alfresco-backup-freshness@.service "
                "/etc/systemd/system/alfresco-backup-freshness@.timer",
                "systemctl daemon-reload",
            ),
            MACHINE,
        ),
        "rm -rf /opt/alfresco-backup /usr/local/lib/alfresco-backup /var/lib/prefect": "files of a machine",
    },
    f"{HOW_TO}/upgrade.md": {
        **dict.fromkeys(
            (
                "prefect work-pool pause alf1",
                "prefect flow-run ls --state-type RUNNING",
                "cd /opt/alfresco-backup && git pull && make setup PYTHON=/usr/bin/python3",
                "install -m 644 deployments/systemd/* -t /etc/systemd/system && systemctl daemon-reload",
                "systemctl restart prefect-server",
                "make deploy ALFRESCO_BACKUP_ENV=/etc/alfresco-backup/alf1.env",
                "systemctl restart prefect-worker@alf1",
                "prefect work-pool resume alf1",
            ),
            MACHINE,
        ),
    },
    f"{HOW_TO}/postgresql-under-prefect.md": dict.fromkeys(
        ("systemctl restart prefect-server", "make deploy ALFRESCO_BACKUP_ENV=/etc/alfresco-backup/alf1.env"),
        MACHINE,
    ),
    f"{HOW_TO}/stream-wal.md": {"systemctl enable --now wal-receiver@alf1": MACHINE},
    "docs/operations.md": {
        **dict.fromkeys(
            ("make serve", "make serve DATABASE=postgresql", "make deploy"),
            "make installs packages of the machine first; test_prefect_serve.py, test_prefect_deploy.py",
        ),
        **dict.fromkeys(
            (
                "cd /opt/alfresco-backup && make setup PYTHON=/usr/bin/python3",
                "useradd --system --home-dir /var/lib/prefect --shell /usr/sbin/nologin prefect",
                "systemctl daemon-reload",
                "systemctl enable --now prefect-server",
                "make deploy ALFRESCO_BACKUP_ENV=/etc/alfresco-backup/alf1.env",
                "systemctl enable --now prefect-worker@alf1 alfresco-backup-freshness@alf1.timer",
                "prefect variable unset deployed-alf1",
            ),
            MACHINE,
        ),
    },
}  # fmt: skip
"""Every command that no test executes, and why."""
PROGRAMS = (
    r"(?:\$ |sudo |\.venv/bin/)?(?:python3?|prefect|make|systemctl|install|cd|psql|pg_\w+|tar|cp|rsync|ls)\b"
)

documents = pytest.mark.parametrize("document", all_documents(), ids=name_of)
in_guides = pytest.mark.parametrize("document", guides(), ids=name_of)


@documents
def test_every_block_says_what_it_is(document: Path) -> None:
    blocks = blocks_of(document)
    assert {block.language for block in blocks} <= LANGUAGES
    told = [line for block in blocks if block.language == "text" for line in block.text.splitlines()]
    assert [line for line in told if re.match(PROGRAMS, line)] == [], "commands that call themselves text"


@documents
def test_every_command_is_executed_by_a_test_or_listed_with_the_reason_why_not(document: Path) -> None:
    blocks = [block for block in blocks_of(document) if block.steps]
    executed_by = EXECUTED_BY.get(name_of(document), {})
    assert {" ".join(sorted(block.words)) for block in blocks if not block.reason} == executed_by.keys()
    for word, file in executed_by.items():
        text = (PROJECT_DIRECTORY / "tests" / file).read_text()
        assert f'{document.name}"' in text, f"{file} does not execute {name_of(document)}"
        assert not word or f'"{word}"' in text, f"{file} does not execute the blocks {word!r}"
    left_out = [(step.command, block.reason) for block in blocks if block.reason for step in block.steps]
    assert {command.partition(" # ")[0].rstrip(): reason for command, reason in left_out} == NOT_EXECUTED.get(
        name_of(document), {}
    )


def test_the_lists_name_no_document_that_is_gone() -> None:
    assert EXECUTED_BY.keys() | NOT_EXECUTED.keys() <= {name_of(document) for document in all_documents()}


@in_guides
def test_each_guide_ends_in_how_you_know_it_worked(document: Path) -> None:
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    assert titles[-1] == "How you know it worked"
    assert any(block.steps and not block.reason for block in blocks_of(document))


def options_told() -> dict[str, set[str]]:
    """The options that the documents' usage names, by command."""
    told: dict[str, set[str]] = {}
    for document in all_documents():
        for block in blocks_of(document):
            for line in block.text.splitlines() if block.language == "usage" else ():
                found = re.match(r"python (?:-m alfresco_backup [a-z]+|[a-z]+\.py)", line)
                assert found, f"{name_of(document)}:{block.line}: {line}"
                told.setdefault(found[0], set()).update(re.findall(r"--[a-z-]+", line))
    return told


@pytest.mark.slow
@pytest.mark.parametrize("command", options_told())
def test_the_options_in_a_usage_are_those_of_the_command(command: str) -> None:
    argv = [sys.executable, *command.split()[1:], "--help"]
    done = subprocess.run(argv, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True)
    usage = done.stdout.partition("\n\n")[0]
    real = set(re.findall(r"--[a-z-]+", usage)) - {"--help"}
    told = options_told()[command]
    assert told == real or (command.endswith(" restore") and told <= real)  # its options stand in a table


def written(folder: Path, text: str) -> Path:
    path = folder / "document.md"
    path.write_text(text)
    return path


def run(folder: Path, text: str, *words: str, **names: str) -> dict[str, str]:
    return execute(written(folder, text), Names(names), plain_environment(folder), words)


def test_blocks_share_a_shell_and_words_are_chosen(tmp_path: Path) -> None:
    text = "```sh\nX=1\n```\n```sh b\nX=2\n```\n```sh c\nX=3\n```\n```console\n$ echo $X and\n2 …\n```\n"
    assert run(tmp_path, text, "b") == {"X=1": "", "X=2": "", "echo $X and": "2 and\n"}


def test_names_of_the_example_are_replaced_as_whole_words(tmp_path: Path) -> None:
    text = "```console\n$ echo /a /a/b /abc x/a\n/1 /1/b /abc x/a\n```\n"
    assert list(run(tmp_path, text, **{"/a": "/1"})) == ["echo /a /a/b /abc x/a"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```sh\ntrue\nfalse\n```\n", r"document.md:3: false\nended with 1, not 0"),
        ("<!-- exit code 1 -->\n```sh\ntrue\n```\n", "true\nended with 0, not 1"),
        ("```console\n$ echo one\ntwo\n```\n", "did not print 'two'"),
        ("```console\n$ printf 'b\\na\\n'\na\nb\n```\n", "did not print 'b'"),
        ("```sh\nexit 0\ntrue\n```\n", "exit 0\nwas not reached|was not reached"),
        ("```\ntrue\n```\n", "a block without a language"),
        ("```sh\ntrue\n", "a block without an end"),
        ("<!-- not run -->\n```sh\ntrue\n```\n", "'not run' is not understood"),
        ("```sh\nif true\n```\n", "sh does not understand"),
        ("<!-- not executed: no -->\n```sh\ntrue\n```\n", "nothing to execute"),
    ],
)
def test_what_is_not_as_written_fails(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run(tmp_path, text)


def test_an_exit_code_may_be_expected_and_commands_go_over_several_lines(tmp_path: Path) -> None:
    text = "<!-- exit code 3 -->\n```sh\necho a \\\n  b\ncat <<END\nc\nEND\n# no command\n(exit 3)\n```\n"
    assert list(run(tmp_path, text).values()) == ["a b\n", "c\n", ""]
