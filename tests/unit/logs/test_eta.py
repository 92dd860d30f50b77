"""ETAs against runs that are played out."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.logs.eta import Duration, Queued, Running, forecast, measure, remaining_seconds


def play(durations: list[float], slots: int) -> float:
    """When the last of these jobs ends, if each takes the slot that is free first."""
    free = [0.0] * slots
    for each in durations:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


@pytest.mark.parametrize(
    ("step", "total", "speed", "age", "expected"),
    [(100, 200, 10.0, 0.0, 10.0), (100, 200, 10.0, 4.0, 6.0), (100, 200, 10.0, 60.0, 0.0), (200, 200, 10.0, 0.0, 0.0)],
)
def test_remaining(step: int, total: int, speed: float, age: float, expected: float) -> None:
    """Steps left by steps a second, less the time since it was measured."""
    assert remaining_seconds(step=step, total_steps=total, steps_per_s=speed, age_s=age) == expected


@pytest.mark.parametrize(
    ("step", "total", "speed"), [(None, 10, 1.0), (1, None, 1.0), (1, 10, None), (1, 10, 0.0), (1, 10, float("nan"))]
)
def test_remaining_unknown(step: int | None, total: int | None, speed: float | None) -> None:
    """Without step, total and speed nobody knows."""
    assert remaining_seconds(step=step, total_steps=total, steps_per_s=speed) is None


def test_forty_equal_runs_on_two_slots_after_a_quarter() -> None:
    """Predicted within 20% of the truth; the range holds the truth."""
    noise = random.Random(1)
    durations = [60 * noise.uniform(0.9, 1.1) for _ in range(40)]
    truth = play(durations, 2)
    ended, left = durations[:10], durations[10:]
    now = play(ended, 2)
    known = measure(ended)
    assert known is not None
    found = forecast([], [Queued(group="g", sweep="s", jobs=len(left))], {"g": known}, 2)["s"]
    assert abs(now + found.seconds - truth) / truth < 0.2
    assert found.low <= truth - now <= found.high


def test_running_jobs_keep_their_slots() -> None:
    """One slot is busy for 100 s: four jobs of 10 s go through the other one."""
    running = [Running(group="g", sweep="a", remaining_s=100.0, elapsed_s=1.0)]
    found = forecast(running, [Queued(group="h", sweep="b", jobs=4)], {"h": Duration(mean_s=10.0, doubt=0.1)}, 2)
    assert found["a"].seconds == 100.0
    assert found["b"].seconds == 40.0


def test_before_anything_has_finished_running_jobs_tell() -> None:
    """The duration of the queue's jobs is what the running ones will have taken."""
    running = [Running(group="g", sweep="s", remaining_s=30.0, elapsed_s=30.0)]
    found = forecast(running, [Queued(group="g", sweep="s", jobs=1)], {}, 1)["s"]
    assert found.seconds == 90.0
    assert found.low < 90.0 < found.high


def test_what_is_not_known_is_not_guessed() -> None:
    """A sweep of which nothing is measured has no ETA, nor has what stands behind it."""
    queue = [Queued(group="new", sweep="a", jobs=2), Queued(group="g", sweep="b", jobs=1)]
    assert forecast([], queue, {"g": Duration(mean_s=1.0, doubt=0.1)}, 1) == {}
    assert forecast([], [Queued(group="g", sweep="b", jobs=1)], {"g": Duration(mean_s=1.0, doubt=0.1)}, 0) == {}


@given(
    jobs=st.integers(1, 200),
    slots=st.integers(1, 16),
    running=st.lists(st.floats(0, 1e4), max_size=16),
    each=st.floats(0.1, 1e4),
)
def test_forecast_is_the_schedule(jobs: int, slots: int, running: list[float], each: float) -> None:
    """The middle is list scheduling played out, and lies within its range."""
    held = [Running(group="g", sweep="r", remaining_s=r, elapsed_s=0.0) for r in running[:slots]]
    found = forecast(held, [Queued(group="g", sweep="s", jobs=jobs)], {"g": Duration(mean_s=each, doubt=0.2)}, slots)
    free = [*running[:slots], *([0.0] * (slots - len(held)))]
    heapq.heapify(free)
    last = 0.0
    for _ in range(jobs):
        last = max(last, free[0] + each)
        heapq.heapreplace(free, free[0] + each)
    assert found["s"].seconds == pytest.approx(last)
    assert found["s"].low <= found["s"].seconds <= found["s"].high


def test_doubt_shrinks_with_more_finished_runs() -> None:
    """The standard error of the mean."""
    few, many = measure([50.0, 70.0, 60.0, 40.0]), measure([50.0, 70.0, 60.0, 40.0] * 25)
    assert few is not None
    assert many is not None
    assert many.doubt < few.doubt
    assert measure([]) is None
