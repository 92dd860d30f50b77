"""Curves in a terminal, drawn with braille dots: two across and four down in each character. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from terry.logs.format import bounded, count, figure, pad

#: Bit of each dot in a braille character, by (column, row).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line to draw."""

    steps: Sequence[int]  #: ascending
    values: Sequence[float]  #: as many; those that are not finite are left out
    band: Sequence[tuple[float, float]] = ()  #: low and high around each value, shaded; none: a line alone


#: Text of a line of a chart, with the number of the series whose it is; None: of none.
Piece = tuple[str, int | None]


def curve_lines(
    steps: Sequence[int], values: Sequence[float], width: int, height: int, marks: Sequence[int] = ()
) -> list[str]:
    """A curve in `height` lines of `width` characters, with the range at its left and below; `^` below marked steps."""
    lines = chart([Series(steps=steps, values=values)], width, height, marks)
    return ["".join(text for text, _ in line) for line in lines]


def chart(
    series: Sequence[Series], width: int, height: int, marks: Sequence[int] = (), within: Sequence[Series] = ()
) -> list[list[Piece]]:
    """Curves in one frame: `height` lines of `width` characters. Where two meet, the later one is seen.

    within: curves whose range the frame has, so that several charts can be held against each other.
    """
    lines = [_points(one) for one in series]
    points = [point for one in within or series for point in _points(one)]
    if height < 3 or width < 20 or not points:
        nothing: list[Piece] = [(pad("(no losses yet)", width), None)]
        return [nothing][: max(0, height)]
    low, high = _range(within or series, min(y for _, y in points), max(y for _, y in points))
    frame = _Frame(min(x for x, _ in points), max(x for x, _ in points), low, high)
    margin = max(len(figure(low)), len(figure(high))) + 1
    marked = _marks(frame, marks, width - margin)
    rows = height - 1 - bool(marked)
    grid = _Grid(width - margin, rows)
    for number, one in enumerate(series):
        grid.shade(frame, _edge(one, 0), _edge(one, 1), number)
    for number, line in enumerate(lines):
        grid.plot(frame, line, number)
    drawn: list[list[Piece]] = []
    for row in range(rows):
        label = figure(high) if row == 0 else figure(low) if row == rows - 1 else ""
        drawn.append([(pad(label, margin - 1, right=True) + " ", None), *grid.line(row)])
    first, last = count(frame.first), f"step {count(frame.last)}"
    if marked:
        drawn.append([(" " * margin + marked, None)])
        legend = "   ^ restarted"
        first += legend if len(first) + len(legend) + len(last) < width - margin else ""
    drawn.append([(" " * margin + first + last.rjust(width - margin - len(first)), None)])
    return drawn


def _points(one: Series) -> list[tuple[int, float]]:
    return [(x, bounded(y)) for x, y in zip(one.steps, one.values, strict=True) if math.isfinite(y)]


def _edge(one: Series, side: int) -> list[tuple[int, float]]:
    """A band's lower edge (0) or upper one (1)."""
    return [
        (x, bounded(edges[side]))
        for x, edges in zip(one.steps, one.band, strict=False)
        if all(map(math.isfinite, edges))
    ]


def _range(series: Sequence[Series], low: float, high: float) -> tuple[float, float]:
    """With the bands, which take half as much again as the lines and no more: of two seeds they are very wide."""
    lows = [y for one in series for _, y in _edge(one, 0)]
    highs = [y for one in series for _, y in _edge(one, 1)]
    more = (high - low) / 2 or abs(low) / 10
    return max(low - more, min([low, *lows])), min(high + more, max([high, *highs]))


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is to be seen: from the first step to the last, from the lowest value to the highest."""

    first: int
    last: int
    low: float
    high: float

    def column(self, step: int, width: int) -> int:
        """In which of `width` columns a step stands."""
        return min(width - 1, max(0, round((step - self.first) / max(1, self.last - self.first) * (width - 1))))

    def row(self, value: float, height: int) -> int:
        """In which of `height` rows a value stands."""
        span = self.high - self.low
        return round((self.high - value) / span * (height - 1)) if span > 0 else height // 2


def _marks(frame: _Frame, steps: Sequence[int], width: int) -> str:
    """A line with `^` below these steps; empty where there are none."""
    line = [" "] * width
    for step in steps:
        if frame.first <= step <= frame.last:
            line[frame.column(step, width)] = "^"
    return "".join(line).rstrip()


class _Grid:
    """Characters of 2 x 4 dots, each with the number of the series that was drawn there last."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height
        self._dots = [[0] * width for _ in range(height)]
        self._owners: list[list[int | None]] = [[None] * width for _ in range(height)]

    def plot(self, frame: _Frame, points: Sequence[tuple[int, float]], owner: int) -> None:
        """The dots of a curve; what falls into one column of dots is averaged."""
        previous: int | None = None
        for x, y in _joined(_columns(frame, points, self._width * 2)):
            row = frame.row(y, self._height * 4)
            for r in range(min(row, previous), max(row, previous) + 1) if previous is not None else (row,):
                self._set(x, r, owner)
            previous = row

    def shade(
        self, frame: _Frame, low: Sequence[tuple[int, float]], high: Sequence[tuple[int, float]], owner: int
    ) -> None:
        """Sparse dots between two curves."""
        bottoms = _joined(_columns(frame, low, self._width * 2))
        tops = _joined(_columns(frame, high, self._width * 2))
        for (x, bottom), (_, top) in zip(bottoms, tops, strict=True):
            first, last = (min(self._height * 4 - 1, max(0, frame.row(y, self._height * 4))) for y in (top, bottom))
            for row in range(first, last + 1):
                if (x + 2 * row) % 4 == 0:
                    self._set(x, row, owner)

    def _set(self, x: int, y: int, owner: int) -> None:
        row, column = y // 4, x // 2
        if self._owners[row][column] != owner:
            self._owners[row][column], self._dots[row][column] = owner, 0
        self._dots[row][column] |= _DOTS[x % 2][y % 4]

    def line(self, row: int) -> list[Piece]:
        """One line, in pieces of one owner each."""
        cells = zip(self._dots[row], self._owners[row], strict=True)
        return [
            ("".join(chr(0x2800 + bits) if bits else " " for bits, _ in group), owner)
            for owner, group in itertools.groupby(cells, key=lambda cell: cell[1])
        ]


def _joined(columns: Sequence[float | None]) -> Iterator[tuple[int, float]]:
    """The columns from the first that is known to the last, with straight lines where one between is not."""
    known = [(x, y) for x, y in enumerate(columns) if y is not None]
    for (x, y), (next_x, next_y) in itertools.pairwise(known):
        for i in range(next_x - x):
            yield x + i, y + (next_y - y) * i / (next_x - x)
    yield from known[-1:]


def _columns(frame: _Frame, points: Sequence[tuple[int, float]], width: int) -> list[float | None]:
    """Mean value of each column of dots; None where no point falls into it."""
    sums, numbers = [0.0] * width, [0] * width
    for x, y in points:
        column = frame.column(x, width)
        sums[column] += y
        numbers[column] += 1
    return [total / n if n else None for total, n in zip(sums, numbers, strict=True)]
