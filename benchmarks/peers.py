"""Many short trainings: Terry beside Ray Tune, submitit's local executor and a multiprocessing pool, in one run.

    python -m benchmarks.peers [--jobs 200] [--seconds 0.2] [--rounds 3] [--tune-jobs 40] [--submitit-jobs 10]

The same training function everywhere (benchmarks/toy_peers.py), two at once, Ray up before the clock starts. Terry is
timed from the start of `terry-cluster submit` to the end of its `--wait`: a process and a full run folder for each job.
The rounds are interleaved; what takes minutes (Tune with a function, submitit) is run once, with fewer jobs.
With `--seconds 0.003` a training is one step: what is measured then is what running a job costs, and nothing else.
Needs `pip install pandas pydantic tensorboardX requests pyarrow fsspec` (for Tune) beside what Terry needs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = str(Path(sys.executable).with_name("terry-cluster"))
QUICK = ("terry", "pool", "pool_isolated", "ray_tune_reuse")
WORDS = {
    "terry": "Terry: a process, journal and run folder for each",
    "pool": "multiprocessing pool, two processes for all",
    "pool_isolated": "multiprocessing pool, a process for each",
    "ray_tune_reuse": "Ray Tune, class with `reuse_actors`, two processes for all",
    "ray_tune": "Ray Tune, function",
    "submitit_local": "submitit, local executor, two at once",
}


def peer(name: str, jobs: int, steps: int, folder: Path) -> float:
    """Seconds of one peer, in a process of its own."""
    folder = Path(tempfile.mkdtemp(dir=folder, prefix=name))
    command = [sys.executable, "-m", "benchmarks.toy_peers", name, str(jobs), str(steps), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


class Terry:
    """A workspace with Ray, controller and a warm agent."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._workspace = folder, str(folder / "runs")
        (folder / "toy_peers.py").write_text((ROOT / "benchmarks" / "toy_peers.py").read_text())
        self._number = 0
        self.call("up")
        self.run(2, 1)

    def call(self, *arguments: str) -> None:
        subprocess.run([COMMAND, "-w", self._workspace, *arguments], check=True, capture_output=True)

    def run(self, jobs: int, steps: int) -> float:
        """Seconds from submit to the last result."""
        self._number += 1
        name = f"toy{self._number}"
        file = self._folder / f"{name}.yaml"
        settings = {
            "name": name,
            "run": {"entrypoint": "toy_peers:main", "parameters": {"steps": steps}, "resources": {"cpus": 1}},
            "sweep": {"grid": {"parameters.seed": list(range(jobs))}},
        }
        file.write_text(json.dumps(settings))
        begin = time.perf_counter()
        self.call("submit", str(file), "--wait")
        seconds = time.perf_counter() - begin
        results = list(Path(self._workspace, "runs").glob(f"{name}-*/result.json"))
        assert len(results) == jobs, f"{len(results)} results of {jobs} jobs"
        return seconds


def steps_for(seconds: float, folder: Path) -> int:
    """Steps of the training that take about so long here."""
    return max(1, round(seconds / (peer("bare", 10, 50, folder) / 500)))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tune-jobs", type=int, default=40)
    parser.add_argument("--submitit-jobs", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = steps_for(given.seconds, folder)
        terry = Terry(folder)
        try:
            found = measure(given, steps, folder, terry)
        finally:
            terry.call("down")
    report(given, steps, found)


def measure(given: argparse.Namespace, steps: int, folder: Path, terry: Terry) -> dict[str, tuple[int, list[float]]]:
    """Peer -> jobs and seconds of each round."""
    found: dict[str, tuple[int, list[float]]] = {"bare": (20, [])}
    for _ in range(given.rounds):
        found["bare"][1].append(peer("bare", 20, steps, folder))
        for name in QUICK:
            seconds = terry.run(given.jobs, steps) if name == "terry" else peer(name, given.jobs, steps, folder)
            found.setdefault(name, (given.jobs, []))[1].append(seconds)
            print(f"{name}: {seconds:.2f} s", file=sys.stderr, flush=True)
    for name, jobs in (("ray_tune", given.tune_jobs), ("submitit_local", given.submitit_jobs)):
        if jobs:
            found[name] = (jobs, [peer(name, jobs, steps, folder)])
            print(f"{name}: {found[name][1][0]:.2f} s", file=sys.stderr, flush=True)
    return found


def report(given: argparse.Namespace, steps: int, found: dict[str, tuple[int, list[float]]]) -> None:
    """A table in Markdown: medians, and what a job costs beyond one in a pool that does nothing but the work."""
    bare = statistics.median(found["bare"][1]) / found["bare"][0]
    load = os.getloadavg()[0]
    print(f"{given.jobs} trainings of {steps} steps, {bare * 1000:.0f} ms of work each; load average {load:.1f}\n")
    print("| runner | jobs | whole, s | ms a job | beyond the pool, ms | times Terry's | rounds |")
    print("|---|---|---|---|---|---|---|")
    terry, pool = (statistics.median(found[name][1]) / found[name][0] for name in ("terry", "pool"))
    for name, words in WORDS.items():
        if name not in found:
            continue
        jobs, seconds = found[name]
        each = statistics.median(seconds) / jobs
        rounds = " ".join(f"{s:.1f}" for s in seconds)
        print(
            f"| {words} | {jobs} | {each * jobs:.1f} | {each * 1000:.1f} | {(each - pool) * 1000:.1f} "
            f"| {each / terry:.1f} | {rounds} |"
        )


if __name__ == "__main__":
    main()
