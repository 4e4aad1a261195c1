"""The status as one JSON document; docs/reference/status-json.md describes it.

Fields are only added within a schema number. Times are ISO 8601 in UTC, sizes bytes, ages seconds.
"""

import json
from datetime import datetime
from typing import Any

from alfresco_backup.backup.proof import Proof
from alfresco_backup.findings import JSON_SCHEMA, finding_documents
from alfresco_backup.offsite.state import LastRun
from alfresco_backup.repository.sets_table import new_bytes_of, size_of, state_of
from alfresco_backup.status.assess import newest_complete
from alfresco_backup.status.offsite import OffsiteReport
from alfresco_backup.status.report import PartStatus, RunStatus, SetStatus, SpaceStatus, StatusReport
from alfresco_backup.streaming.report import StreamingReport
from alfresco_backup.system.json_fields import document_of, plain, time_text
from alfresco_backup.wal.verified import Verification
from alfresco_backup.wal.window import Gap


def status_json(report: StatusReport) -> str:
    return json.dumps(status_document(report), indent=1)


def status_document(report: StatusReport) -> dict[str, Any]:
    """The document, made of what JSON knows."""
    complete = newest_complete(report)
    window = report.window
    return {
        "schema": JSON_SCHEMA,
        "state": report.state,
        "exit_code": report.exit_code,
        "host": report.host,
        "repository": str(report.root),
        "checked_at": time_text(report.moment),
        "headline": report.headline,
        "window": {"from": time_text(window[0]), "to": time_text(window[1])} if window else None,
        "gaps": [_gap(gap) for gap in report.gaps],
        "wal": _wal(report.verification) if report.verification else None,
        "newest_complete": complete.stamp if complete else None,
        "sets": [_set(item, report) for item in report.sets],
        "space": _space(report.space) if report.space else None,
        "offsite": _offsite(report.offsite) if report.offsite else None,
        "streaming": _streaming(report.streaming) if report.streaming else None,
        "runs": [_run(run) for run in report.runs],
        "holds": [
            {**plain(hold, "run cause sentence fix"), "held_at": _time(hold.held_at)} for hold in report.holds
        ],
        "problems": finding_documents(report.problems),
    }


def _time(moment: datetime | None) -> str | None:
    return time_text(moment) if moment else None


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "from": time_text(gap.before),
        "to": _time(gap.lost_until),
        "first_segment": gap.first,
        "last_segment": gap.last,
        "segments": gap.count,
        "damaged": gap.damaged,
    }


def _wal(verification: Verification) -> dict[str, Any]:
    return {
        **plain(verification, "segments verified damaged"),
        "not_yet": verification.waiting,
        "not_verifiable": dict(verification.reasons),
        "oldest_verified_at": _time(verification.oldest),
        "newest_verified_at": _time(verification.newest),
    }


def _set(item: SetStatus, report: StatusReport) -> dict[str, Any]:
    backup, leading, now = item.item, item.leading, report.moment
    state = report.offsite.state if report.offsite else None
    return {
        "backup_id": backup.stamp,
        "started_at": time_text(backup.moment),
        "ended_at": time_text(backup.ended_at),
        "age_seconds": round((now - backup.moment).total_seconds()),
        "complete": backup.complete,
        "predecessor": backup.legacy,
        "state": state_of(backup),
        "deleted_files": sum(item.deleted_files for item in backup.snapshots.values()),
        "deleted_days": sum(item.deleted_days for item in backup.snapshots.values()),
        "changed_files": sum(item.changed_files for item in backup.snapshots.values()),
        "offsite": backup.stamp in state.whole if state else None,
        "bytes": size_of(backup),
        "new_bytes": new_bytes_of(backup),
        "restorable": [
            {"from": time_text(each.start), "to": time_text(each.end), "timeline": each.timeline}
            for each in item.intervals
        ],
        "end_only": item.end_only,
        "restore_drill": _drill(item.proof) if item.proof else None,
        "pin": {"reason": item.pin.reason, "pinned_at": _time(item.pin.pinned_at)} if item.pin else None,
        **_retention(leading),
        "parts": [_part(part) for part in item.parts],
    }


def _drill(proof: Proof) -> dict[str, Any]:
    """As on disk, with the names that are printed."""
    fields = document_of(proof)
    return {
        "verified_at": fields.pop("proven_at"),
        "backup_id": fields.pop("stamp"),
        **fields,
        "sound": proof.sound,
    }


def _part(part: PartStatus) -> dict[str, Any]:
    return {**plain(part, "name bytes new_bytes"), "path": str(part.path), **_retention(part)}


def _retention(part: PartStatus) -> dict[str, Any]:
    verdict = part.verdict
    return {
        "kept": verdict.keep if verdict else None,
        "why": verdict.reason if verdict else None,
        "kept_until": _time(part.until),
    }


def _space(space: SpaceStatus) -> dict[str, Any]:
    pace = space.trend.pace
    return {
        "disk": plain(space.disk, "total used free inodes free_inodes"),
        "stored": plain(space, "database wal content configuration"),
        "new_per_day": plain(pace, "days database wal content configuration total") if pace else None,
        "full_on": _time(space.trend.full_on),
        "trend": space.trend.sentence,
    }


def _offsite(offsite: OffsiteReport) -> dict[str, Any]:
    state = offsite.state
    return {
        "repository": offsite.repository,
        "begun_at": _time(state.begun_at) if state else None,
        "newest_complete": (state.newest_complete if state else "") or None,
        "newest_complete_at": _time(state.newest_complete_at) if state else None,
        "whole": len(state.whole) if state else 0,
        "of_sets": state.sets if state else 0,
        "wal_segment": (state.wal_segment if state else "") or None,
        "wal_until": _time(state.wal_until) if state else None,
        "stored_bytes": state.stored_bytes if state and state.measured_at else None,
        "measured_at": _time(state.measured_at) if state else None,
        "restore_drill": _drill(offsite.proof) if offsite.proof else None,
        "actions": {name: _action(run) for name, run in sorted(state.runs.items())} if state else {},
    }


def _streaming(streaming: StreamingReport) -> dict[str, Any]:
    slot, state = streaming.slot, streaming.state
    return {
        "slot": streaming.name,
        "active": slot.active if slot else None,
        "flushed": str(slot.flushed) if slot and slot.flushed else None,
        "bytes_behind": slot.behind if slot else None,
        "seconds_behind": slot.age if slot else None,
        "bytes_kept": slot.kept if slot else None,
        "wal_status": (slot.status if slot else "") or None,
        "heard_at": _time(state.heard_at) if state else None,
        "heard_flushed": (state.flushed if state else "") or None,
        "sentence": streaming.sentence,
    }


def _action(run: LastRun) -> dict[str, Any]:
    times = {name: _time(getattr(run, name)) for name in ("succeeded_at", "failing_since", "failed_at")}
    return {**plain(run, "sentence sent_bytes error fix"), **times}


def _run(run: RunStatus) -> dict[str, Any]:
    times = {"started_at": time_text(run.started_at), "ended_at": _time(run.ended_at)}
    return {"flow": run.flow, "backup_id": run.stamp, "state": run.state, **times, "sentence": run.words}
