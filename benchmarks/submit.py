"""How long `submit` and `status` take as whole processes, with a controller at work.

    python benchmarks/submit.py [--repeat 5]

Prints a table: seconds of the clock (median, fastest, slowest), and of processor time, which other load changes little.
Aims: submit of 100 jobs under 0.6 s, of 10,000 under 4 s, status of 10,000 jobs under 1 s.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("terry-cluster"))
TEXT = Path(__file__).resolve().parents[1] / "examples" / "data" / "moby-dick.csv"


def sweep(name: str, jobs: int) -> str:
    """A sweep file of this many runs."""
    settings = {
        "name": name,
        "datasets": {"words": {"source": str(TEXT), "column": "body", "vocabulary_size": 1000}},
        "run": {"data": {"dataset": "words"}, "resources": {"cpus": 1}},
        "sweep": {"grid": {"model.hidden_size": list(range(10, 20)), "training.seed": list(range(jobs // 10))}},
    }
    return json.dumps(settings)  # JSON is YAML


Timing = tuple[float, float]  #: seconds by the clock, and of processor time


def timed(*arguments: str) -> Timing:
    """What the command takes from start to exit."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([COMMAND, *arguments], check=True, capture_output=True)
    took, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def submit(workspace: str, folder: Path, name: str, jobs: int) -> Timing:
    """Submit a sweep of this many held jobs."""
    path = folder / f"{name}.yaml"
    path.write_text(sweep(name, jobs), encoding="utf-8")
    return timed("-w", workspace, "submit", str(path), "--hold")


def until_taken(workspace: str, jobs: int) -> None:
    """Wait until the controller has put all jobs into its journal."""
    while True:
        found = subprocess.run([COMMAND, "-w", workspace, "--json", "status"], check=True, capture_output=True).stdout
        if sum(job["state"] == "held" for job in json.loads(found)) >= jobs:
            return
        time.sleep(0.5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    rows: list[tuple[str, str, list[Timing]]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small, large = str(folder / "small"), str(folder / "large")
        for workspace in (small, large):
            subprocess.run([COMMAND, "-w", workspace, "init"], check=True, capture_output=True)
            subprocess.run([COMMAND, "-w", workspace, "up"], check=True, capture_output=True)
        try:
            submit(small, folder, "warm", 100)
            times = [submit(small, folder, f"hundred-{i}", 100) for i in range(repeat)]
            rows.append(("submit, 100 jobs", "0.6 s", times))
            rows.append(("submit, 10,000 jobs", "4 s", [submit(large, folder, "many", 10_000)]))
            until_taken(large, 10_000)
            rows.append(("status, 10,000 jobs", "1 s", [timed("-w", large, "status") for _ in range(repeat)]))
            rows.append(("status --json, 10,000", "", [timed("-w", large, "--json", "status") for _ in range(repeat)]))
            rows.append(("--help", "0.3 s", [timed("--help") for _ in range(repeat)]))
            more = [submit(small, folder, f"more-{i}", 10_000) for i in range(repeat - 1)]
            rows[1][2].extend(more)
        finally:
            for workspace in (small, large):
                subprocess.run([COMMAND, "-w", workspace, "down"], check=True, capture_output=True)
    print("| what | aim | median s | fastest | slowest | processor s |\n|---|---|---|---|---|---|")
    for what, aim, values in rows:
        wall, spent = zip(*values, strict=True)
        figures = (statistics.median(wall), min(wall), max(wall), statistics.median(spent))
        print(f"| {what} | {aim} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
