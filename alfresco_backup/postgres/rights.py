"""What a role that is no superuser needs for a backup: restore points, segment switches, archive_command."""

from alfresco_backup.postgres.database import Database, quoted_literal
from alfresco_backup.postgres.versions import VersionFacts


def rights_needed(facts: VersionFacts) -> tuple[str, ...]:
    """The rights, as GRANT names them. Empty where the version can give them to no one but a superuser."""
    if not (facts.grantable_restore_point and facts.monitor_role):
        return ()
    functions = ("pg_create_restore_point(text)", f"{facts.switch_wal}()")
    return (*(f"EXECUTE ON FUNCTION {name}" for name in functions), facts.monitor_role)


def lacking_rights(database: Database, facts: VersionFacts, role: str) -> tuple[str, ...]:
    """Those a role has not, in this database: rights on functions are each database's own."""
    name = quoted_literal(role)
    questions = {
        right: f"has_function_privilege({name}, {quoted_literal(right.split(' ', 3)[3])}, 'execute')"
        if right.startswith("EXECUTE")
        else f"pg_has_role({name}, {quoted_literal(right)}, 'usage')"
        for right in rights_needed(facts)
    }
    return tuple(
        right for right, question in questions.items() if database.value(f"SELECT {question}") != "t"
    )
