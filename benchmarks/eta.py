"""How good the ETA of a sweep is: 40 equal trainings on 2 slots, for real; what `watch` predicted, and what was true.

    python benchmarks/eta.py [--runs 40] [--epochs 2]

Prints the error of the predicted total, in percent of the true one, as the sweep goes on. Aim: 20% after a quarter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from terry.cluster.client.reader import Reader
from terry.cluster.files.paths import WorkspacePaths
from terry.logs.view.build import ViewBuilder
from terry.logs.view.eta import Eta

COMMAND = str(Path(sys.executable).with_name("terry-cluster"))
TEXT = Path(__file__).resolve().parents[1] / "examples" / "data" / "moby-dick.csv"


def sweep(runs: int, epochs: int) -> str:
    """Runs that differ in nothing but their seed, two at once."""
    settings = {
        "name": "equal",
        "datasets": {"words": {"source": str(TEXT), "column": "body", "vocabulary_size": 1000}},
        "run": {
            "data": {"dataset": "words", "batch_size": 32, "bptt": 20},
            "model": {"cell": "gru", "hidden_size": 24, "embedding_size": 24},
            "training": {"epochs": epochs},
            # Half of the cores each: two slots, whatever the machine.
            "resources": {"cpus": max(1, len(os.sched_getaffinity(0)) // 2)},
        },
        "sweep": {"grid": {"training.seed": list(range(1, runs + 1))}},
    }
    return json.dumps(settings)  # JSON is YAML


def observe(workspace: WorkspacePaths, runs: int) -> tuple[float, list[tuple[float, Eta]]]:
    """Seconds from the first training's start to the last one's end, and what was predicted when (seconds from it)."""
    reader, builder = Reader(workspace), ViewBuilder()
    begin: float | None = None
    seen: list[tuple[float, Eta]] = []
    while True:
        view = builder.view(reader.read())
        jobs = [job for job in view.jobs if job.kind == "train"]
        now = time.monotonic()
        if begin is None and any(job.state.holds_device for job in jobs):
            begin = now
        if begin is not None:
            if len(jobs) == runs and all(job.state.is_final for job in jobs):
                assert all(job.state == "completed" for job in jobs), "a run failed"
                return now - begin, seen
            if view.sweeps[0].eta is not None:
                seen.append((now - begin, view.sweeps[0].eta))
        time.sleep(0.5)


def report(total: float, seen: list[tuple[float, Eta]]) -> None:
    """The table of errors."""
    print(f"{total:.0f} s in all; first prediction after {seen[0][0]:.1f} s ({seen[0][0] / total:.0%})")
    print("| passed | predicted total | error | true total within the range |\n|---|---|---|---|")
    for percent in (5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90):
        found = next(((now, eta) for now, eta in seen if now >= percent / 100 * total), None)
        if found is None:
            continue
        now, eta = found
        error = (now + eta.seconds - total) / total
        held = "yes" if now + eta.low <= total <= now + eta.high else "no"
        print(f"| {percent}% | {now + eta.seconds:.0f} s | {error:+.1%} | {held} |")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, root = folder / "equal.yaml", folder / "runs"
        path.write_text(sweep(options.runs, options.epochs), encoding="utf-8")
        try:
            subprocess.run([COMMAND, "-w", str(root), "submit", str(path)], check=True, capture_output=True)
            report(*observe(WorkspacePaths(root), options.runs))
        finally:
            subprocess.run([COMMAND, "-w", str(root), "down"], check=True, capture_output=True)


if __name__ == "__main__":
    main()
