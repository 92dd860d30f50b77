"""Cut the power at each fsync of a queue's life and of a sweep's life, on disks that forget more or less.

    python -m benchmarks.power_cuts [--cuts 1000] [--seed 1]

Each scenario of tests/faults/power_cuts.py does its work once, on a file system (FUSE) that records everything; then
the power is cut before each fsync of it, strictly, at random and reordered, by one seed after another, until there were
so many cuts. What is left is looked at, and gone on with, as the next start does it: nothing that was acknowledged may
be lost, nothing may be there in part. Exit code 1 on any loss. The seed decides what the disk forgets; the work of the
real processes does not repeat to the byte.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.forgetful_disk import Forgets
from tests.faults.power_cuts import SCENARIOS, Scenario, cuts
from tests.faults.recording_disk import recording_disk, why_not


def record(scenario: Scenario, folder: Path) -> list[list[object]]:
    """Do its work; returns all that it did to its disk."""
    with recording_disk(folder) as disk:
        scenario.work(disk)
        return disk.log()


def run(total: int, seed: int) -> int:
    """Cut, judge, print. Returns the exit code."""
    done: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="terry-power-") as folder:
        logs = {s.name: record(s, Path(folder) / f"disk-{i}") for i, s in enumerate(SCENARIOS)}
        for number in itertools.count(seed):
            for scenario, forgets in itertools.product(SCENARIOS, Forgets):
                for place, why in cuts(logs[scenario.name], scenario, forgets, number):
                    done[f"{scenario.name}, {forgets}"] += 1
                    if why:
                        wrong[f"{scenario.name}, {forgets}, seed {number}, cut {place}: {why}"] += 1
                    if done.total() >= total:
                        return _tell(done, wrong, time.monotonic() - begun)
    raise AssertionError("unreachable")


def _tell(done: Counter[str], wrong: Counter[str], took: float) -> int:
    print("| scenario, disk | cuts |\n|---|---:|")
    for name, count in sorted(done.items()):
        print(f"| {name} | {count} |")
    for text in wrong:
        print(f"LOST: {text}")
    print(f"\n{done.total()} cuts in {took:.0f} s; verdict: {'FAILED' if wrong else 'nothing lost, nothing in part'}")
    return 1 if wrong else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if lacking := why_not():
        sys.exit(f"the power cannot be cut here: {lacking}")
    return run(options.cuts, options.seed)


if __name__ == "__main__":
    sys.exit(main())
