"""What `configure` decided and did, for people and as JSON. Pure; secrets never come this far."""

import json
from collections.abc import Sequence
from typing import Any

from alfresco_backup.configure.apply import Applied
from alfresco_backup.configure.changes import ConfigurePlan, SettingChange
from alfresco_backup.configure.undo import Undone
from alfresco_backup.errors import EXIT_ATTENTION, EXIT_SUCCESS
from alfresco_backup.findings import JSON_SCHEMA, finding_documents, finding_lines
from alfresco_backup.settings.commands import configure_command


def plan_text(host: str, plan: ConfigurePlan) -> str:
    """The plan as lines: each change old -> new with its reason, then what is left alone."""
    if plan.done:
        return f"configure of {host}: nothing to change"
    count = len(plan.changes)
    lines = [f"configure of {host}: {count or 'no'} change{'' if count == 1 else 's'}"]
    for item in plan.changes:
        lines.append(f"  {item.subject}: {item.old} -> {item.new}")
        after = "in force after a restart of PostgreSQL" if _needs_restart(item) else ""
        reason = "; ".join(part for part in (item.reason, after) if part)
        if reason:
            lines.append(f"      {reason}")
    if plan.waiting:
        lines.append(f"  waiting for a restart of PostgreSQL already: {', '.join(plan.waiting)}")
    if plan.left:
        lines.append("left alone, to be decided by you:")
        lines += [f"  {line}" for line in finding_lines(plan.left)]
    return "\n".join(lines)


def how_to_apply(plan: ConfigurePlan, options: Sequence[str]) -> str:
    """What to type after a plan was only shown; empty where configure has nothing to do."""
    if not (plan.changes or plan.restart_for):
        return ""
    apply = configure_command("--apply", *options)
    if not plan.restart_for:
        return f"Nothing was changed. To do it: {apply}"
    both = configure_command("--apply", "--restart", *options)
    if not plan.changes:
        return f"To restart: {both}; or restart PostgreSQL yourself"
    names = ", ".join(plan.restart_for)
    return (
        f"Nothing was changed. To do it and restart PostgreSQL for {names}: {both}\n"
        f"To do it and restart later: {apply}"
    )


def applied_text(plan: ConfigurePlan, applied: Applied) -> str:
    """What was done and verified, and what is left to do."""
    lines = [f"applied; to undo it: {configure_command('--undo', applied.stamp)}"] if plan.changes else []
    lines += [f"verified: {item}" for item in applied.verified]
    if applied.waiting:
        names = ", ".join(applied.waiting)
        restart = configure_command("--apply", "--restart")
        lines.append(f"to do: restart PostgreSQL, {names} wait for it: {restart}; or restart it yourself")
    if plan.left:
        lines.append(f"to do: {len(plan.left)} left alone, see above")
    return "\n".join(lines)


def undone_text(undone: Undone) -> str:
    """What was undone and what was not."""
    if undone.count or undone.left or undone.kept:
        lines = [f"configure {undone.stamp}: {undone.count} changes undone"]
    else:
        lines = [f"configure {undone.stamp} is undone already; nothing to do"]
    lines += [f"kept: {item}" for item in undone.kept]
    lines += [f"not undone: {item}" for item in undone.left]
    if undone.waiting:
        names = ", ".join(undone.waiting)
        restart = configure_command("--undo", undone.stamp, "--restart")
        piles = "; without archive_command WAL accumulates until then" if "archive_mode" in names else ""
        lines.append(
            f"to do: restart PostgreSQL, {names} are still in force{piles}: {restart}; or restart it yourself"
        )
    return "\n".join(lines)


def exit_code_of(plan: ConfigurePlan, applied: Applied | None) -> int:
    """0: the host is as it should be. 5: something is still to be done."""
    if applied is None:
        return EXIT_SUCCESS if plan.done else EXIT_ATTENTION
    return EXIT_ATTENTION if applied.waiting or plan.left else EXIT_SUCCESS


def plan_json(host: str, plan: ConfigurePlan, applied: Applied | None, verified: Sequence[str]) -> str:
    """The document of a plan and, where it was applied, of what came of it."""
    document: dict[str, Any] = {
        "schema": JSON_SCHEMA,
        "state": "done" if applied or plan.done else "planned",
        "exit_code": exit_code_of(plan, applied),
        "host": host,
        "changes": [
            {
                "subject": item.subject,
                "old": item.old,
                "new": item.new,
                "reason": item.reason,
                "restart": _needs_restart(item),
            }
            for item in plan.changes
        ],
        "left": finding_documents(plan.left),
        "restart_for": list(applied.waiting if applied else plan.restart_for),
        "applied": applied.stamp if applied else None,
        "verified": list(verified),
    }
    return _written(document)


def undone_json(host: str, undone: Undone) -> str:
    return _written(
        {
            "schema": JSON_SCHEMA,
            "state": "done",
            "exit_code": undone_exit_code(undone),
            "host": host,
            "undone": undone.stamp,
            "undone_changes": undone.count,
            "kept": list(undone.kept),
            "left": list(undone.left),
            "restart_for": list(undone.waiting),
        }
    )


def undone_exit_code(undone: Undone) -> int:
    return EXIT_ATTENTION if undone.left or undone.waiting else EXIT_SUCCESS


def _written(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1)


def _needs_restart(change: object) -> bool:
    return isinstance(change, SettingChange) and change.restart
