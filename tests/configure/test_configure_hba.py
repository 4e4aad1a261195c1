"""pg_hba.conf: the rule that decides, and the line for PGUSER, placed so that it takes effect."""

from dataclasses import replace

import pytest

from alfresco_backup.configure.access import AccessState, RoleState, SuperuserState, plan_hba, plan_roles
from alfresco_backup.configure.changes import LinesChange, StatementChange
from alfresco_backup.postgres.hba import Connection, deciding_rule, lets_in, parse_hba, replication_line
from alfresco_backup.postgres.versions import facts_of

TCP = Connection("alfresco", "replication", "127.0.0.1", account="postgres")
LOCAL = Connection("alfresco", "replication", account="postgres")
INITDB = """\
# comment
local   all             all                                     peer
host    all             all             127.0.0.1/32            md5
host    all             all             ::1/128                 md5
"""
BUSY = '''\
local "all"  "odd, ""name""" peer map=them # why
host  all, replication  +backup,other  10.0.0.0 255.0.0.0  md5
hostssl replication alfresco samehost scram-sha-256
host replication all all reject
'''


def seen(text: str, connection: Connection = TCP, **changed: object) -> AccessState:
    """What is seen of a host before 10, where the file is read by us."""
    made = AccessState(
        user=RoleState("alfresco", replication=True, stored="md5"),
        superuser=SuperuserState("postgres"),
        database="alfresco",
        database_exists=True,
        works=False,
        connection=connection,
        rules=tuple(parse_hba(text)),
        hba_file="/etc/postgresql/9.4/main/pg_hba.conf",
        hba_text=text,
    )
    return replace(made, **changed)


def after(text: str, change: object) -> str:
    assert isinstance(change, LinesChange) and change.removed == ()
    lines = text.split("\n")
    return "\n".join([*lines[: change.position], *change.added, *lines[change.position :]])


def test_lines_are_read_as_the_server_reads_them():
    first, second, third, fourth = parse_hba(BUSY)
    assert (first.users, first.method, first.options) == (('odd, "name"',), "peer", ("map=them",))
    assert (second.databases, second.users) == (("all", "replication"), ("+backup", "other"))
    assert (second.address, second.netmask, second.method) == ("10.0.0.0", "255.0.0.0", "md5")
    assert (third.line, third.kind, fourth.method) == (3, "hostssl", "reject")


@pytest.mark.parametrize(
    ("connection", "line"),
    [
        (replace(TCP, address="10.1.2.3", roles=frozenset({"backup"})), 2),
        (replace(TCP, address="10.1.2.3"), 4),
        (replace(TCP, address="11.1.2.3", roles=frozenset({"backup"})), 4),
        (replace(TCP, encrypted=True), 3),
        (TCP, 4),
        (LOCAL, None),
    ],
)
def test_the_first_rule_that_matches_decides(connection, line):
    rule = deciding_rule(parse_hba(BUSY), connection)
    assert (rule.line if rule else None) == line


def test_all_databases_are_not_replication_and_the_new_line_goes_last_where_no_rule_refuses():
    (change,), left = plan_hba(seen(INITDB))
    assert left == []
    assert change.old == "no line for such a connection"
    text = after(INITDB, change)
    assert text.startswith(INITDB)
    assert text.endswith("host    replication    alfresco    127.0.0.1/32    md5\n")
    assert lets_in(deciding_rule(parse_hba(text), TCP), TCP)


@pytest.mark.parametrize("text", [BUSY, "host all all all md5\nhost replication all 0.0.0.0/0 reject"])
def test_a_line_goes_before_the_rule_that_refuses_and_lets_nobody_else_in(text):
    (change,), _ = plan_hba(seen(text))
    rules = parse_hba(after(text, change))
    assert lets_in(deciding_rule(rules, TCP), TCP)
    other = replace(TCP, user="someone")
    assert not lets_in(deciding_rule(rules, other), other)
    elsewhere = replace(TCP, address="192.0.2.1")
    assert not lets_in(deciding_rule(rules, elsewhere), elsewhere)


def test_peer_refuses_a_role_of_another_name_and_lets_in_its_own():
    text = "local all all md5\nlocal replication all peer\n"
    (change,), _ = plan_hba(seen(text, LOCAL))
    assert change.position == 1 and change.added[-1] == "local    replication    alfresco    md5"
    same = replace(LOCAL, user="postgres")
    assert plan_hba(seen(text, same)) == ([], [])


def test_without_a_password_the_method_of_the_ordinary_rule_is_taken_with_its_options():
    text = "host all alfresco 127.0.0.1/32 ldap ldapserver=ldap.example\n"
    (change,), _ = plan_hba(seen(text, has_password=False))
    assert change.added[-1].endswith("127.0.0.1/32    ldap    ldapserver=ldap.example")
    changes, (left,) = plan_hba(seen("local all all peer\n", has_password=False))
    assert changes == [] and "lets alfresco from 127.0.0.1 into alfresco either" in left.sentence


def test_what_a_rule_lets_in_and_fails_nevertheless_is_left_to_people():
    text = "host replication alfresco 127.0.0.1/32 md5\n"
    assert plan_hba(seen(text)) == ([], [])
    changes, (left,) = plan_hba(seen(text, refused="password authentication failed"))
    assert changes == [] and left.sentence.endswith("lets it in, and yet: password authentication failed")


def test_a_file_with_errors_is_not_touched_since_no_reload_would_take_it():
    changes, (left,) = plan_hba(seen(INITDB, hba_errors=("line 7: invalid authentication method",)))
    assert changes == [] and "line 7: invalid authentication method" in left.sentence


def test_names_that_mean_something_else_are_quoted():
    assert '    "all"    127.0.0.1/32' in replication_line(replace(TCP, user="all"), "md5")
    assert '"o""dd name"' in replication_line(replace(TCP, user='o"dd name'), "md5")
    assert "::1/128" in replication_line(replace(TCP, address="::1"), "md5")


def statements(access: AccessState, version: int) -> list[tuple[str, str]]:
    changes, _ = plan_roles(access, facts_of(version))
    return [(item.statement, item.undo) for item in changes if isinstance(item, StatementChange)]


@pytest.mark.parametrize("version", [90426, 90525, 150000])
def test_a_role_gets_replication_or_is_made(version):
    plain = seen(INITDB, user=RoleState("alfresco"))
    alter = ("ALTER ROLE alfresco REPLICATION", "ALTER ROLE alfresco NOREPLICATION")
    assert statements(plain, version) == [alter]
    missing = seen(INITDB, user=RoleState("o'per \"x", exists=False))
    (made,) = statements(missing, version)
    assert made == ('CREATE ROLE "o\'per ""x" LOGIN REPLICATION', 'DROP ROLE IF EXISTS "o\'per ""x"')
    superuser = seen(INITDB, user=RoleState("alfresco", superuser=True))
    assert statements(superuser, version) == []


@pytest.mark.parametrize("version", [90426, 90525, 90624])
def test_before_10_only_a_superuser_will_do_and_that_is_said(version):
    cannot = SuperuserState("postgres", connects=False, trouble="no password supplied", lacks_of_user=())
    changes, (left,) = plan_roles(seen(INITDB, superuser=cannot), facts_of(version))
    assert changes == []
    assert left.sentence == "postgres cannot be used: no password supplied"
    assert left.fix.startswith("set PGSUPERUSER and PGSUPERPASSWORD in the .env")


def test_a_role_without_password_is_not_made():
    access = seen(INITDB, user=RoleState("alfresco", exists=False), has_password=False)
    changes, (left,) = plan_roles(access, facts_of(150000))
    assert changes == [] and left.fix == "set PGPASSWORD in the .env"
