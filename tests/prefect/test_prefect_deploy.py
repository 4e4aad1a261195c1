"""What bootstrap makes at a real server: deployments, schedules, automations; and that it does so once."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.events.schemas.events import Resource, ResourceSpecification

from alfresco_backup.errors import SettingsError
from alfresco_backup.settings.model import PROJECT_DIRECTORY
from deployments.bootstrap import schedule_zone
from deployments.server_side import ensure_work_pool
from deployments.template import fill_in
from tests.support.all_flows import FLOWS
from tests.support.common import wait_until
from tests.support.prefect_lab import prefect_lab
from tests.support.prefect_site import NAME, Site, run_bootstrap

DEPLOYED = [name for name in FLOWS if not name.startswith(("offsite_", "fleet_"))]


def test_every_flow_is_deployed_under_the_hosts_name(site: Site) -> None:
    found = site.deployments()
    assert {f"{name.replace('_', '-')}/{NAME}" for name in DEPLOYED} <= found.keys()
    assert found.keys() - {f"{name.replace('_', '-')}/{NAME}" for name in DEPLOYED} == {
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
        (f"backup/{NAME}", "0 6 1 * *", "Europe/Berlin"),
        (f"backup/{NAME}-contentstore", "10 * * * *", "Europe/Berlin"),
        (f"wal-audit/{NAME}", "*/15 * * * *", "Europe/Berlin"),
        (f"notify/{NAME}", "7-59/15 * * * *", "Europe/Berlin"),
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
    assert [line for line in lines if "made" in line or "deployed" in line] == lines[2:]
    before = content(site)
    again = site.bootstrap().splitlines()
    assert again[2:6] == [
        f"work pool:         {NAME} unchanged",
        f"concurrency limit: {NAME} unchanged: one run at a time",
        f"mail block:        mail-{NAME} unchanged: 127.0.0.1:{site.mailbox.port}, password not stored",
        f"deployments:       {len(before[0])} unchanged; nightly at 02:30, times in Europe/Berlin",
    ]
    paused = f"{'':19}kept: restore-drill/{NAME}: schedule weekly-drill 30 11 * * 0 Europe/Berlin (paused), "
    assert f"{paused}prefect.yaml has 30 11 * * 0 Europe/Berlin" in again[6:]
    assert len(again[6:]) == len(site.schedules) + 1
    unset, _, deploy = again[-1].rpartition(" && cd ")
    assert unset.endswith(f" .venv/bin/prefect variable unset deployed-{NAME}")
    assert " -m alfresco_backup deploy --env " in deploy
    assert content(site) == before


def test_what_was_changed_in_prefect_is_kept_until_something_is_deployed_and_told_either_way(
    site: Site,
) -> None:
    found = site.deployments()
    with site.lab.client() as client:
        backup, retention = found[f"backup/{NAME}"], found[f"retention/{NAME}"]
        noon, one = CronSchedule(cron="0 12 * * *"), CronSchedule(cron="0 13 * * *")
        client.create_deployment_schedules(backup.id, [(noon, False)])
        client.create_deployment_schedules(retention.id, [(one, False)])
        hourly = found[f"backup/{NAME}-contentstore"]
        client.update_deployment(hourly.id, DeploymentUpdate(parameters={"contentstore_mode": "full"}))
        [dead_man] = client.read_automations_by_name(f"no backup of {NAME}")
        client.pause_automation(dead_man.id)
    differing = [
        ("removed", f"backup/{NAME}: schedule 0 12 * * * UTC (paused), not in prefect.yaml"),
        (
            "replaced",
            f"backup/{NAME}-contentstore: parameters {{'contentstore_mode': 'full'}}, prefect.yaml has "
            "{'components': ['contentstore']}",
        ),
        ("kept", f"retention/{NAME}: schedule 0 13 * * * UTC (paused), not in prefect.yaml"),
        ("replaced", f"automation `no backup of {NAME}`: off, prefect.yaml has on"),
    ]
    changed = content(site)
    told = site.bootstrap().splitlines()
    assert {f"{'':19}kept: {words}" for _, words in differing} <= set(told)
    assert content(site) == changed

    assert site.lab.run_prefect("variable", "unset", f"deployed-{NAME}").returncode == 0
    told = site.bootstrap().splitlines()
    after = site.deployments()
    with site.lab.client() as client:
        [stays] = after[f"retention/{NAME}"].schedules
        client.delete_deployment_schedule(retention.id, stays.id)
    site.pause_schedules()
    assert (
        f"deployments:       {len(found)} deployed for {NAME}; nightly at 02:30, times in Europe/Berlin"
        in told
    )
    assert {f"{'':19}{fate}: {words}" for fate, words in differing} <= set(told)
    slugs = {entry.slug for entry in after[f"backup/{NAME}"].schedules}
    assert slugs == {"nightly", "weekly-full-comparison", "monthly-checksum-comparison"}
    assert after[f"backup/{NAME}-contentstore"].parameters == {"components": ["contentstore"]}
    assert all(item["enabled"] for item in automations(site))


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
    assert found.keys() == {f"no backup of {NAME}", f"silent run of {NAME}"}
    notify = str(site.deployments()[f"notify/{NAME}"].id)
    assert {item["actions"][0]["deployment_id"] for item in found.values()} == {notify}
    watched = ResourceSpecification.model_validate(found[f"silent run of {NAME}"]["trigger"]["match"])
    for name, starts_it in (("backup 2026-11-22 02:30", True), ("notify 2026-11-22 02:30", False)):
        run = {"prefect.resource.id": "prefect.flow-run.x", "prefect.resource.name": name}
        assert watched.matches(Resource.model_validate(run)) is starts_it
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
        assert f"the Prefect server keeps concurrency leases in memory ({memory}); after " in refused.stderr
        assert f"HINT: start the server with the settings in {PROJECT_DIRECTORY}/deploym" in refused.stderr
        with lab.client() as client:
            assert NAME not in {pool.name for pool in client.read_work_pools()}
            assert client.read_deployments() == []


def test_the_off_site_copy_is_deployed_and_follows_a_backup_only_where_it_has_a_repository(
    site: Site, tmp_path: Path
) -> None:
    env_file, schedules, before = site.host.env_file, set(site.schedules), site.deployments().keys()
    written = env_file.read_text()
    settings = f"OFFSITE_REPOSITORY={tmp_path}/far\nOFFSITE_PASSWORD=a-password\nOFFSITE_WAL_MINUTES=7\n"
    env_file.write_text(f"{written}{settings}")
    try:
        site.bootstrap()
        site.pause_schedules()
        offsite = {name: item for name, item in site.deployments().items() if name.startswith("offsite-")}
        assert f"offsite-copy/{NAME}" in offsite and "offsite" in offsite[f"offsite-wal/{NAME}"].tags
        assert (f"offsite-wal/{NAME}", "*/7 * * * *", "Europe/Berlin") in site.schedules
        for item in offsite.values():
            assert item.global_concurrency_limit and item.global_concurrency_limit.limit == 1
        init = ["-m", "alfresco_backup", "offsite", "init", "--env", str(env_file)]
        with site.lab.run_python(*init) as made:
            assert made.wait(600) == 0
        site.wait_until_free()
        run = site.lab.start_run(f"backup/{NAME}-contentstore")
        site.lab.await_state(run, "Completed")
        deployment = {"id": {"any_": [str(offsite[f"offsite-copy/{NAME}"].id)]}}
        wait_until(lambda: site.lab.post("/flow_runs/filter", {"deployments": deployment}), "a copy", 600)
        [copied] = site.lab.post("/flow_runs/filter", {"deployments": deployment})
        site.lab.await_state(UUID(copied["id"]), "Completed")
        assert site.lab.message(UUID(copied["id"])).endswith(" sets are whole off-site")
    finally:
        env_file.write_text(written)
        told = site.bootstrap()
        site.pause_schedules()
        site.schedules = schedules
    assert f"removed: offsite-copy/{NAME}: OFFSITE_REPOSITORY is not set" in told
    assert site.deployments().keys() == before
    assert f"new backup of {NAME}" not in {item["name"] for item in automations(site)}
