"""What the verbs without Prefect do.

Imported when one of them is asked for: those with a flow begin sooner without.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from alfresco_backup.cli.commands import Typed, answer_with_page
from alfresco_backup.cli.configure import configure
from alfresco_backup.cli.entry import Answer, answer_of, say
from alfresco_backup.cli.offsite import offsite
from alfresco_backup.doctor.context import CheckContext
from alfresco_backup.doctor.doctor import run_checks
from alfresco_backup.doctor.report import doctor_json, doctor_text
from alfresco_backup.host.host import load_host
from alfresco_backup.repository.layout import Repository
from alfresco_backup.repository.marker import BEGIN, begin_again
from alfresco_backup.repository.pins import Pin, pin_set, unpin_set
from alfresco_backup.retention.holds import accept_hold
from alfresco_backup.settings.env_file import env_file_path, load_settings
from alfresco_backup.status.as_html import status_page
from alfresco_backup.status.as_json import status_json
from alfresco_backup.status.as_text import status_text
from alfresco_backup.status.assess import read_status
from alfresco_backup.streaming.receiver import receive
from alfresco_backup.system.signals import interrupt_at_termination
from alfresco_backup.times import utc_now


def show_status(typed: Typed) -> Answer:
    report = read_status(load_settings(), utc_now())
    answer = Answer(status_text(report), status_json(report), report.exit_code)
    return answer_with_page(typed, answer, lambda: status_page(report))


def run_doctor(typed: Typed) -> Answer:
    context = CheckContext(
        load_host(),
        env_file_path(),
        utc_now(),
        os.environ,
        send_mail=typed.send_mail,
    )
    report = run_checks(context, typed.time_limit)
    return Answer(doctor_text(report, verbose=typed.verbose), doctor_json(report), report.exit_code)


def accept(typed: Typed) -> Answer:
    hold = accept_hold(_repository(), typed.run, typed.reason, utc_now())
    return answer_of(f"accepted: {hold.sentence} ({hold.reason})", run=hold.run, reason=hold.reason)


def pin(typed: Typed) -> Answer:
    pinned = pin_set(_repository(), typed.backup_id, typed.reason, utc_now())
    return _pin_answer(pinned, f"set {pinned.stamp} is pinned: {pinned.reason}")


def unpin(typed: Typed) -> Answer:
    gone = unpin_set(_repository(), typed.backup_id)
    return _pin_answer(gone, f"set {gone.stamp} is no longer pinned (it was: {gone.reason})")


def _pin_answer(pin: Pin, words: str) -> Answer:
    return answer_of(words, backup_id=pin.stamp, reason=pin.reason)


def begin(_typed: Typed) -> Answer:
    repository, host_name = _repository(), load_settings().alf_host_name
    identity = begin_again(repository, host_name, env_file_path())
    return answer_of(f"{repository.root} is the repository {identity} of {host_name} now", id=identity)


def run_receiver(_typed: Typed) -> Answer:
    """Receive until SIGTERM or Ctrl-C, which end it in order."""
    interrupt_at_termination()
    with suppress(KeyboardInterrupt):
        receive(load_host, say)
    return answer_of("the receiver was stopped")


def _repository() -> Repository:
    repository = Repository(load_settings().backup_dir)
    repository.require()
    return repository


WORKS: Mapping[str, Callable[[Typed], Answer]] = {
    "status": show_status,
    "doctor": run_doctor,
    "pin": pin,
    "unpin": unpin,
    "accept": accept,
    "offsite": offsite,
    "configure": configure,
    BEGIN: begin,
    "wal-receiver": run_receiver,
}
"""By verb."""
