"""When will it be done? From measured speeds, with a range. Pure: no clock, no files.

A running job ends after (steps left) / (steps per second). A queue is played forward by list scheduling (Graham 1966):
whenever a slot is free, the next job takes it for the mean duration of the finished jobs of its sweep.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: A duration is never trusted closer than this, however alike the finished jobs were.
_LEAST_DOUBT = 0.05

#: How far the range reaches where only unfinished jobs could be measured.
_UNMEASURED_DOUBT = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """Seconds from now, with the range in which the end is expected."""

    seconds: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """How long jobs of one kind take."""

    mean_s: float
    doubt: float  #: relative: the mean is expected within mean x (1 +- doubt)

    def scaled(self, side: int) -> float:
        """The mean (0), its lower (-1) or its upper (+1) end."""
        return self.mean_s * max(0.0, 1 + side * self.doubt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A job that holds a slot."""

    group: str  #: jobs of one group take alike: sweep and kind
    sweep: str
    remaining_s: float | None  #: by its own measured speed; None: not measured yet
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """Jobs of one group that wait for a slot."""

    group: str
    sweep: str
    jobs: int


def remaining_seconds(
    *, step: int | None, total_steps: int | None, steps_per_s: float | None, age_s: float = 0.0
) -> float | None:
    """Seconds until the last step of a running job, `age_s` seconds after its speed was measured; None: not known."""
    if step is None or not total_steps or not steps_per_s or steps_per_s <= 0 or not math.isfinite(steps_per_s):
        return None
    return max(0.0, (total_steps - step) / steps_per_s - age_s)


def measure(finished_s: Sequence[float]) -> Duration | None:
    """Mean duration of finished jobs and its standard error; None where there is none."""
    if not finished_s:
        return None
    mean = sum(finished_s) / len(finished_s)
    if len(finished_s) == 1 or mean <= 0:
        return Duration(mean_s=mean, doubt=_UNMEASURED_DOUBT)
    variance = sum((d - mean) ** 2 for d in finished_s) / (len(finished_s) - 1)
    return Duration(mean_s=mean, doubt=max(_LEAST_DOUBT, 2 * math.sqrt(variance / len(finished_s)) / mean))


def guess(running: Iterable[Running]) -> dict[str, Duration]:
    """Durations by group from jobs that still run, for groups of which none has finished."""
    totals: dict[str, list[float]] = {}
    for job in running:
        if job.remaining_s is not None:
            totals.setdefault(job.group, []).append(job.elapsed_s + job.remaining_s)
    return {group: Duration(mean_s=sum(t) / len(t), doubt=_UNMEASURED_DOUBT) for group, t in totals.items()}


def forecast(
    running: Sequence[Running], queue: Sequence[Queued], durations: Mapping[str, Duration], slots: int
) -> dict[str, Eta]:
    """When each sweep ends, by name. Sweeps with a group of unknown duration are left out; so is everything behind.

    `queue` stands in the order in which jobs are placed; `slots` is how many run at once.
    """
    known = guess(running) | dict(durations)
    middle, low, high = (_play(running, queue, known, slots, side) for side in (0, -1, 1))
    return {
        sweep: Eta(seconds=end, low=min(low.get(sweep, end), end), high=max(high.get(sweep, end), end))
        for sweep, end in middle.items()
    }


def _play(
    running: Sequence[Running], queue: Sequence[Queued], durations: Mapping[str, Duration], slots: int, side: int
) -> dict[str, float]:
    """Ends by sweep, with all durations at one side of their range."""
    ends: dict[str, float] = {}
    unknown: set[str] = set()
    free: list[float] = []
    for job in running:
        end = _remaining(job, durations.get(job.group), side)
        if end is None:
            unknown.add(job.sweep)
            continue
        free.append(end)
        ends[job.sweep] = max(ends.get(job.sweep, 0.0), end)
    free += [0.0] * (slots - len(running))
    heapq.heapify(free)
    for waiting in queue:
        each = durations.get(waiting.group)
        if each is None or not free:
            unknown.update(q.sweep for q in queue)
            break
        ends[waiting.sweep] = max(ends.get(waiting.sweep, 0.0), _place(free, waiting.jobs, each.scaled(side)))
    return {sweep: end for sweep, end in ends.items() if sweep not in unknown}


def _remaining(job: Running, duration: Duration | None, side: int) -> float | None:
    """Seconds until a running job ends: by its own speed, else by its group's mean."""
    if job.remaining_s is not None:
        return job.remaining_s * (1 + side * _LEAST_DOUBT)
    return None if duration is None else max(0.0, duration.scaled(side) - job.elapsed_s)


def _place(free: list[float], jobs: int, each_s: float) -> float:
    """Give each job the slot that is free first; returns when the last one ends. `free` is a heap, and changed."""
    last = 0.0
    for _ in range(jobs):
        end = free[0] + each_s
        heapq.heapreplace(free, end)
        last = max(last, end)
    return last
