"""Curves in a terminal, drawn with braille dots: two across and four down in each character. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from terry.logs.text import count, figure, pad

#: Bit of each dot in a braille character, by (column, row).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average without bias towards zero (TensorBoard's); values that are not finite stay out of it.

    weight: 0 (none) to below 1.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"smoothing must be from 0 to below 1, not {weight}")
    mean, norm, result = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            mean = mean * weight + (1 - weight) * value
            norm = norm * weight + (1 - weight)
        result.append(mean / norm if norm and math.isfinite(value) else value)
    return result


def curve_lines(steps: Sequence[int], values: Sequence[float], width: int, height: int) -> list[str]:
    """A curve of values over steps in `height` lines of `width` characters, with the range at its left and below."""
    points = [(x, y) for x, y in zip(steps, values, strict=True) if math.isfinite(y)]
    if height < 3 or width < 20 or not points:
        return [pad("(no losses yet)", width)][: max(0, height)]
    low, high = min(y for _, y in points), max(y for _, y in points)
    margin = max(len(figure(low)), len(figure(high))) + 1
    grid = _plot(points, width - margin, height - 1, low, high)
    lines = []
    for row, text in enumerate(grid):
        label = figure(high) if row == 0 else figure(low) if row == len(grid) - 1 else ""
        lines.append(pad(label, margin - 1, right=True) + " " + text)
    first, last = count(points[0][0]), f"step {count(points[-1][0])}"
    lines.append(" " * margin + first + last.rjust(width - margin - len(first)))
    return lines


def _plot(points: Sequence[tuple[int, float]], width: int, height: int, low: float, high: float) -> list[str]:
    """The dots of a curve; what falls into one column of dots is averaged."""
    dots = [[0] * width for _ in range(height)]
    previous: int | None = None
    for x, y in enumerate(_joined(_columns(points, width * 2))):
        span = high - low
        row = round((high - y) / span * (height * 4 - 1)) if span > 0 else height * 2
        steps = range(min(row, previous), max(row, previous) + 1) if previous is not None else (row,)
        for r in steps:
            dots[r // 4][x // 2] |= _DOTS[x % 2][r % 4]
        previous = row
    return ["".join(chr(0x2800 + bits) if bits else " " for bits in line) for line in dots]


def _joined(columns: Sequence[float | None]) -> list[float]:
    """The columns with straight lines where no point falls into one; the first and last always have one."""
    known = [(x, y) for x, y in enumerate(columns) if y is not None]
    result: list[float] = []
    for (x, y), (next_x, next_y) in itertools.pairwise(known):
        result += [y + (next_y - y) * i / (next_x - x) for i in range(next_x - x)]
    return [*result, known[-1][1]]


def _columns(points: Sequence[tuple[int, float]], width: int) -> list[float | None]:
    """Mean value of each column of dots; None where no point falls into it."""
    first, last = points[0][0], points[-1][0]
    span = max(1, last - first)
    sums, numbers = [0.0] * width, [0] * width
    for x, y in points:
        column = min(width - 1, max(0, round((x - first) / span * (width - 1))))
        sums[column] += y
        numbers[column] += 1
    return [total / n if n else None for total, n in zip(sums, numbers, strict=True)]
