"""Start two controllers of one workspace at the same moment, again and again: never may both write.

    python -m benchmarks.two_heads [--starts 1000] [--seed 1]

Two processes, as on two hosts (no lock between them), with clocks up to an hour apart, take the workspace and journal
events until one of them is told that the other has it. Afterwards the journal must hold, in one order, all that the
last one was told is on the disk, and never events of the two in turns. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from terry.cluster.core import events as e
from terry.cluster.errors import LostLease
from terry.cluster.files import lease
from terry.cluster.files.journal import Journal, read
from terry.cluster.files.paths import WorkspacePaths
from tests.helpers.queue_values import at


def head(root: Path, number: int, seed: int, start: Any, done: Any) -> None:
    """One of the two: take the workspace, journal, say what was acknowledged."""
    chance = random.Random(2 * seed + number)
    offset, acknowledged = chance.uniform(-3600, 3600), list[tuple[int, int]]()
    start.wait()
    try:
        held = lease.acquire(WorkspacePaths(root), at(offset))
        journal = Journal.open(WorkspacePaths(root).journal, epoch=held.epoch)
        for i in range(8):
            time.sleep(chance.random() * 0.002)
            journal.append([e.Released(time=at(offset + i), job_id=f"{number}-{i}")])
            held.check()
            journal.commit()
            acknowledged.append((held.epoch, journal.seq))
            if i % 3 == 0:
                held.heartbeat(at(offset + i))
    except (LostLease, FileExistsError):
        pass
    done.put(acknowledged)


def wrong(root: Path, acknowledged: list[tuple[int, int]]) -> str:
    """What is not as it must be; empty where all is."""
    there = [(entry.epoch, entry.seq) for entry in read(WorkspacePaths(root).journal)]
    last = max((epoch for epoch, _ in acknowledged), default=0)
    if [seq for _, seq in there] != [*range(1, len(there) + 1)]:
        return f"there are gaps: {there}"
    if [epoch for epoch, _ in there] != sorted(epoch for epoch, _ in there):
        return f"both wrote in turns: {there}"
    of_last = [entry for entry in acknowledged if entry[0] == last]
    return "" if of_last == [entry for entry in there if entry[0] == last] else f"acknowledged and lost: {of_last}"


def run(starts: int, seed: int) -> int:
    """Start, judge, print. Returns the exit code."""
    context = multiprocessing.get_context("fork")
    begun, both, problems = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory(prefix="terry-heads-") as folder:
        for number in range(seed, seed + starts):
            root = Path(folder) / str(number)
            WorkspacePaths(root).queue.mkdir(parents=True)
            start, done = context.Barrier(2), context.SimpleQueue()
            heads = [context.Process(target=head, args=(root, i, number, start, done)) for i in (0, 1)]
            for process in heads:
                process.start()
            found = [entry for _ in heads for entry in done.get()]
            for process in heads:
                process.join()
            both += len({epoch for epoch, _ in found}) > 1
            if why := wrong(root, sorted(found)):
                problems.append(json.dumps({"seed": number, "wrong": why}))
            shutil.rmtree(root)
    print(f"{starts} starts in {time.monotonic() - begun:.0f} s; in {both} both came to write, one after the other")
    for problem in problems:
        print(problem)
    print(f"verdict: {'FAILED' if problems else 'never two writers'}")
    return 1 if problems else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return run(options.starts, options.seed)


if __name__ == "__main__":
    sys.exit(main())
