"""How long it takes until a cut cable is noticed, its runs go on elsewhere, and the machine is used again. As root.

python benchmarks/ssh_nodes.py --repeat 3        # on a test bed: real sshd and network, three hosts on this machine
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.testbed.beds import Bed, why_not
from tests.testbed.lab import Lab


def main() -> None:
    """Cut and plug in, again and again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    repeat: int = parser.parse_args().repeat
    if why_not():
        sys.exit(why_not())
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(Path(folder) / "bed")
        bed.up("login", "seawolf", "quattro")
        try:
            measure(Lab(bed), repeat)
        finally:
            bed.down()


def measure(lab: Lab, repeat: int) -> None:
    """Print a table; seconds."""
    begin = time.monotonic()
    lab.run("up")
    print(f"load average {os.getloadavg()[0]:.1f}; up, from nothing, on two machines: {time.monotonic() - begin:.1f} s")
    taken: dict[str, list[float]] = {"lost": [], "moved": [], "back": [], "used": []}
    for number in range(repeat):
        lab.submit(f"cut-{number}", epochs=5000)
        there = lab.until(lambda number=number: lab.on_node(f"cut-{number}", "quattro"))
        lab.bed.cut("quattro")
        begin = time.monotonic()
        lab.until(lambda: "quattro" not in lab.members())
        taken["lost"].append(time.monotonic() - begin)
        lab.until(lambda there=there: all(_goes_on(lab, job) for job in there))
        taken["moved"].append(time.monotonic() - begin)
        lab.bed.uncut("quattro")
        begin = time.monotonic()
        lab.until(lambda: "quattro" in lab.members())
        taken["back"].append(time.monotonic() - begin)
        lab.until(lambda: lab.state().devices["quattro:cpu"].online)
        taken["used"].append(time.monotonic() - begin)
        lab.run("cancel", f"cut-{number}")
        lab.until(lambda number=number: all(lab.state().jobs[j].state.is_final for j in lab.trainings(f"cut-{number}")))
    words = {
        "lost": "cable cut until Ray counts the machine as dead",
        "moved": "cable cut until its runs have written a checkpoint elsewhere",
        "back": "plugged in until it is in the cluster again",
        "used": "plugged in until its device takes jobs",
    }
    print("\n| what | median | fastest | slowest |\n|---|---|---|---|")
    for key, values in taken.items():
        print(f"| {words[key]} | {statistics.median(values):.1f} s | {min(values):.1f} s | {max(values):.1f} s |")


def _goes_on(lab: Lab, job: str) -> bool:
    last = lab.attempts(job)[-1]
    return last.node == "seawolf" and bool(lab.checkpoints(job, last.number))


if __name__ == "__main__":
    main()
