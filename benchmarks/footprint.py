"""What a job that does nothing leaves on disk: files and folders, bytes in them, bytes of disk.

    python -m benchmarks.footprint [--jobs 20] [--program PATH/terry-cluster]

A sweep of such jobs with code of their own is run to its end, in a workspace of its own, by this code or by the program
of another checkout. Counted is what stands in runs/ and what the sweep itself has added, for each job.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_SWEEP = """
name: nothing
run:
  entrypoint: "nothing:main"
  resources: {cpus: 1}
sweep:
  grid: {parameters.number: NUMBERS}
"""


def measure(program: str, jobs: int) -> tuple[Counter[str], str]:
    """Run the sweep; per job what it left, and a listing of the first one's folder."""
    with tempfile.TemporaryDirectory(prefix="terry-footprint-") as folder:
        here, workspace = Path(folder), Path(folder) / "workspace"
        (here / "nothing.py").write_text("def main(ctx):\n    pass\n", encoding="ascii")
        sweep = here / "nothing.yaml"
        sweep.write_text(_SWEEP.replace("NUMBERS", json.dumps([*range(jobs)])), encoding="ascii")
        try:
            subprocess.run([program, "-w", str(workspace), "submit", str(sweep)], check=True, cwd=here)
            subprocess.run([program, "-w", str(workspace), "wait", "nothing", "--timeout", "500"], check=True, cwd=here)
        finally:
            subprocess.run([program, "-w", str(workspace), "down"], check=False, cwd=here, capture_output=True)
        found: Counter[str] = Counter()
        runs = sorted((workspace / "runs").iterdir())
        for top in (*runs, workspace / "sweeps"):
            _count(top, found)
        first = sorted(p for p in runs[0].rglob("*"))
        return found, "\n".join(f"{p.lstat().st_size:>8} {p.relative_to(runs[0])}{'/' * p.is_dir()}" for p in first)


def _count(top: Path, found: Counter[str]) -> None:
    for path in (top, *top.rglob("*")):
        about = path.lstat()
        found["folders" if path.is_dir() else "files"] += 1
        found["bytes in files"] += 0 if path.is_dir() else about.st_size // about.st_nlink
        found["bytes on disk"] += about.st_blocks * 512 // (1 if path.is_dir() else about.st_nlink)
        found["empty files"] += path.is_file() and about.st_size == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--program", default=str(Path(sys.executable).with_name("terry-cluster")))
    options = parser.parse_args(arguments)
    found, listing = measure(options.program, options.jobs)
    print(listing)
    for name, number in sorted(found.items()):
        print(f"{number / options.jobs:10.1f} {name} a job")
    return 0


if __name__ == "__main__":
    sys.exit(main())
