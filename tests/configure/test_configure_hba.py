"""pg_hba.conf: one line for PGUSER at the top, nothing else touched; the roles and what they lack."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from alfresco_backup.configure.access import (
    NOTE,
    AccessState,
    RoleState,
    SuperuserState,
    plan_hba,
    plan_roles,
)
from alfresco_backup.configure.changes import LinesChange, StatementChange
from alfresco_backup.errors import ToolFailed
from alfresco_backup.host.host import load_host
from alfresco_backup.postgres.conf_file import replication_line
from alfresco_backup.postgres.database import identify_system
from alfresco_backup.postgres.versions import facts_of
from alfresco_backup.settings.commands import edit_setting
from demo.cluster import default_bindir
from tests.support.unconfigured_hosts import PlainHost, plain_host

INITDB = """\
# comment
local   all             all                                     peer
host    all             all             127.0.0.1/32            md5
host    all             all             ::1/128                 md5
"""
LINE = "host    replication    alfresco    127.0.0.1/32    md5"


def seen(text: str = INITDB, **changed: object) -> AccessState:
    """A host whose PGUSER connects by TCP and has REPLICATION, and yet is refused."""
    made = AccessState(
        user=RoleState("alfresco", replication=True, stored="md5"),
        superuser=SuperuserState("postgres"),
        database="alfresco",
        database_exists=True,
        works=False,
        address="127.0.0.1",
        account="postgres",
        hba_file="/etc/postgresql/9.4/main/pg_hba.conf",
        hba_text=text,
        refused="no pg_hba.conf entry",
    )
    return replace(made, **changed)


def planned(state: AccessState) -> LinesChange:
    (change,), left = plan_hba(state)
    assert isinstance(change, LinesChange) and left == []
    return change


def test_the_line_goes_to_the_top_and_no_other_line_is_touched():
    change = planned(seen())
    assert (change.position, change.removed, change.added) == (0, (), (NOTE, LINE))
    local = planned(seen(address=""))
    assert local.added[-1] == "local    replication    alfresco    md5"


def test_nothing_is_planned_where_it_replicates_or_cannot_connect_at_all():
    assert plan_hba(seen(works=True)) == ([], [])
    assert plan_hba(seen(trouble="password authentication failed")) == ([], [])
    missing = RoleState("alfresco", exists=False, stored="md5")
    assert planned(seen(user=missing, trouble="role does not exist")).added[-1] == LINE


def test_a_line_that_is_there_already_is_not_added_again_and_what_is_wrong_is_left_to_people():
    change = planned(seen())
    again = "\n".join([*change.added, INITDB])
    changes, (left,) = plan_hba(seen(again, refused="timeout expired"))
    assert changes == [] and left.subject == "replication"
    assert left.sentence.endswith("lets alfresco in from 127.0.0.1, and yet: timeout expired")


def test_a_rule_above_a_line_of_ours_is_overruled_by_a_new_one():
    moved = "host replication all all reject\n" + "\n".join([NOTE, LINE, INITDB])
    assert planned(seen(moved)).position == 0


def test_without_a_password_the_own_account_comes_by_peer_and_any_other_way_is_left_to_people():
    own = RoleState("postgres", replication=True)
    change = planned(seen(user=own, address="", has_password=False))
    assert change.added[-1] == "local    replication    postgres    peer"
    for state in (seen(has_password=False), seen(user=own, has_password=False)):
        changes, (left,) = plan_hba(state)
        line = f"host    replication    {state.user.name}    127.0.0.1/32    METHOD"
        assert (
            changes == []
            and left.fix.startswith(f"edit {state.hba_file}, ")
            and left.fix.endswith(f"at the top: {line}")
        )


def test_a_file_with_errors_is_not_touched_since_no_reload_would_take_it():
    changes, (left,) = plan_hba(seen(hba_errors=("line 7: invalid authentication method",)))
    assert changes == [] and "line 7: invalid authentication method" in left.sentence


def test_names_that_mean_something_else_are_quoted():
    assert '    "all"    127.0.0.1/32' in replication_line("all", "127.0.0.1", "md5")
    assert '"o""dd name"' in replication_line('o"dd name', "127.0.0.1", "md5")
    assert "::1/128" in replication_line("alfresco", "::1", "md5")


@pytest.fixture(scope="module")
def host() -> Iterator[PlainHost]:
    with plain_host(default_bindir()) as made:
        yield made


@pytest.mark.slow
def test_on_a_server_nobody_else_is_let_in_by_the_line(host: PlainHost) -> None:
    """Neither another role from there, nor this one from elsewhere: a rule below rejects both as before."""
    host.sql("CREATE ROLE other LOGIN REPLICATION PASSWORD 'other'")
    before = host.hba.read_text()
    assert host.configure("--apply", "--restart").returncode == 0
    assert host.hba.read_text().endswith(f"\n{before}")
    database = load_host(host.env_file).database
    assert identify_system(database).timeline == 1
    for change in ({"PGUSER": "other", "PGPASSWORD": "other"}, {"PGHOST": str(host.directory / "run")}):
        with pytest.raises(ToolFailed):
            identify_system(replace(database, environment={**database.environment, **change}))
    assert host.configure("--undo", "--restart").returncode == 0
    assert host.hba.read_text() == before
    host.sql("DROP ROLE other")


@pytest.mark.slow
def test_on_a_server_a_line_that_lets_it_in_suffices_once_the_role_may_replicate(host: PlainHost) -> None:
    before = host.hba.read_text()
    rule = f"host replication all 127.0.0.1/32 {host.password_method}\n"
    host.write(host.hba, rule + before)
    host.program("pg_ctl", "reload", "-D", str(host.data))
    done = host.configure("--apply", "--restart")
    assert done.returncode == 0, done.stdout + done.stderr
    if host.version >= 100000:  # before, replication needs the restart, until which nothing can be tried
        assert "not needed: pg_hba.conf: alfresco replicates without the line" in done.stdout
        assert host.hba.read_text() == rule + before
    assert "verified: alfresco replicates" in done.stdout
    assert host.configure().stdout.startswith("configure of plain: nothing to change\nverified: ")
    assert host.configure("--undo", "--restart").returncode == 0
    assert host.hba.read_text() == rule + before
    host.write(host.hba, before)
    host.program("pg_ctl", "reload", "-D", str(host.data))


def statements(access: AccessState, version: int) -> list[tuple[str, str]]:
    changes, _ = plan_roles(access, facts_of(version))
    return [(item.statement, item.undo) for item in changes if isinstance(item, StatementChange)]


@pytest.mark.parametrize("version", [90426, 90525, 150000])
def test_a_role_gets_replication_or_is_made(version):
    plain = seen(user=RoleState("alfresco"))
    alter = ("ALTER ROLE alfresco REPLICATION", "ALTER ROLE alfresco NOREPLICATION")
    assert statements(plain, version) == [alter]
    missing = seen(user=RoleState("o'per \"x", exists=False))
    (made,) = statements(missing, version)
    assert made == ('CREATE ROLE "o\'per ""x" LOGIN REPLICATION', 'DROP ROLE IF EXISTS "o\'per ""x"')
    superuser = seen(user=RoleState("alfresco", superuser=True))
    assert statements(superuser, version) == []


@pytest.mark.parametrize("version", [90426, 90525, 90624])
def test_before_10_only_a_superuser_will_do_and_that_is_said(version):
    cannot = SuperuserState("postgres", connects=False, trouble="no password supplied", lacks_of_user=())
    changes, (left,) = plan_roles(seen(superuser=cannot), facts_of(version))
    assert changes == []
    assert left.sentence == "postgres cannot be used: no password supplied"
    assert left.fix.splitlines() == [edit_setting("PGSUPERUSER"), edit_setting("PGSUPERPASSWORD")]


def test_a_role_without_password_is_not_made():
    access = seen(user=RoleState("alfresco", exists=False), has_password=False)
    changes, (left,) = plan_roles(access, facts_of(150000))
    assert changes == [] and left.fix == edit_setting("PGPASSWORD")
