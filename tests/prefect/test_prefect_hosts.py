"""Two hosts, each with its worker, at one server on PostgreSQL. Four: python -m benchmarks.prefect_fleet."""

from pathlib import Path

from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from tests.support.common import wait_until
from tests.support.prefect_hosts import several_hosts
from tests.support.prefect_lab import RUN_SECONDS


def test_hosts_of_one_server_share_no_lock_no_mail_no_artifact_and_no_set(tmp_path: Path) -> None:
    with several_hosts("alf1", "alf2") as site:
        lab = site.lab
        lab.deploy("hold", "alf1", site.hosts["alf1"].env_file)
        until = tmp_path / "stop"
        held = lab.start_run("hold/alf1", until=str(until))
        lab.await_run(held, lambda: lab.locks_taken("alf1") == 1, "hold on alf1")
        runs = site.start("backup")
        lab.await_state(runs["alf2"], "Completed")
        lab.await_state(runs["alf1"], "WaitingForHost")
        assert lab.locks_taken("alf1") == 1 and lab.locks_taken("alf2") == 0
        until.touch()
        site.completed(runs)

        runs = site.start("backup", alf2={"PGPORT": "1"})
        lab.await_state(runs["alf2"], "Failed")
        lab.await_state(runs["alf1"], "Completed")
        wait_until(site.mailbox.subjects, "a mail of the failure", RUN_SECONDS)
        subjects = site.mailbox.subjects()
        assert all(" alf2 (" in subject for subject in subjects), subjects

        artifacts = site.artifacts()
        assert {host for _, host in artifacts} == {"alf1", "alf2"}
        assert [(key, host) for key, host in artifacts if not key.endswith(f"-{host}")] == []
        sets = [read_catalogue(Repository(host.backup_dir)).complete_sets for host in site.hosts.values()]
        assert [len(found) for found in sets] == [2, 1]
