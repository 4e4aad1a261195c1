"""A second machine under a host's name: refused by its worker's runs and by deploy, until it takes over."""

import json
import subprocess
import sys
from dataclasses import asdict

from alfresco_backup.errors import Refused
from alfresco_backup.host.host import load_host
from alfresco_backup.host.identity import HostIdentity, read_identity
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from tasks.runs.identity import read_record, replace_record
from tests.support.prefect_site import NAME, Site, history, run_bootstrap

VARIABLE = f"identity-{NAME}"


def recorded(site: Site) -> HostIdentity | None:
    with history(site):
        return read_record(NAME)


def verb(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "alfresco_backup", *words, "--env", str(site.host.env_file)]
    return subprocess.run(
        argv,
        env=site.lab.environment,
        cwd=PROJECT_DIRECTORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_second_machine_under_the_name_is_refused_until_it_takes_over(site: Site) -> None:
    lab = site.lab
    lab.await_state(lab.start_run(f"content-check/{NAME}"), "Completed")
    own = read_identity(load_host(site.host.env_file))
    assert own.system_identifier and recorded(site) == own  # by the worker's first run
    other = HostIdentity("0f" * 16, own.system_identifier)
    with history(site):
        replace_record(NAME, other)
    run = lab.start_run(f"content-check/{NAME}")
    lab.await_state(run, "Failed")
    assert f"machine id {own.machine_id}, recorded {other.machine_id}" in lab.message(run)
    assert recorded(site) == other  # what is refused replaces nothing
    refused = run_bootstrap(lab, site.host.env_file)
    assert refused.returncode == Refused.exit_code
    assert f"this machine is not the host {NAME} that its Prefect server knows" in refused.stderr
    by_hand = verb(site, "content-check")
    assert by_hand.returncode == 0 and "this machine is not the host" in by_hand.stderr
    taken = json.loads(verb(site, "deploy", "--take-over", "--json").stdout)
    assert taken["state"] == "done" and asdict(own) == asdict(recorded(site) or other)
    lab.await_state(lab.start_run(f"content-check/{NAME}"), "Completed")
