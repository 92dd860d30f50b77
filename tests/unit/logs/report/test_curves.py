"""From losses to places in a picture."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from terry.logs.records.curves import Curve
from terry.logs.report.curves import svg, ticks
from terry.logs.statistics.bands import band, points_of


def curve(name: str, losses: list[float]) -> Curve:
    return Curve(name=name, steps=tuple(range(1, len(losses) + 1)), losses=tuple(losses))


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    span = max(span, abs(low) * 1e-3)
    found = ticks(low, low + span)
    assert len(found) <= 7
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_the_band_is_where_all_seeds_measured() -> None:
    runs = [points_of(curve("a", [3.0, 2.0, 1.0])), points_of(curve("b", [5.0, 4.0]))]
    assert [(at.step, at.mean) for at in band(runs)] == [(1.0, 4.0), (2.0, 3.0)]
    assert band(runs[:1]) == []


def test_a_loss_that_is_not_finite_is_a_gap() -> None:
    picture = svg({"gru": [curve("a", [3.0, math.nan, 2.0, math.inf, 1.0])]})
    (path,) = picture.split('class="run" d="')[1:]
    assert path.split('"')[0].count("M") == 3
    assert "nan" not in picture


def test_nothing_measured_is_no_picture() -> None:
    assert svg({"gru": [curve("a", [])]}) == ""
    assert svg({"gru": [curve("a", [math.nan, math.nan])]}) == ""


def test_one_point_and_equal_losses_are_drawn() -> None:
    assert "M" in svg({"gru": [curve("a", [2.0, 2.0])]})


def test_long_curves_are_thinned() -> None:
    assert len(points_of(curve("a", [1.0] * 100_000))) <= 120
