"""What bootstrap makes at a real server: deployments, schedules, automations; and that it does so once."""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.actions import WorkPoolCreate

from alfresco_backup.errors import SettingsError
from alfresco_backup.settings import PROJECT_DIRECTORY
from deployments.bootstrap import schedule_zone
from deployments.server_side import ensure_work_pool
from deployments.template import fill_in
from tests.prefect_lab import prefect_lab
from tests.prefect_site import NAME, Site, run_bootstrap

FLOWS = sorted(path.stem for path in (PROJECT_DIRECTORY / "flows").glob("[a-z]*.py"))


def test_every_flow_is_deployed_under_the_hosts_name(site: Site) -> None:
    found = site.deployments()
    assert {f"{name.replace('_', '-')}/{NAME}" for name in FLOWS} <= found.keys()
    assert found.keys() - {f"{name.replace('_', '-')}/{NAME}" for name in FLOWS} == {
        f"backup/{NAME}-contentstore"
    }
    for name, item in found.items():
        assert NAME in item.tags and item.work_pool_name == NAME, name
        assert item.description and len(item.description) > 80, f"{name} says nothing to an operator"
        assert "\n" not in item.description.replace("\n\n", ""), f"{name}: lines become paragraphs in Prefect"
        assert item.job_variables["stream_output"] is False
        assert item.job_variables["env"]["ALFRESCO_BACKUP_ENV"] == str(site.host.env_file)
        assert "{{" not in item.model_dump_json(exclude={"pull_steps"}), (
            f"{name}: a variable was not filled in"
        )


def test_schedules_have_the_hosts_time_zone_and_restores_have_none(site: Site) -> None:
    assert site.schedules == {
        (f"backup/{NAME}", "30 2 * * *", "Europe/Berlin"),
        (f"backup/{NAME}", "30 5 * * 0", "Europe/Berlin"),
        (f"backup/{NAME}-contentstore", "10 * * * *", "Europe/Berlin"),
        (f"wal-audit/{NAME}", "*/15 * * * *", "Europe/Berlin"),
        (f"restore-drill/{NAME}", "30 11 * * 0", "Europe/Berlin"),
    }


def test_restores_only_plan_unless_told_otherwise(site: Site) -> None:
    found = site.deployments()
    for name in ("restore-full", "restore-pitr", "restore-postgres", "restore-contentstore", "undo-restore"):
        properties = found[f"{name}/{NAME}"].parameter_openapi_schema["properties"]
        assert (properties["mode"]["default"], properties["confirm"]["default"]) == ("plan", "")
        assert all(entry.get("description") for entry in properties.values()), name
        assert not [name for name, entry in properties.items() if entry["title"] == name]


def test_running_it_again_changes_nothing(site: Site) -> None:
    lines = site.bootstrapped.splitlines()
    assert [line for line in lines if "made" in line or "deployed" in line] == lines[1:]
    before = content(site)
    again = site.bootstrap().splitlines()
    assert again[1:] == [
        f"work pool:         {NAME} unchanged",
        f"concurrency limit: {NAME} unchanged: one run at a time",
        f"mail block:        mail-{NAME} unchanged: 127.0.0.1:{site.mailbox.port}, password not stored",
        f"deployments:       {len(before[0])} unchanged; times in Europe/Berlin",
    ]
    assert content(site) == before


def content(site: Site) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Everything that was deployed. A worker that asks for work changes the fields that are left out."""
    moving = {"status", "last_polled", "updated"}
    return {name: item.model_dump(exclude=moving) for name, item in site.deployments().items()}, automations(
        site
    )


def automations(site: Site) -> list[dict[str, Any]]:
    return sorted(site.lab.post("/automations/filter", {}), key=lambda item: str(item["name"]))


def test_automations_start_the_flow_notify(site: Site) -> None:
    found = {item["name"]: item for item in automations(site)}
    assert found.keys() == {f"no backup of {NAME}", f"a run of {NAME} fell silent"}
    notify = str(site.deployments()[f"notify/{NAME}"].id)
    assert {item["actions"][0]["deployment_id"] for item in found.values()} == {notify}
    dead_man = found[f"no backup of {NAME}"]
    assert dead_man["trigger"]["within"] == 26 * 3600
    assert dead_man["trigger"]["match"] == {"prefect.resource.id": f"alfresco-backup.host.{NAME}"}
    assert dead_man["trigger"]["expect"] == ["alfresco-backup.set.published"]


def test_a_variable_without_a_value_is_an_error_and_no_literal() -> None:
    with pytest.raises(SettingsError) as caught:
        fill_in(
            'name: "{{ $HOST }}"\nlist: [{directory: "{{ $HOME_OF_IT }}/{{ $GIVEN }}"}, "{{ HOST }}"]',
            {"GIVEN": "x", "HOST": ""},
        )
    assert caught.value.complaints == (
        "HOME_OF_IT is missing; prefect.yaml refers to it",
        "HOST is missing; prefect.yaml refers to it",
        "{{ HOST }} in prefect.yaml: {{ $NAME }} is expected",
    )


def test_values_keep_their_type_and_templates_of_the_server_are_left_alone() -> None:
    text = 'a: "{{ $S }}"\nb: "{{ $S }} s"\nc: {__prefect_kind: jinja, template: "{{ labels.x }}"}'
    assert fill_in(text, {"S": 5400}) == {
        "a": 5400,
        "b": "5400 s",
        "c": {"__prefect_kind": "jinja", "template": "{{ labels.x }}"},
    }


def test_an_unknown_time_zone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_TIMEZONE", "Europe/Berlino")
    with pytest.raises(SettingsError, match="BACKUP_TIMEZONE='Europe/Berlino': a time zone like"):
        schedule_zone()


def test_a_work_pool_of_another_type_is_refused(site: Site) -> None:
    with site.lab.client() as client:
        client.create_work_pool(WorkPoolCreate(name="foreign", type="docker", base_job_template={}))
        with pytest.raises(
            SettingsError, match="the work pool foreign is of type docker; process is expected"
        ):
            ensure_work_pool(client, "foreign")


def test_a_server_that_would_forget_who_holds_a_host_is_refused(site: Site, tmp_path: Path) -> None:
    memory = "prefect.server.concurrency.lease_storage.memory"
    with prefect_lab(tmp_path, PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=memory) as lab:
        refused = run_bootstrap(lab, site.host.env_file)
        assert (refused.returncode, refused.stdout) == (SettingsError.exit_code, "")
        assert f"the Prefect server keeps leases in memory ({memory}); files are expected" in refused.stderr
        assert "  next: use the server settings in deployments/prefect-server.env" in refused.stderr
        with lab.client() as client:
            assert NAME not in {pool.name for pool in client.read_work_pools()}
            assert client.read_deployments() == []
