"""What earlier runs have found damaged in the base backup of a plan, and which one to take instead. Pure.

A warning, not a refusal: the damage may be in what nobody needs, there may be nothing better, and drills of
older versions noted a full disk as a finding, too. So it says what was found, not that the base backup is
damaged. What no drill has looked at, and no server has noticed, is not known.
"""

from collections.abc import Iterator
from dataclasses import replace

from alfresco_backup.repository.records import BaseBackup
from alfresco_backup.repository.sets import Catalogue
from alfresco_backup.restore.planning.choose_backup import Choice, missing_parts
from alfresco_backup.restore.planning.facts import HostFacts
from alfresco_backup.restore.planning.request import RestoreRequest, command_of
from alfresco_backup.restore.planning.window import Reachable
from alfresco_backup.times import for_people

NAMED = 5


def damage_warnings(
    request: RestoreRequest, choice: Choice, catalogue: Catalogue, facts: HostFacts, reachable: Reachable
) -> Iterator[str]:
    """What is known to be damaged in the chosen base backup, and the newest without known damage."""
    found = "; ".join(known_damage(choice.base, facts))
    if not found:
        return
    others = _bases_to(choice, catalogue, facts, reachable, request)
    sound = [base for base in others if not list(known_damage(base, facts))]
    newest = max(sound, key=lambda base: base.stopped_at, default=None)
    if newest is None:
        none = "no other base backup without known damage leads there"
        yield f"base backup {choice.base.stamp}: {found}; {none}"
        return
    to = "" if request.target_time else f", whose end is {for_people(newest.stopped_at)}"
    command = command_of(replace(request, backup=newest.stamp))
    yield (
        f"base backup {choice.base.stamp}: {found}; the newest one without known damage is "
        f"{newest.stamp}{to}. HINT: {command}"
    )


def known_damage(base: BaseBackup, facts: HostFacts) -> Iterator[str]:
    """What a restore drill found, and files that were damaged on the server already."""
    if base.stamp in facts.found_by_drills:
        yield facts.found_by_drills[base.stamp]
    if files := base.damaged_files:
        more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        names = f"{', '.join(files[:NAMED])}{more}"
        yield f"the server met pages with wrong checksums in {names} during the backup"


def _bases_to(
    choice: Choice, catalogue: Catalogue, facts: HostFacts, reachable: Reachable, request: RestoreRequest
) -> Iterator[BaseBackup]:
    """The base backups that lead to the same state; where the state is that of a set, those of other sets."""
    ways = reachable.on(choice.timeline).ways
    if request.target_time is None:
        usable = {way.base.stamp for way in reachable.ways}
        for item in catalogue.sets:
            known = item.base is not None and item.base.stamp in usable and item.moment <= facts.now
            if known and item.base and not missing_parts(item, request):
                yield item.base
    elif request.exact_time is None:
        yield from (way.base for way in ways if way.interval.end >= choice.state_time)
    else:
        yield from (way.base for way in ways if way.contains(choice.state_time))
