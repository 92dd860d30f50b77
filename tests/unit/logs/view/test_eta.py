"""ETAs against runs that are played out."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.logs.view.eta import Durations, DurationSample, Queued, Running, forecast, remaining_seconds


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


def test_pace_with_all_that_is_not_a_step() -> None:
    """Half done in 100 s though the steps themselves went twice as fast: the mean of both paces is expected."""
    assert remaining_seconds(step=500, total_steps=1000, steps_per_s=10.0, ran_s=100.0) == 75.0
    assert remaining_seconds(step=10, total_steps=1000, steps_per_s=10.0, ran_s=50.0) == 99.0  # too early to tell


def equal(*seconds: float) -> Durations:
    """Jobs of group `g` took so long."""
    return Durations([DurationSample(group="g", seconds=s) for s in seconds])


def waiting(number: int, sweep: str = "s") -> list[Queued]:
    return [Queued(group="g", sweep=sweep)] * number


def test_forty_equal_runs_on_two_slots_after_a_quarter() -> None:
    """Predicted within 20% of the truth; the range holds the truth."""
    noise = random.Random(1)
    durations = [60 * noise.uniform(0.9, 1.1) for _ in range(40)]
    truth, now = play(durations, 2), play(durations[:10], 2)
    found = forecast([], waiting(30), equal(*durations[:10]), ["a", "a"])["s"]
    assert abs(now + found.seconds - truth) / truth < 0.2
    assert found.low <= truth - now <= found.high


def test_running_jobs_keep_their_slots() -> None:
    """One slot is busy for 100 s: four jobs of 10 s go through the other one."""
    running = [Running(group="h", sweep="a", remaining_s=100.0, elapsed_s=1.0)]
    found = forecast(running, waiting(4, "b"), equal(10.0), ["x"])
    assert found["a"].seconds == pytest.approx(100.0)
    assert found["b"].seconds == pytest.approx(40.0)


def test_what_is_not_known_is_not_guessed() -> None:
    """A sweep of which nothing is measured has no ETA, nor has what stands behind it."""
    queue = [Queued(group="new", sweep="a"), *waiting(1, "b")]
    assert forecast([], queue, equal(1.0), ["x"]) == {}
    assert forecast([], waiting(1, "b"), equal(1.0), []) == {}


def test_each_device_has_its_speed() -> None:
    """Jobs on the slow card take twice as long: the queue is played with that, also on another card of its kind."""
    models = {"fast:0": "H100", "slow:0": "K80", "slow:1": "K80"}
    took = [("fast:0", 10.0), ("slow:0", 20.0)] * 20
    known = Durations([DurationSample(group="g", device=d, seconds=s) for d, s in took], models)
    assert known.slowness("g", "slow:0") / known.slowness("g", "fast:0") == pytest.approx(2.0, rel=0.1)
    assert known.slowness("g", "slow:1") > 1.1
    found = forecast([], waiting(30), known, ["fast:0", "slow:0"])["s"]
    assert found.seconds == pytest.approx(200.0, rel=0.12)  # 20 on the fast one, 10 on the slow one


def test_settings_make_jobs_longer() -> None:
    """The small models come first and end first: the large ones, of which one is well under way, take longer."""
    took = [DurationSample(group="g", labels={"size": "64", "seed": str(i)}, seconds=10.0) for i in range(12)]
    took += [
        DurationSample(group="g", labels={"size": "512", "seed": str(i)}, seconds=80.0, finished=False)
        for i in range(4)
    ]
    known = Durations(took)
    small, large = (known.seconds("g", {"size": size, "seed": "99"}) for size in ("64", "512"))
    assert small == pytest.approx(10.0, rel=0.35)
    assert large == pytest.approx(80.0, rel=0.35)


def test_what_is_saved_is_not_done_again() -> None:
    """A job that crashed at half its way has the other half before it."""
    found = forecast([], [Queued(group="g", sweep="s", done_s=50.0)], equal(100.0, 100.0), ["x"])["s"]
    assert found.seconds == pytest.approx(50.0)


@given(
    jobs=st.integers(1, 200),
    slots=st.integers(1, 16),
    running=st.lists(st.floats(0, 1e4), max_size=16),
    each=st.floats(0.1, 1e4),
)
def test_forecast_is_the_schedule(jobs: int, slots: int, running: list[float], each: float) -> None:
    """The middle is list scheduling played out, and lies within its range."""
    held = [Running(group="g", sweep="r", remaining_s=r, elapsed_s=0.0) for r in running[:slots]]
    found = forecast(held, waiting(jobs), equal(each, each), ["x"] * (slots - len(held)))
    free = [*running[:slots], *([0.0] * (slots - len(held)))]
    heapq.heapify(free)
    last = 0.0
    for _ in range(jobs):
        last = max(last, free[0] + each)
        heapq.heapreplace(free, free[0] + each)
    assert found["s"].seconds == pytest.approx(last)
    assert found["s"].low <= found["s"].seconds <= found["s"].high


@given(st.lists(st.floats(0.1, 1e5), min_size=1, max_size=40), st.randoms())
def test_learnt_durations_are_sane(seconds: list[float], chance: random.Random) -> None:
    """Whatever was measured: finite, positive, and between the shortest and the longest where settings say nothing."""
    samples = [
        DurationSample(group="g", seconds=s, device=chance.choice("ab"), labels={"k": chance.choice("xyz")})
        for s in seconds
    ]
    found = Durations(samples).seconds("g", {})
    assert found is not None
    assert 0 < found <= 1.0001 * max(seconds) * len(seconds)
    plain = equal(*seconds).seconds("g", {})
    assert plain == pytest.approx(sum(seconds) / len(seconds))


def test_doubt_shrinks_with_more_finished_runs() -> None:
    """The standard error of the mean; one job alone is not much."""
    few, many = equal(50.0, 70.0, 60.0, 40.0), equal(*[50.0, 70.0, 60.0, 40.0] * 25)
    assert many.doubt("g", 100) < few.doubt("g", 100)
    assert equal(50.0).doubt("g", 1) == equal().doubt("g", 1) == 0.3
