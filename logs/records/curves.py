"""Loss curves: the losses of one run over its steps, as one series whatever crashed in between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from terry.cluster.files.paths import Run
from terry.logs.format import bounded
from terry.logs.records.metrics import read_series
from terry.logs.records.values import decode

#: More points than this are thinned out: no screen shows them.
_POINTS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Losses of one run over its steps."""

    name: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    valid_steps: tuple[int, ...] = ()
    valid_losses: tuple[float, ...] = ()
    restarts: tuple[int, ...] = ()  #: steps at which a later attempt went on


def read_curve(run: Run, name: str, first_attempt: int = 1) -> Curve:
    """The run's losses; a loss that was not finite is NaN. Several attempts read as one series."""
    rows = read_series(run, first_attempt)
    train = [(row["step"], _float(row["loss"])) for row in rows if "loss" in row]
    valid = [(row["step"], _float(row["valid_loss"])) for row in rows if "valid_loss" in row]
    train = _thinned(train)
    return Curve(
        name=name,
        steps=tuple(step for step, _ in train),
        losses=tuple(loss for _, loss in train),
        valid_steps=tuple(step for step, _ in valid),
        valid_losses=tuple(loss for _, loss in valid),
        restarts=tuple(_restarts(run, first_attempt)),
    )


def _float(value: object) -> float:
    return bounded(float(value)) if isinstance(value, int | float) else float("nan")


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    every = -(-len(points) // _POINTS) or 1
    return points[::every]


def _restarts(run: Run, first_attempt: int) -> Iterable[int]:
    """Steps from which the second and later attempts went on."""
    for number, folder in run.attempts():
        if number <= first_attempt:
            continue
        try:
            with folder.metrics.open("rb") as stream:
                start = (decode(stream.readline()) or {}).get("start")
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            continue
        if isinstance(start, int) and start > 0:
            yield start


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
