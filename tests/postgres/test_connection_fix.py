"""A connection that fails names the setting that is wrong, by libpq's own words."""

from dataclasses import replace

import pytest
from pydantic import SecretStr

from alfresco_backup.configure.superuser import find_superuser
from alfresco_backup.errors import HostNotReady
from alfresco_backup.host.host import Host
from alfresco_backup.postgres.database import connection_fix
from alfresco_backup.preflight.database import check_database
from demo.cluster import free_port
from demo.host import DemoHost
from tests.support.restoring import loaded

BY_TCP = 'psql: error: connection to server at "10.0.0.9", port 5432 failed: '
BEFORE_14 = "psql: error: could not connect to server: Connection refused\n\tIs the server running on host"


@pytest.mark.parametrize(
    ("said", "names"),
    [
        (f'{BY_TCP}FATAL:  password authentication failed for user "alfresco"', ["PGPASSWORD", "PGUSER"]),
        (f"{BY_TCP}fe_sendauth: no password supplied", ["PGPASSWORD"]),
        (f'{BY_TCP}FATAL:  role "alfresko" does not exist', ["PGUSER"]),
        (f'{BY_TCP}FATAL:  database "alfresko" does not exist', ["PGDATABASE"]),
        (f"{BY_TCP}Connection refused\n\tIs the server running on that host", ["PGPORT", "PGHOST"]),
        (BEFORE_14, ["PGPORT", "PGHOST"]),
        ('psql: error: could not translate host name "db" to address', ["PGHOST"]),
        (f"{BY_TCP}timeout expired", ["PGHOST", "PGPORT"]),
        (f'{BY_TCP}FATAL:  Peer authentication failed for user "alfresco"', ["PGUSER", "PGHOST"]),
        (f"{BY_TCP}FATAL:  no pg_hba.conf entry for host", []),
        ('ERROR:  relation "alf_node" does not exist', []),
        ('ERROR:  role "alfresko" does not exist', []),
    ],
)
def test_the_words_of_a_failed_connection_name_the_setting(said, names):
    fix = connection_fix(said)
    assert [line.split(": ")[1].split("=")[0] for line in fix.splitlines()] == names
    supers = {"PGUSER": "PGSUPERUSER", "PGPASSWORD": "PGSUPERPASSWORD"}
    fix = connection_fix(said, superuser=True)
    assert [line.split(": ")[1].split("=")[0] for line in fix.splitlines()] == [
        supers.get(name, name) for name in names
    ]


def host_with(demo: DemoHost, **changes: object) -> Host:
    host = loaded(demo)
    return replace(host, settings=host.settings.model_copy(update=changes))


def test_preflight_names_the_password_or_port_that_is_wrong(shared_demo_host: DemoHost) -> None:
    for name, value in (("PGPASSWORD", SecretStr("wrong")), ("PGPORT", free_port()), ("PGDATABASE", "none")):
        (finding,) = check_database(host_with(shared_demo_host, **{name.lower(): value}))
        assert finding.level == "error"
        assert f": {name}=..." in finding.fix.splitlines()[0], finding


def test_configure_names_the_superusers_password_or_the_port(shared_demo_host: DemoHost) -> None:
    for name, value in (("PGSUPERPASSWORD", SecretStr("wrong")), ("PGPORT", free_port())):
        with pytest.raises(HostNotReady) as told:
            find_superuser(host_with(shared_demo_host, **{name.lower(): value}))
        assert f": {name}=..." in told.value.hint.splitlines()[0]
