"""Curves of several seeds as one: their mean, step by step, and the band of its 95% interval. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from terry.logs.records.curves import Curve, smooth
from terry.logs.statistics.summary import summarise

#: Points of a line; no screen shows more of a small picture.
POINTS = 120

#: Step and loss.
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Around:
    """A place of a band."""

    step: float
    mean: float
    low: float  #: of Student's interval of the mean; the mean itself where all seeds have one value
    high: float


def is_validated(curve: Curve) -> bool:
    """True where validation losses make a curve of their own."""
    return len(curve.valid_steps) >= 2


def points_of(curve: Curve, smoothing: float = 0.0) -> list[Point]:
    """The validation losses where there are two or more, else the training losses, thinned.

    smoothing: weight of a moving average over the training losses, 0 to below 1.
    """
    if is_validated(curve):
        pairs = list(zip(curve.valid_steps, curve.valid_losses, strict=True))
    else:
        pairs = list(zip(curve.steps, smooth(curve.losses, smoothing), strict=True))
    every = max(1, -(-len(pairs) // POINTS))
    return [(float(step), loss) for step, loss in pairs[::every]]


def band(runs: Sequence[Sequence[Point]]) -> list[Around]:
    """Around the mean, from where all runs have begun to where the first one ends; empty of fewer than two runs.

    At the steps that all have measured; where these are few, at those of any, with straight lines between.
    """
    if len(runs) < 2:
        return []
    finite = [[point for point in points if math.isfinite(point[1])] for points in runs]
    if not all(finite):
        return []
    at = [dict(points) for points in finite]
    shared = sorted(set(at[0]).intersection(*at[1:]))
    if len(shared) * 2 < min(map(len, at)):
        first, last = max(points[0][0] for points in finite), min(points[-1][0] for points in finite)
        steps = sorted({step for points in at for step in points if first <= step <= last})
        shared = steps[:: max(1, -(-len(steps) // POINTS))]
        at = [dict(zip(shared, _between(points, shared), strict=True)) for points in finite]
    return [_around(step, [losses[step] for losses in at]) for step in shared]


def _between(points: Sequence[Point], steps: Sequence[float]) -> Iterator[float]:
    """Losses at ascending steps within those of the points."""
    pairs = list(itertools.pairwise(points)) or [(points[0], points[0])]
    index = 0
    for step in steps:
        while index + 1 < len(pairs) and pairs[index][1][0] < step:
            index += 1
        (left, low), (right, high) = pairs[index]
        share = (step - left) / (right - left) if right > left else 0.0
        yield low + (high - low) * share


def _around(step: float, losses: list[float]) -> Around:
    summary = summarise(losses)
    assert summary.mean is not None
    low = summary.mean if summary.low is None else summary.low
    high = summary.mean if summary.high is None else summary.high
    return Around(step, summary.mean, low, high)
