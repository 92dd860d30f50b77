"""Processes that train in turns, so that a busy machine is as busy for each of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

#: How job processes are started (cluster/job_runtime.py): freed arrays stay in the process.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
#: Seconds of one turn, about: by CPU time, and by the wall clock.
TURN_S, WALL_TURN_S = 0.4, 0.1
#: Turns that warm up.
WARM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of a table."""

    cell: str
    vocabulary: int
    size: int
    threads: int = 1
    device: str = "cpu"

    @property
    def by_wall(self) -> bool:
        """Whether it is measured by the wall clock, which neighbours change."""
        return self.threads > 1 or self.device != "cpu"


class Side:
    """One process of `training_side`."""

    def __init__(self, kind: str, case: Case, *, allocator: bool) -> None:
        words = (kind, case.cell, case.vocabulary, case.size, case.threads, case.device)
        command = [sys.executable, "-m", "benchmarks.training_side", *map(str, words)]
        environment = {k: v for k, v in os.environ.items() if k not in ALLOCATOR} | {
            "OMP_NUM_THREADS": str(case.threads)
        }
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | (ALLOCATOR if allocator else {}),
        )

    def order(self, steps: int) -> None:
        """Begin a turn."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()

    def answer(self) -> float:
        """Seconds that the turn took."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def turn(self, steps: int) -> float:
        """Seconds that so many steps take."""
        self.order(steps)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def in_turns(sides: list[Side], seconds: float, turn_s: float = TURN_S) -> list[list[float]]:
    """Seconds a step, of each side, turn by turn. Every side has as many steps in a turn."""
    found: list[list[float]] = [[] for _ in sides]
    began = time.monotonic()
    steps = 1
    while len(found[0]) < WARM + 4 or time.monotonic() - began < seconds:
        for side, times in zip(sides, found, strict=True):
            times.append(side.turn(steps) / steps)
        steps = max(1, round(turn_s / max(min(found[0]), 1e-6)))
    for side in sides:
        side.close()
    return [times[WARM:] for times in found]


def typical(times: list[float], case: Case) -> float:
    """Seconds a step: the median, or by the wall clock the end of the fastest tenth."""
    return sorted(times)[len(times) // 10] if case.by_wall else statistics.median(times)


def ratio(of: list[float], to: list[float], case: Case) -> float:
    """How much more time `of` takes than `to`: the median over turns, or by the wall clock of the fastest tenths."""
    if case.by_wall:
        return typical(of, case) / typical(to, case)
    return statistics.median(a / b for a, b in zip(of, to, strict=True))
