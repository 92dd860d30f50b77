"""Curves of several seeds as one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.logs.statistics.bands import POINTS, band
from terry.logs.statistics.summary import summarise

LOSSES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


@settings(deadline=None)
@given(st.lists(LOSSES, min_size=2, max_size=4))
def test_where_all_have_measured_it_is_the_mean_with_students_interval(runs: list[list[float]]) -> None:
    found = band([[(float(step), loss) for step, loss in enumerate(run)] for run in runs])
    shortest = min(map(len, runs))
    assert [at.step for at in found] == list(range(shortest))
    for at in found:
        summary = summarise([run[int(at.step)] for run in runs])
        assert at.mean == summary.mean
        assert at.low <= at.mean <= at.high
        if summary.low is not None:
            assert (at.low, at.high) == (summary.low, summary.high)


def test_runs_that_measured_at_other_steps_meet_on_straight_lines() -> None:
    found = band([[(0.0, 4.0), (10.0, 2.0), (20.0, 1.0)], [(5.0, 3.0), (15.0, 3.0)]])
    assert [(at.step, at.mean) for at in found] == [(5.0, 3.0), (10.0, 2.5), (15.0, 2.25)]


@settings(deadline=None)
@given(st.integers(2, 500), st.integers(2, 500))
def test_it_has_no_more_places_than_are_seen(n: int, m: int) -> None:
    one = [(float(i), 1.0) for i in range(n)]
    other = [(i + 0.5, 2.0) for i in range(m)]
    found = band([one, other])
    assert len(found) <= 2 * POINTS
    assert all(at.mean == pytest.approx(1.5) for at in found)


def test_a_run_that_diverged_ends_the_band_there() -> None:
    found = band([[(1.0, 3.0), (2.0, 2.0), (3.0, math.nan)], [(1.0, 3.0), (2.0, 3.0), (3.0, 1.0)]])
    assert [at.step for at in found] == [1.0, 2.0]
    assert band([[(1.0, math.nan)], [(1.0, 2.0)]]) == []
