"""Means with their intervals, and what is said where there can be none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from terry.logs.statistics.summary import summarise

NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))


@given(st.lists(NUMBERS, min_size=2, max_size=30))
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    found = summarise(values)
    if found.sd == 0.0:
        assert max(values) - min(values) <= 1e-6
        return
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-7, abs=1e-7)
    assert found.sd == pytest.approx(float(np.std(values, ddof=1)), rel=1e-7)


def test_what_has_no_spread_has_no_interval_and_says_why() -> None:
    alone, repeated = summarise([4.5]), summarise([4.5, 4.5, 4.5 * (1 + 1e-16)])
    assert (alone.mean, alone.low, alone.why) == (4.5, None, "one seed says nothing of the spread")
    assert repeated.sd == 0.0
    assert repeated.low is None
    assert "same run repeated" in repeated.why


def test_runs_that_diverged_are_counted_and_not_averaged() -> None:
    found = summarise([4.0, math.nan, 5.0, math.inf, None])
    assert (found.n, found.lost, found.mean) == (2, 3, 4.5)
    nothing = summarise([math.nan])
    assert (nothing.n, nothing.mean, nothing.why) == (0, None, "no run has a finite value")


def test_best_and_worst_know_their_direction() -> None:
    assert (summarise([1.0, 2.0]).best, summarise([1.0, 2.0], lower_is_better=False).best) == (1.0, 2.0)


def test_the_bootstrap_says_that_it_is_too_narrow_with_few() -> None:
    few, again = summarise([1.0, 2.0, 4.0], bootstrap_seed=7), summarise([1.0, 2.0, 4.0], bootstrap_seed=7)
    assert few == again
    student = summarise([1.0, 2.0, 4.0])
    assert few.low is not None
    assert student.low is not None
    assert few.low > student.low
    assert "too narrow" in few.why
    assert summarise([float(i) for i in range(25)], bootstrap_seed=7).why == ""
