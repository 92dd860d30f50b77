"""Loss curves as SVG that needs nothing else: a line a run, and of several seeds their mean in its band. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from terry.logs.format import figure, printable
from terry.logs.records.curves import Curve
from terry.logs.statistics.bands import Point, band, points_of

#: With fewer losses than this there is no descent to cut off.
_MANY = 200
#: Configurations that have a colour of their own; more cannot be told apart.
COLOURS = 8
_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """From values to places in the picture."""

    steps: tuple[float, float]
    losses: tuple[float, float]

    def x(self, step: float) -> float:
        """Pixels from the left."""
        low, high = self.steps
        return _LEFT + (step - low) / ((high - low) or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, loss: float) -> float:
        """Pixels from the top."""
        low, high = self.losses
        return _TOP + (high - loss) / ((high - low) or 1.0) * (_HEIGHT - _TOP - _BOTTOM)

    def path(self, points: Sequence[Point]) -> str:
        """The line through them; what is not finite is a gap."""
        parts, pen = [], "M"
        for step, loss in points:
            if not math.isfinite(loss):
                pen = "M"
                continue
            parts.append(f"{pen}{self.x(step):.1f} {self.y(loss):.1f}")
            pen = "L"
        return "".join(parts)


def svg(groups: Mapping[str, Sequence[Curve]]) -> str:
    """The picture; empty where nothing was measured. The first groups have colours of their own."""
    lines = {name: [(curve.name, points_of(curve)) for curve in curves] for name, curves in groups.items()}
    frame = _frame([points for runs in lines.values() for _, points in runs])
    if frame is None:
        return ""
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Loss over steps">',
        f'<clipPath id="plot"><rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - _RIGHT}" '
        f'height="{_HEIGHT - _TOP - _BOTTOM}"/></clipPath>',
        *_axes(frame),
        '<g clip-path="url(#plot)">',
    ]
    for index, (name, runs) in enumerate(lines.items()):
        parts += _group(frame, index, name, runs)
    return "".join([*parts, "</g></svg>"])


def _group(frame: Frame, index: int, name: str, runs: Sequence[tuple[str, Sequence[Point]]]) -> Iterator[str]:
    colour = f"c{index}" if index < COLOURS else "other"
    yield f'<g class="{colour}" data-group="{index}">'
    around = band([points for _, points in runs])
    if around:
        outline = [(at.step, at.high) for at in around] + [(at.step, at.low) for at in reversed(around)]
        yield f'<path class="band" d="{frame.path(outline)}Z"/>'
    for run, points in runs:
        last = next((loss for _, loss in reversed(points) if math.isfinite(loss)), math.nan)
        title = escape(printable(f"{run} ({name}): {figure(last)}"))
        yield f'<path class="run" d="{frame.path(points)}"><title>{title}</title></path>'
    if around:
        yield f'<path class="mean" d="{frame.path([(at.step, at.mean) for at in around])}"/>'
    yield "</g>"


def _frame(lines: Sequence[Sequence[Point]]) -> Frame | None:
    """All steps; losses but for the first steep descent, which would press the rest flat."""
    steps = [step for points in lines for step, _ in points]
    losses = sorted(loss for points in lines for _, loss in points if math.isfinite(loss))
    if not losses or not steps:
        return None
    top = losses[min(len(losses) - 1, int(len(losses) * 0.97))] if len(losses) > _MANY else losses[-1]
    margin = (top - losses[0]) * 0.05 or abs(top) * 0.05 or 1.0
    return Frame(steps=(min(steps), max(steps)), losses=(losses[0] - margin, top + margin))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two values, at distances of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not span > 0.0 or not math.isfinite(span):
        return [low]
    size = 10.0 ** math.floor(math.log10(span / most))
    size *= next(factor for factor in (1, 2, 5, 10) if span / (size * factor) <= most)
    first = math.ceil(low / size)
    return [k * size for k in range(first, math.floor(high / size) + 1)]


def _axes(frame: Frame) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    for loss in ticks(*frame.losses):
        y = frame.y(loss)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{loss:.6g}</text>'
    for step in ticks(*frame.steps):
        x = frame.x(step)
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{step:,.6g}</text>'
    yield f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">step</text>'
    yield f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}"/>'
