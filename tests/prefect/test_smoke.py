"""Server and worker in a minute, as part of `make test`; all else here is `make test-prefect`."""

from alfresco_backup.repository.catalogue import read_catalogue
from alfresco_backup.repository.layout import Repository
from tests.support.prefect_site import NAME, Site


def test_a_deployed_backup_completes_and_its_set_is_planned_to_be_restored(site: Site) -> None:
    lab = site.lab
    site.wait_until_free()
    backup = lab.await_state(lab.start_run(f"backup/{NAME}"), "Completed")
    newest = read_catalogue(Repository(site.host.backup_dir)).complete_sets[-1]
    assert backup.state and (backup.state.message or "").startswith(f"set {newest.stamp} published; ")

    before = site.host.read_state()
    plan = lab.await_state(lab.start_run(f"restore-full/{NAME}"), "Completed")
    assert plan.state and (plan.state.message or "").startswith("planned, nothing changed; ")
    lab.await_log(plan.id, f"from base backup {newest.stamp}")
    assert site.host.read_state() == before and site.host.answer()
