"""Doctor's checks of the off-site copy: restic, the place, the password, the clock there, what runs noted."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.findings import Finding, error, ok, warning
from alfresco_backup.offsite.copy import engine_of, require_sender
from alfresco_backup.offsite.engine import Engine
from alfresco_backup.offsite.far import FarSide, far_side

OLDEST = (0, 14)
"""The oldest restic that was tried: Debian 12's."""
ANSWER_SECONDS = 45.0
"""Less than doctor's own limit, so that a place that does not answer is named."""
CLOCK_ERROR = timedelta(minutes=5)


def check_offsite(context: CheckContext) -> list[Finding]:
    """Ask restic and the far side; send nothing.

    Raises what Engine.run raises, and Refused where another machine sends under this host's name.
    """
    host = context.host
    if not host.settings.offsite_repository:
        return [ok("off-site copy", "none is set up: OFFSITE_REPOSITORY is empty")]
    noted = context.facts.offsite.findings if context.facts.offsite else ()
    engine = engine_of(host)
    found = [item for item in noted if item.level == "ok"]  # the others are among the backups' findings
    found.append(_judge_version(engine))
    words = ("snapshots", "--json", "--no-lock", "--no-cache")
    output = engine.run(*words, timeout_seconds=ANSWER_SECONDS).output
    far = far_side(json.loads(output) or (), host.name)
    require_sender(host, far)
    found.append(
        ok("repository", f"{engine.shown} opens with the password; {len(far.sets)} backup IDs are there")
    )
    return [*found, *_judge_clock(far, context.now)]


def _judge_version(engine: Engine) -> Finding:
    said = engine.run("version", timeout_seconds=ANSWER_SECONDS).output.strip()
    match = re.match(r"restic (\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < OLDEST:
        expected = ".".join(map(str, OLDEST))
        return error(
            "restic", f"{said or 'tells no version'}; {expected} or newer is needed", "restic version"
        )
    return ok("restic", said.partition(" compiled")[0])


def _judge_clock(far: FarSide, now: datetime) -> Iterator[Finding]:
    """A copy that was sent in the future was sent by a clock that was wrong, then or now."""
    if far.snapshots and far.snapshots[-1].taken_at - now > CLOCK_ERROR:
        what = f"the newest copy there is dated {far.snapshots[-1].taken_at.isoformat()}, in the future"
        yield warning("clock", what, "timedatectl status")
