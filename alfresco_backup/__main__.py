"""`python -m alfresco_backup VERB`: hands what was typed to what does it.

Flows and deployments are above this package and need Prefect, which reads its environment when it is
imported: they are imported when asked for, with the environment prepared and the settings found good.
"""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from alfresco_backup.cli.commands import Typed, Verb, env_file_of, parse
from alfresco_backup.cli.entry import Answer, answer_of, prepare_environment, tell
from alfresco_backup.errors import SettingsError
from alfresco_backup.settings.commands import program_command
from alfresco_backup.settings.env_file import env_file_path, load_settings
from alfresco_backup.settings.model import HOST_NAME_PATTERN
from tasks.runs.server_process import server_ahead

WITHOUT_HOST = ("serve", "fleet")
"""Verbs that do not begin with the settings of one host."""


def main(arguments: Sequence[str]) -> int:
    """Do what was typed; returns the exit code (errors.EXIT_CODES)."""
    verb, typed = parse(arguments)
    prepare_environment(env_file_of(typed))
    return tell(lambda: carry_out(verb, typed), as_json=typed.json)


def carry_out(verb: Verb, typed: Typed) -> Answer:
    """The verb's answer. Raises BackupError."""
    call = verb.call(typed) if verb.call else None
    if verb.work and not call:
        from alfresco_backup.cli.works import WORKS  # noqa: PLC0415 - half a second that flows need not wait

        return WORKS[verb.name](typed)
    if verb.name in WITHOUT_HOST:
        return of_all_hosts(verb.name, typed)
    if verb.name == "deploy":
        return deploy(typed)
    order = verb.order(typed) if verb.order else None
    load_settings()
    if call:
        with server_ahead():
            with importing():
                from flows.by_hand import load_flow, run_flow  # noqa: PLC0415 - likewise

                flow = load_flow(call.verb)
            return run_flow(flow, call, as_json=typed.json)
    if verb.order:
        with server_ahead() if order and order.execute else nullcontext():
            with importing():
                from flows.by_hand import restore  # noqa: PLC0415 - likewise
            return restore(order, as_json=typed.json)
    raise AssertionError(f"{verb.name} is none of the kinds that Verb describes")


@contextmanager
def importing() -> Iterator[None]:
    """Around the import of Prefect: none of it becomes garbage, and to look for it is a sixth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def of_all_hosts(verb: str, typed: Typed) -> Answer:
    """What needs the Prefect server, or starts one, and no good settings of a host."""
    if verb == "fleet":
        from flows.by_hand import show_fleet  # noqa: PLC0415 - see above

        return show_fleet(typed)
    from deployments.serve import serve  # noqa: PLC0415 - likewise

    serve(typed.database)
    return answer_of("")


def deploy(typed: Typed) -> Answer:
    """For one host on its machine; for those of a directory; for what shows all; or a host's removal."""
    from deployments import bootstrap  # noqa: PLC0415 - see above

    env_file = env_file_path()
    if (typed.execute or typed.confirm) and not typed.remove:
        raise wrong_arguments("--execute and --confirm belong to --remove")
    if typed.take_over and env_file.is_dir():
        raise wrong_arguments(f"--take-over is of one host, on its machine; {env_file} is a directory")
    if typed.remove and not HOST_NAME_PATTERN.fullmatch(typed.remove):
        raise wrong_arguments(f"--remove {typed.remove!r}: expected the name of a host, its ALF_HOST_NAME")
    if typed.remove:
        text, items = bootstrap.remove_host(typed.remove, execute=typed.execute, confirm=typed.confirm)
        return answer_of(text, host=typed.remove, removed=typed.execute, items=items)
    if typed.fleet:
        return answer_of("", lines=bootstrap.bootstrap_fleet(env_file, typed.html))
    if env_file.is_dir():
        return answer_of("", lines=bootstrap.bootstrap_folder(env_file))
    settings = load_settings()
    lines = bootstrap.bootstrap(settings, env_file, take_over=typed.take_over)
    return answer_of("", host=settings.alf_host_name, lines=lines)


def wrong_arguments(complaint: str) -> SettingsError:
    return SettingsError([complaint], program_command("deploy", "--help"), "argument")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
