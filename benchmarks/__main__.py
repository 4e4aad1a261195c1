"""`make bench`: every measurement, one after the other; or those named: `python -m benchmarks snapshot`.

Each is a module of its own in this folder (any with a `main`), run as a process of its own.
"""

import subprocess
import sys
from pathlib import Path


def measurements() -> list[str]:
    """The modules of this folder that measure something."""
    modules = sorted(Path(__file__).parent.glob("*.py"))
    return [path.stem for path in modules if path.stem != "__main__" and "def main(" in path.read_text()]


def main(names: list[str]) -> int:
    known = measurements()
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no measurement {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or known:
        print(f"\n{name}", flush=True)
        argv = [sys.executable, "-m", f"benchmarks.{name}"]
        if subprocess.run(argv, check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
