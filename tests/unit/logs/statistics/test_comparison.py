"""Configurations told apart, or not: beside scipy's tests, and where those give a number without a meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from terry.logs.statistics.comparison import ALPHA, ComparisonVerdict, compare, compare_all, holm, seeds_needed

SCORES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 4)), min_size=2, max_size=12)


def by_name(prefix: str, values: list[float]) -> dict[str, float]:
    return {f"{prefix}{i}": value for i, value in enumerate(values)}


@given(SCORES, SCORES)
def test_unlike_seeds_are_compared_as_scipy_does(one: list[float], other: list[float]) -> None:
    found = compare(by_name("a", one), by_name("b", other), ("a", "b"))
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert found.p is None
        assert "no evidence" in found.why
        return
    expected = stats.ttest_ind(other, one, equal_var=False)
    around = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-6)
    assert (found.low, found.high) == pytest.approx((around.low, around.high), rel=1e-6, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=12))
def test_the_same_seeds_are_compared_seed_by_seed(pairs: list[tuple[float, float]]) -> None:
    one, other = ([round(x, 4) for x in side] for side in zip(*pairs, strict=True))
    found = compare(by_name("s", one), by_name("s", other), ("a", "b"))
    assert found.paired
    apart = [round(b - a, 9) for a, b in zip(one, other, strict=True)]
    if len(set(apart)) == 1:
        assert found.p is None
        return
    expected = stats.ttest_rel(other, one)
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"1": 4.0}, {"1": 3.0}, "one seed of a and b: nothing is known of its noise"),
        ({"1": 4.0, "2": 4.1}, {"3": 3.0}, "one seed of b: nothing is known of its noise"),
        ({"1": 4.0, "2": 4.0}, {"1": 4.0, "2": 4.0}, "both gave the same values: the same run repeated is no evidence"),
        ({"1": 4.0, "2": 5.0}, {"1": 4.1, "2": 5.1}, "each seed differs by exactly as much"),
        ({"1": 4.0, "2": 4.0}, {"3": 3.0, "4": 3.1}, "all seeds of a gave the same value"),
        ({"1": math.nan}, {"1": 3.0}, "a has no finite value"),
    ],
)
def test_where_a_test_means_nothing_there_are_words_and_no_p(
    one: dict[str, float], other: dict[str, float], words: str
) -> None:
    found = compare(one, other, ("a", "b"))
    assert (found.p, found.verdict) == (None, ComparisonVerdict.UNKNOWN)
    assert found.why.startswith(words)


def test_holm_as_in_the_literature() -> None:
    """The example of Wright 1992, "Adjusted P-values for simultaneous inference", as R's p.adjust gives it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04]) == [pytest.approx(0.03), None, pytest.approx(0.08)], "one made is one made"


def test_of_many_comparisons_each_must_be_surer() -> None:
    generator = np.random.default_rng(3)
    first = by_name("s", list(generator.normal(0.0, 1.0, 8)))
    others = [(f"c{k}", by_name("t", list(generator.normal(0.0, 1.0, 8)))) for k in range(20)]
    found = compare_all(first, others, "first")
    assert all(each.comparisons == 20 for each in found)
    assert all(each.p is not None and each.p_corrected is not None and each.p_corrected >= each.p for each in found)


@pytest.mark.parametrize(("paired", "expected"), [(False, 17), (True, 10)])
def test_seeds_for_a_difference_of_one_standard_deviation(*, paired: bool, expected: int) -> None:
    """Cohen 1988, table 2.4.1 (d = 1.0, power 0.80): 17 a side; for pairs of differences 10."""
    assert seeds_needed(1.0, paired=paired) == expected


@given(st.floats(0.02, 20.0), st.booleans())
def test_one_seed_fewer_would_not_do(effect: float, paired: bool) -> None:
    needed = seeds_needed(effect, paired=paired)
    if needed is None:
        return
    power = [_simulated(effect, n, paired=paired) for n in (needed, needed - 1) if n >= 2]
    assert power[0] >= 0.8
    assert all(p < 0.8 for p in power[1:])


def _simulated(effect: float, n: int, *, paired: bool) -> float:
    """The power by scipy's own non-central t."""
    degrees, shift = (n - 1, effect * math.sqrt(n)) if paired else (2 * n - 2, effect * math.sqrt(n / 2))
    bound = stats.t.ppf(1 - ALPHA / 2, degrees)
    wrong_side = stats.nct.cdf(-bound, degrees, shift) if shift < 5 else 0.0
    return float(stats.nct.sf(bound, degrees, shift) + wrong_side)


def test_what_is_alike_needs_no_seeds() -> None:
    assert seeds_needed(0.0, paired=False) is None
    assert seeds_needed(1e-9, paired=True) is None


def test_a_difference_that_nobody_could_miss_needs_two_seeds() -> None:
    """Far out scipy's own figure is NaN, which compares as false and would mean `beyond reach`."""
    assert [seeds_needed(effect, paired=paired) for effect in (33.5, 1e3, 1e12) for paired in (True, False)] == [2] * 6
