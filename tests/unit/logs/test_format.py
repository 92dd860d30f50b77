"""Numbers and tables as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.logs import format as text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (192, "3m12s"), (7_500, "2h05m"), (273_600, "3d04h"), (None, "-"),
     (math.inf, "-"), (-5, "0s")],
)  # fmt: skip
def test_duration(seconds: float | None, words: str) -> None:
    """Two units at most."""
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"), [(830, "830"), (5_700, "5.7k"), (120_000, "120k"), (1.25e6, "1.2M"), (2.5, "2.5"), (None, "-")]
)
def test_short(number: float | None, words: str) -> None:
    """Four or five characters."""
    assert text.short(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(5.12345, "5.1235"), (1e-7, "1.00e-07"), (123.456, "123.5"), (math.nan, "NaN"), (math.inf, "inf"), (None, "-")],
)
def test_figure(number: float | None, words: str) -> None:
    """A loss."""
    assert text.figure(number) == words


@given(st.text(max_size=60), st.integers(0, 40))
def test_clip_and_pad_count_columns(line: str, width: int) -> None:
    """Nothing is wider than it may be, also where characters take two columns."""
    assert text.cells(text.clip(line, width)) <= max(width, text.cells(line) if text.cells(line) <= width else 0)
    assert text.cells(text.pad(line, width)) == width or width == 0


@given(st.text())
def test_printable_has_no_control_characters(line: str) -> None:
    """What a job prints cannot steer the terminal."""
    assert text.printable(line).isprintable()


def test_printable_shortens_what_nobody_can_read() -> None:
    """Beginning and end stay; nothing shorter is touched."""
    shown = text.printable(f"ValueError: {'x' * 5_000_000} at the end")
    assert shown.startswith("ValueError: xxx")
    assert shown.endswith("xxx at the end")
    assert " characters more " in shown
    assert len(shown) < text.MOST + 100
    assert text.printable("x" * text.MOST) == "x" * text.MOST
    assert text.printable("y" * 10_000, most=None) == "y" * 10_000


@given(st.lists(st.floats(), max_size=300), st.integers(0, 40))
def test_sparkline_fits(values: list[float], width: int) -> None:
    """One character a stretch of values; what is not finite shows."""
    line = text.sparkline(values, width)
    assert len(line) == min(width, len(values))


def test_sparkline_marks_what_is_not_finite() -> None:
    """NaN is a mark, not a gap."""
    assert text.sparkline([1.0, 2.0, math.nan], 10) == "▁█!"


def test_table_aligns_and_cuts() -> None:
    """Numbers stand right; a line ends where the terminal does."""
    columns = [text.Column(title="A"), text.Column(title="N", right=True)]
    assert text.table(columns, [["x", "1"], ["long", "1,000"]]) == ["A         N", "x         1", "long  1,000"]
    assert text.table(columns, [["x", "1"]], width=3) == ["A …", "x …"]
    assert text.table(columns, []) == []


def test_a_narrow_terminal_goes_without_the_least_of_the_columns() -> None:
    """Only as many as it takes, in the order given; a long last column may be cut."""
    columns = [
        text.Column(title="JOB"),
        text.Column(title="TOK/S", right=True),
        text.Column(title="EPOCH"),
        text.Column(title="NOTE"),
    ]
    rows = [["cells-0001", "8.7k", "3.00", "all 2 cores busy, and so on for ever"]]

    def titles(width: int | None) -> list[str]:
        return [column.title for column in text.narrowed(columns, rows, width, ("TOK/S", "EPOCH"), last=16)[0]]

    assert titles(None) == titles(42) == ["JOB", "TOK/S", "EPOCH", "NOTE"]
    assert titles(41) == ["JOB", "EPOCH", "NOTE"]
    assert titles(20) == ["JOB", "NOTE"]
    assert text.narrowed(columns, rows, 20, ("TOK/S", "EPOCH"), last=16)[1] == [["cells-0001", rows[0][-1]]]
    assert text.narrowed(columns, [], 5, (), last=16)[1] == []


def test_a_name_loses_its_middle_and_a_sentence_its_end() -> None:
    """The end of a name tells it from others of its sweep."""
    assert text.shortened("a-sweep-with-a-long-name-0012", 12) == "a-sw…me-0012"
    assert text.shortened("all 2 cores busy", 8) == "all 2 c…"
    assert text.shortened("cells-0012", 10) == "cells-0012"


@given(
    names=st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=1, max_size=4),
    numbers=st.lists(st.integers(0, 10**9), min_size=2, max_size=2),
    width=st.integers(50, 90),
)
def test_text_gives_way_to_numbers(names: list[str], numbers: list[int], width: int) -> None:
    """Whatever the names are: no line is too wide, and every number is there to its last digit."""
    columns = [text.Column(title="NAME"), text.Column(title="N", right=True), text.Column(title="NOTE")]
    columns.append(text.Column(title="M", right=True))
    lines = text.table(columns, [[name, f"{numbers[0]:,}", name, f"{numbers[1]:,}"] for name in names], width=width)
    assert all(text.cells(line) <= width for line in lines)
    for line in lines[1:]:
        assert line.endswith(f" {numbers[1]:,}")
        assert f" {numbers[0]:,} " in line
