"""A container engine for the tests, podman, and images made of the Debian packages of this machine.

No image registry is needed: an image holds the files of installed packages (PostgreSQL, what it is linked
with, the usual small programs) and an entry point with the customs of the usual images: PGDATA,
POSTGRES_USER, POSTGRES_PASSWORD, an account postgres with uid 999. It is made once for each state of those
packages and kept, in a storage of the tests' own, in the cache folder.

The engine's settings that this kind of machine needs (runc where crun refuses, the host's network, no higher
limits than the machine's) are in containers.conf, so that a bare `podman run` works, as it does for an
administrator. What runs programs passes PATH on and little else: the tests' podman is a script on PATH.
"""

import fcntl
import hashlib
import inspect
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from demo.places import cache_directory
from tests.support.places import own_folder

UID = 999
"""Of postgres in the image, as in the usual ones; on a host it is somebody else or nobody."""
ALFRESCO_UID = 33000
LABEL = "alfresco-backup-test"
"""On every container and volume of the tests, with the pid and start of the process that made it."""
DATA = "/var/lib/postgresql/data"
PACKAGES = (
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "mawk",
    "perl-base",
    "sed",
    "tar",
    "tzdata",
    "util-linux",
    "zstd",
)
LEFT_OUT = (
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/locale/",
    "/usr/share/lintian/",
    "/usr/share/info/",
)
PROGRAMS = Path(__file__).parents[1] / "fixtures/container"
"""The image's entry point, and what stands in for Alfresco."""
LIMIT_SECONDS = 300.0
_ACCOUNTS = (("root", 0), ("postgres", UID), ("alfresco", ALFRESCO_UID), ("nobody", 65534))


class NoEngineError(Exception):
    """No container can be run here, and why."""


def podman(*arguments: str, stdin: int | None = None, check: bool = True) -> str:
    """What podman prints. Raises CalledProcessError with its words, where `check`."""
    argv = [str(program()), *arguments]
    source = stdin or subprocess.DEVNULL
    done = subprocess.run(
        argv, stdin=source, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    if check and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
    return done.stdout.strip()


@cache
def program() -> Path:
    """The podman of the tests, in a folder of its own for PATH. Raises NoEngineError."""
    found = shutil.which("podman")
    if os.geteuid() != 0 or not found:
        raise NoEngineError("needs root" if found else "there is no podman here")
    storage = cache_directory() / "containers"
    storage.mkdir(parents=True, exist_ok=True)
    folder = own_folder() / "engine"
    folder.mkdir()
    settings = folder / "containers.conf"
    settings.write_text(_settings())
    script = folder / "podman"
    script.write_text(
        f"#!/bin/sh\nexport CONTAINERS_CONF={settings}\n"
        f'exec {found} --root {storage}/storage --runroot /run/alfresco-backup-test "$@"\n'
    )
    script.chmod(0o755)
    return script


def _settings() -> str:
    runtime = "runc" if shutil.which("runc") else "crun"
    limits = (f"{name}=1024:4096" for name in ("nofile", "nproc"))
    ulimits = ", ".join(f'"{limit}"' for limit in limits)
    return (
        f'[engine]\nruntime = "{runtime}"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'[containers]\nnetns = "host"\nlog_driver = "k8s-file"\ndefault_ulimits = [{ulimits}]\n'
    )


@cache
def engine_or_reason() -> str:
    """Empty where containers run here, seen by running one; else why not."""
    try:
        image()
        name = f"{LABEL}-probe-{os.getpid()}"
        podman("run", "--rm", "--name", name, *label(), image(), "true")
    except NoEngineError as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return f"no container runs here: {error.stderr.strip()[-300:]}"
    remove_left_over()
    return ""


def remove_left_over() -> None:
    """Remove the containers and volumes of test processes that are gone."""
    for kind, listing in (
        ("container", ("ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.ID}}")),
        ("volume", ("volume", "ls", "--filter", f"label={LABEL}", "--format", "{{.Name}}")),
    ):
        for name in podman(*listing).splitlines():
            where = ".Config.Labels" if kind == "container" else ".Labels"
            maker = podman(kind, "inspect", "--format", f'{{{{index {where} "{LABEL}"}}}}', name, check=False)
            if maker and maker != _process(maker.partition(".")[0]):
                remove(kind, name)


def label() -> tuple[str, str]:
    """The options that put the label on a container or volume."""
    return ("--label", f"{LABEL}={_process('self')}")


def _process(pid: str) -> str:
    """A process by pid and start, since pids are given again; empty where it is gone."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return f"{status.split()[0]}.{status.rpartition(')')[2].split()[19]}"


def remove(kind: str, name: str) -> None:
    """Remove a container (with its anonymous volumes), or a volume with all containers that have it."""
    names = [name]
    if kind == "volume":
        names = podman("ps", "--all", "--filter", f"volume={name}", "--format", "{{.ID}}").split()
    for container in names:
        podman("rm", "-f", "-v", "-t", "0", container, check=False)
    if kind == "volume":
        podman("volume", "rm", "-f", name, check=False)


@cache
def image() -> str:
    """The image with PostgreSQL, made if it is not there. Raises NoEngineError."""
    bindir = server_bindir()
    packages = (*PACKAGES, f"postgresql-{bindir.parent.name}", f"postgresql-client-{bindir.parent.name}")
    return _made(f"postgres:{bindir.parent.name}", packages, bindir)


@cache
def musl_image() -> str:
    """The same image with the marks of Alpine: loader and os-release. Its PostgreSQL is still glibc's."""
    base = image()
    name = base.replace("/postgres:", "/postgres-alpine:")
    with tempfile.TemporaryDirectory() as folder, _one_at_a_time():
        if _exists(name):
            return name
        recipe = Path(folder, "Containerfile")
        recipe.write_text(
            f"FROM {base}\nRUN printf 'ID=alpine\\nVERSION_ID=3.20\\n' >/etc/os-release && "
            "cp /bin/true /lib/ld-musl-x86_64.so.1\n"
        )
        podman("build", "-q", "-t", name, "-f", str(recipe), folder)
    return name


def server_bindir() -> Path:
    """The newest server of Debian's packages."""
    found = [
        folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if (folder / "pg_receivewal").exists()
    ]
    if not found:
        raise NoEngineError(
            "there is no PostgreSQL of Debian's packages here, of which an image could be made"
        )
    return max(found, key=lambda folder: int(folder.parent.name))


def _exists(name: str) -> bool:
    argv = [str(program()), "image", "exists", name]
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


def _made(name: str, packages: tuple[str, ...], bindir: Path) -> str:
    try:
        versions = _output("dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise NoEngineError(f"images are made of Debian packages, and: {error}") from error
    recipe = "".join(inspect.getsource(part) for part in (_fill, _belongs, _libraries, _import))
    programs = "".join(part.read_text() for part in sorted(PROGRAMS.iterdir()))
    state = hashlib.sha256((versions + recipe + programs).encode()).hexdigest()[:12]
    tag = f"localhost/{name}-{state}"
    with _one_at_a_time():
        if not _exists(tag):
            with tempfile.TemporaryDirectory(dir=own_folder()) as folder:
                _fill(Path(folder), packages, bindir)
                _import(Path(folder), tag, bindir)
            for old in podman("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
                if f"/{name}-" in old and old != tag:
                    podman("rmi", old, check=False)  # not one that is in use
    return tag


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    program()
    with (cache_directory() / "containers/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(root: Path, packages: tuple[str, ...], bindir: Path) -> None:
    """Copy what the packages have installed, and the libraries that their programs are linked with."""
    for link in ("bin", "sbin", "lib", "lib64"):
        if Path("/", link).is_symlink():
            (root / link).symlink_to(Path("/", link).readlink())
            (root / "usr" / link).mkdir(parents=True, exist_ok=True)
    files = {line for line in _output("dpkg", "-L", *packages).splitlines() if _belongs(line)}
    programs = [line for line in files if os.access(line, os.X_OK) or ".so" in line]
    files |= set(_libraries(programs))
    listing = root / "files"
    listing.write_text("\n".join(sorted(files)))
    argv = ["tar", "-C", "/", "--no-recursion", "--ignore-failed-read", "-cf", "-", "-T", str(listing)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as packed:
        subprocess.run(
            ["tar", "-C", root, "--keep-directory-symlink", "-xf", "-"], stdin=packed.stdout, check=True
        )
    listing.unlink()
    for name in ("etc", "proc", "sys", "dev", "run", "root", "tmp", "var/tmp", DATA.strip("/")):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in _ACCOUNTS))
    (root / "etc/group").write_text("".join(f"{name}:x:{uid}:\n" for name, uid in _ACCOUNTS))
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    os.chown(root / DATA.strip("/"), UID, UID)
    (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    for part in PROGRAMS.iterdir():
        shutil.copy(part, root / "usr/local/bin")
        (root / "usr/local/bin" / part.name).chmod(0o755)
    subprocess.run(["ldconfig", "-r", root], check=True, capture_output=True)


def _belongs(line: str) -> bool:
    """A line of `dpkg -L`: no documents, no other languages, nothing of just-in-time compilation."""
    return (
        line.startswith("/")
        and not f"{line}/".startswith(LEFT_OUT)
        and "llvm" not in line
        and "bitcode" not in line
    )


def _libraries(programs: list[str]) -> Iterator[str]:
    """The paths of all shared libraries and of the loader, links and what they lead to."""
    found = subprocess.run(
        ["ldd", *programs], capture_output=True, text=True, check=False
    )  # scripts are no failure
    words = {word for word in found.stdout.split() if word.startswith("/") and not word.endswith(":")}
    for word in words:
        if Path(word).exists():
            yield word
            yield str(Path(word).resolve())


def _import(root: Path, tag: str, bindir: Path) -> None:
    changes = (
        f"ENV PATH={bindir}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        f"ENV PGDATA={DATA}",
        "ENV LANG=C.UTF-8",
        f"ENV PG_MAJOR={bindir.parent.name}",
        f"VOLUME {DATA}",
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        'CMD ["postgres"]',
        "STOPSIGNAL SIGINT",
    )
    options = [word for change in changes for word in ("--change", change)]
    with subprocess.Popen(["tar", "-C", root, "-cf", "-", "."], stdout=subprocess.PIPE) as packed:
        assert packed.stdout
        podman("import", "-q", *options, "-", tag, stdin=packed.stdout.fileno())


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
