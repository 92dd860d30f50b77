"""Curves in a terminal: dots, marks, several in one frame; and how `plot` puts them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.logs.format import cells
from terry.logs.records.curves import Curve
from terry.logs.text.curve import Series, chart, curve_lines
from terry.logs.text.plot import plot_lines


def curve(name: str, base: float, **more: tuple[int, ...] | tuple[float, ...]) -> Curve:
    steps = tuple(range(0, 1000, 10))
    losses = tuple(base + 3 * math.exp(-s / 200) for s in steps)
    return Curve(name=name, steps=steps, losses=losses, **more)  # type: ignore[arg-type]


def test_marks_stand_below_their_steps() -> None:
    """`^` in the column of a step; those outside of the curve are left out."""
    lines = curve_lines(range(101), [1.0 - s / 200 for s in range(101)], 60, 10, marks=[0, 50, 100, 900])
    assert len(lines) == 10
    margin = lines[0].index(" ") + 1
    assert [i for i, c in enumerate(lines[-2]) if c == "^"] == [margin, margin + (60 - margin - 1) // 2, 59]
    assert "^ restarted" in lines[-1]


def test_each_piece_knows_its_series() -> None:
    """Two curves that do not meet: the upper rows are the first one's, the lower ones the second's."""
    high, low = (Series(steps=range(50), values=[value] * 50) for value in (2.0, 1.0))
    drawn = chart([high, low], 60, 9)
    owners = [{owner for text, owner in line[1:] if text.strip()} for line in drawn[:-1]]
    assert owners[0] == {0}
    assert owners[-1] == {1}
    assert not any(owners[1:-1])


def test_within_gives_the_range() -> None:
    """A chart of one curve in the frame of two has the other one's range at its left."""
    one, other = (Series(steps=range(50), values=[v] * 50) for v in (2.0, 9.0))
    assert chart([one], 60, 9, within=[one, other])[0][0][0].strip() == "9.0000"


@given(
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=40),
    width=st.integers(1, 150),
    height=st.integers(0, 30),
    marks=st.lists(st.integers(-5, 60), max_size=4),
)
def test_any_curve_fits(values: list[float], width: int, height: int, marks: list[int]) -> None:
    """As many lines as asked for, none wider."""
    lines = curve_lines(range(len(values)), values, width, height, marks)
    assert len(lines) in {height, min(height, 1)}
    assert all(cells(line) <= max(width, 20) for line in lines)


def test_groups_have_colours() -> None:
    """One chart, a legend with one colour a group."""
    curves = [curve("a", 1.0), curve("b", 2.0), curve("c", 3.0)]
    lines = plot_lines(curves, {"a": "x=1", "b": "x=1", "c": "x=2"}, 0.0, 80, lambda text, style: f"<{style}>{text}")
    assert lines[0] == "<color(31)>━━ x=1  <color(166)>━━ x=2"
    assert any("<color(31)>" in line for line in lines[1:])
    assert any("<color(166)>" in line for line in lines[1:])


def test_without_colours_groups_are_charts() -> None:
    """Of the same range, so that they can be held against each other."""
    lines = plot_lines([curve("a", 1.0), curve("b", 2.0, restarts=(500,))], {}, 0.0, 80, None)
    assert [line for line in lines if "loss" in line] == ["a: loss", "b: loss, restarted at step 500"]
    assert len([line for line in lines if line.startswith("5.0000")]) == 2


@pytest.mark.parametrize("coloured", [True, False])
def test_one_run_shows_its_validation_where_colours_tell_it_apart(coloured: bool) -> None:
    """Two lines that look alike would be a riddle."""
    one = curve("a", 1.0, valid_steps=(0, 500), valid_losses=(4.2, 1.5))
    text = "\n".join(plot_lines([one], {}, 0.0, 80, (lambda t, s: f"<{s}>{t}") if coloured else None))
    assert ("validation" in text) is coloured
    assert ("<color(166)>" in text) is coloured
