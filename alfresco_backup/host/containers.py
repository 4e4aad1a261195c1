"""Containers of this host: asked of their engine, docker or podman, whose `inspect` says the same of both.

What a container sees at a path is on the host where its mounts say. Only local volumes and bind mounts have
such a place; what is in the container's own layer is lost with it, and is found nowhere.
"""

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from alfresco_backup.errors import HostNotReady, ToolFailed
from alfresco_backup.settings.commands import edit_setting
from alfresco_backup.settings.model import Settings
from alfresco_backup.system.processes import Command, run

ENGINES = ("docker", "podman")
INSPECT_SECONDS = 60.0
DATA_INSIDE = Path("/var/lib/postgresql/data")
"""PGDATA of the usual images until PostgreSQL 17; later ones name another in their environment."""
HOME_INSIDE = Path("/usr/local/tomcat")
KEYSTORE_INSIDE = HOME_INSIDE / "shared/classes/alfresco/extension/keystore"
NO_SUCH = re.compile(r"no such (container|object)|no container with name", re.IGNORECASE)
MUSL = "musl"
WHICH_LIBC = """
if grep -qi '^ID=.*alpine' /etc/os-release; then echo musl; exit; fi
for file in /lib/ld-linux* /lib64/ld-linux*; do [ -e "$file" ] && echo glibc && exit; done
for file in /lib/ld-musl-*; do [ -e "$file" ] && echo musl && exit; done
exit 1"""


@dataclass(frozen=True)
class Container:
    """A container as its engine describes it. `pid` is the host's number of its first process, 0 for none.

    `mounts`: the path inside and that on the host of each volume and bind mount. `command` is what it runs.
    """

    engine: str
    name: str
    running: bool
    pid: int
    image: str
    environment: dict[str, str]
    mounts: tuple[tuple[Path, Path], ...]
    command: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)

    def host_path(self, inside: Path) -> Path | None:
        """Where the host has what the container has at a path; None where that is in no mount."""
        found = [(target, source) for target, source in self.mounts if inside.is_relative_to(target)]
        if not found:
            return None
        target, source = max(found, key=lambda pair: len(pair[0].parts))
        return source / inside.relative_to(target)

    @property
    def data_directory(self) -> Path | None:
        """The host's path of PostgreSQL's data directory."""
        return self.host_path(Path(self.environment.get("PGDATA") or DATA_INSIDE))

    def java_option(self, name: str) -> str:
        """The value of a `-Dname=value` that the container gives to Java; empty for none."""
        texts = (self.environment.get(variable, "") for variable in ("JAVA_OPTS", "JAVA_TOOL_OPTIONS"))
        found = re.findall(rf"(?:^|\s)-D{re.escape(name)}=(\S+)", " ".join(texts))
        return str(found[-1]) if found else ""


def parse_inspect(engine: str, text: str) -> Container:
    """One container from the JSON of `inspect`. Raises HostNotReady naming what is missing or wrong."""
    try:
        document = json.loads(text)
        (item,) = document
        state, config = _object(item, "State"), _object(item, "Config")
        name, image = _value(item, "Name", str), _value(item, "Image", str)
        words = config.get("Env") or []
        environment = dict(word.split("=", 1) for word in words if "=" in word)
        mounts = tuple(
            (Path(_value(mount, "Destination", str)), Path(_value(mount, "Source", str)))
            for mount in item.get("Mounts") or []
            if mount.get("Source")  # a tmpfs has none
        )
        return Container(
            engine,
            name.removeprefix("/"),
            _value(state, "Running", bool),
            _value(state, "Pid", int),
            image,
            environment,
            mounts,
            tuple(str(word) for word in config.get("Cmd") or ()),
            {str(name): str(value) for name, value in (config.get("Labels") or {}).items()},
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise HostNotReady(f"what {engine} says of a container is not understood: {error}") from error


def _object(item: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(_value(item, name, dict))


def _value(item: dict[str, Any], name: str, kind: type) -> Any:
    value = item.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{name} is missing or no {kind.__name__}")
    return value


def find_engine(settings: Settings, container: str) -> str:
    """The program of the engine: CONTAINER_ENGINE, else the one of docker and podman that has the container.

    Raises HostNotReady.
    """
    if settings.container_engine:
        path = shutil.which(settings.container_engine)
        if path is None:
            what = f"CONTAINER_ENGINE={settings.container_engine} is no program here"
            raise HostNotReady(what, edit_setting("CONTAINER_ENGINE"))
        return path
    return _found_engine(container, os.environ.get("PATH", ""))


@lru_cache(maxsize=16)
def _found_engine(container: str, path: str) -> str:
    said = []
    for name in ENGINES:
        program = shutil.which(name, path=path)
        if program is None:
            said.append(f"{name} is not installed")
            continue
        try:
            run(Command((program, "container", "inspect", container), INSPECT_SECONDS), keep_output=True)
        except ToolFailed as failure:
            said.append(f"{name}: {(failure.tail or failure.message).splitlines()[-1]}")
        else:
            return program
    names = ("PG_CONTAINER", "ALF_CONTAINERS", "CONTAINER_ENGINE")
    raise HostNotReady(
        f"container {container} was found by no engine: {'; '.join(said)}",
        "\n".join(map(edit_setting, names)),
    )


def inspect_container(settings: Settings, name: str) -> Container:
    """A container as it is now. Raises HostNotReady where the engine does not know it or cannot be asked."""
    container = look_for_container(find_engine(settings, name), name)
    if container is None:
        setting = "PG_CONTAINER" if name == settings.pg_container else "ALF_CONTAINERS"
        raise HostNotReady(f"there is no container {name}", edit_setting(setting))
    return container


def look_for_container(engine: str, name: str) -> Container | None:
    """The same; None where the engine knows no such container."""
    try:
        done = run(Command((engine, "container", "inspect", name), INSPECT_SECONDS), keep_output=True)
    except ToolFailed as failure:
        if NO_SUCH.search(failure.tail):
            return None
        said = failure.tail or failure.message
        raise HostNotReady(f"container {name} cannot be inspected: {said}", f"{engine} info") from failure
    return parse_inspect(Path(engine).name, done.output)


def server_container(settings: Settings) -> Container:
    """PostgreSQL's container. Raises HostNotReady."""
    return inspect_container(settings, settings.pg_container)


def libc_of(settings: Settings, container: Container) -> str:
    """The libc of a running container's programs: musl is Alpine's, though others may have its loader, too.

    Raises ToolFailed where it is neither.
    """
    argv = (find_engine(settings, container.name), "exec", container.name, "sh", "-c", WHICH_LIBC)
    return run(Command(argv, INSPECT_SECONDS), keep_output=True).output.strip()


def data_directory_of(container: Container) -> Path:
    """The host's path of the data directory. Raises HostNotReady where it is in no volume or bind mount."""
    if container.data_directory is None:
        inside = container.environment.get("PGDATA") or DATA_INSIDE
        raise HostNotReady(
            f"container {container.name} has no mount with {inside}: its data directory is in the container "
            "itself, and is lost with it",
            edit_setting("PG_DATA_DIR"),
        )
    return container.data_directory


def content_store_of(containers: Sequence[Container]) -> Path:
    """The host's path of the content store, in the first container that mounts it. Raises HostNotReady."""
    for container in containers:
        root = Path(container.java_option("dir.root") or HOME_INSIDE / "alf_data")
        inside = Path(container.java_option("dir.contentstore") or root / "contentstore")
        if found := container.host_path(inside):
            return found
    names = ", ".join(container.name for container in containers)
    what = f"none of the containers {names} has a mount with {HOME_INSIDE}/alf_data or its contentstore"
    raise HostNotReady(what, edit_setting("CONTENTSTORE_DIR"))


def keystore_of(containers: Sequence[Container]) -> Path | None:
    """The host's path of the keystore's folder; None where it is in no mount, but in an image."""
    for container in containers:
        location = container.java_option("encryption.keystore.location")
        folder = container.java_option("dir.keystore") or (str(Path(location).parent) if location else "")
        if found := container.host_path(Path(folder or KEYSTORE_INSIDE)):
            return found
    return None


def stop_and_start_command(settings: Settings, names: Sequence[str], verb: str) -> tuple[str, ...]:
    """What stops containers one after the other, or starts them in the other order. Raises HostNotReady."""
    engine = find_engine(settings, names[0])
    seconds = max(1, int(settings.service_stop_minutes * 60 / len(names)))
    if verb == "start":
        return (engine, "start", *reversed(names))
    return (engine, "stop", "-t", str(seconds), *names)
