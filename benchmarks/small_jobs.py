"""The first seconds, and small jobs: Terry, an earlier Terry, task-spooler and GNU parallel, taking turns.

    python -m benchmarks.small_jobs [--beside CHECKOUT] [--jobs 500] [--python-jobs 300] [--rounds 3]

`true` as a program, two at a time; a Python function of a few lines that measures three times; and from the start of
`submit` in a fresh workspace to the first line of a person's code. Times by the clock, and processor time of all that
the work needed: everything is started below this process, which adopts what is left behind (PR_SET_CHILD_SUBREAPER).
On a busy computer only the processor time says something; the least of the rounds counts. CHECKOUT has its own `.venv`.
Needs Debian's `task-spooler` and `parallel`; what is missing is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36
CODE = """import time
STARTED = time.time()

def main(ctx):
    (ctx.run_dir / "first").write_text(repr(STARTED))
    for step in range(1, 4):
        ctx.log(step, loss=1.0 / step)
    ctx.finish({"loss": 0.3})
"""
PYTHON = {"entrypoint": "tiny:main", "resources": {"cpus": 1}}
TRUE = {"command": ["true"], "resources": {"cpus": 1}}


def processor_s() -> float:
    """Of this process's descendants, those that have ended among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + sum(_of(pid) for pid in _below(os.getpid()))


def _below(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield int(child)
                yield from _below(int(child))


def _of(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS
    return 0.0


class Terry:
    """A checkout's program, and a folder."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self._program, self.folder, self._sweeps = checkout / ".venv/bin/terry-cluster", folder, 0
        (folder / "tiny.py").write_text(CODE)

    def call(self, *arguments: str) -> None:
        command = [str(self._program), "-w", str(self.folder / "runs"), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)

    def run(self, jobs: int, run: dict[str, object]) -> None:
        self._sweeps += 1
        name = f"s{self._sweeps}"
        sweep = {"name": name, "run": run, "sweep": {"grid": {"parameters.n": list(range(jobs))}}}
        (self.folder / f"{name}.yaml").write_text(json.dumps(sweep))
        self.call("submit", f"{name}.yaml", "--wait")
        done = len(list(self.folder.glob(f"runs/runs/{name}-*/result.json")))
        assert done == jobs, f"{done} of {jobs} are done"

    def first_line(self) -> float:
        """Seconds from `submit` in a fresh workspace to the first line of a person's code."""
        begin = time.time()
        self.run(1, PYTHON)
        return float(next(self.folder.glob("runs/runs/*/first")).read_text()) - begin


def tsp(jobs: int) -> None:
    """Two at a time, and until the last has ended."""
    environment = {**os.environ, "TS_SOCKET": tempfile.mktemp(), "TS_MAXFINISHED": str(2 * jobs)}
    program = shutil.which("tsp") or "tsp"
    subprocess.run([program, "-S", "2"], check=True, env=environment)
    for _ in range(jobs):
        last = subprocess.run([program, "true"], check=True, env=environment, capture_output=True, text=True)
    subprocess.run([program, "-w", last.stdout.strip()], check=True, env=environment)
    while any(state in _listed(program, environment) for state in ("queued", "running")):
        time.sleep(0.01)
    subprocess.run([program, "-K"], check=True, env=environment)


def _listed(program: str, environment: dict[str, str]) -> str:
    return subprocess.run([program], check=True, env=environment, capture_output=True, text=True).stdout


def parallel(jobs: int) -> None:
    """With a job log, by which it can be resumed."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["parallel", "--will-cite", "-j2", "--joblog", f"{folder}/log", "true", ":::", *map(str, range(jobs))]
        subprocess.run(command, check=True, capture_output=True)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of processors."""
    before, begin = processor_s(), time.perf_counter()
    work()
    return time.perf_counter() - begin, processor_s() - before


def rounds_of_terry(checkout: Path, given: argparse.Namespace, found: dict[str, list[tuple[float, float]]]) -> None:
    """One round of one side, in a workspace of its own."""
    name = "Terry" if checkout == ROOT else f"Terry, {checkout.name}"
    with tempfile.TemporaryDirectory() as folder:
        terry = Terry(checkout, Path(folder))
        try:
            first: list[float] = []
            _, used = measured(lambda: first.append(terry.first_line()))
            found.setdefault(f"{name}: to the first line of code", []).append((first[0], used))
            terry.run(4, PYTHON)
            _settle()
            if given.python_jobs:
                one = measured(lambda: terry.run(given.python_jobs, PYTHON))
                found.setdefault(f"{name}: {given.python_jobs} Python jobs", []).append(one)
                found.setdefault(f"{name}: and what it does when idle", []).append(measured(_settle))
            if given.jobs and checkout == ROOT:  # earlier ones know no programs
                one = measured(lambda: terry.run(given.jobs, TRUE))
                found.setdefault(f"{name}: {given.jobs} times `true`", []).append(one)
        finally:
            terry.call("down")


def _settle() -> None:
    """What is begun for later is done: the large forkserver has its imports, the pictures are drawn."""
    quiet, before = 0, processor_s()
    while quiet < 3:
        time.sleep(2.0)
        now = processor_s()
        quiet, before = (quiet + 1 if now - before < 0.2 else 0), now


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--python-jobs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    found: dict[str, list[tuple[float, float]]] = {}
    others = {"tsp": tsp, "parallel": parallel}
    for number in range(given.rounds):
        for checkout in filter(None, (given.beside, ROOT)):
            rounds_of_terry(checkout, given, found)
        for program, work in others.items() if given.jobs else ():
            if shutil.which(program):
                one = measured(lambda work=work: work(given.jobs))  # type: ignore[misc]
                found.setdefault(f"{program}: {given.jobs} times `true`", []).append(one)
        print(f"round {number + 1}: load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    print("| what | least s | least processor s | rounds (s, processor s) |\n|---|---|---|---|")
    for name, values in found.items():
        each = ", ".join(f"{clock:.1f} {used:.2f}" for clock, used in values)
        clock, used = (min(value[i] for value in values) for i in (0, 1))
        print(f"| {name} | {clock:.2f} | {used:.2f} | {each} |")


if __name__ == "__main__":
    main()
