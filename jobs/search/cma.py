"""CMA-ES (Hansen), asked as a pure function: the distribution is worked out anew from the generations that are whole.

A trial belongs to the generation that was open when it was asked for. A generation is whole once as many of its trials
as the population have figures; one that fails is followed by another of the same generation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from terry.cluster.errors import UserError
from terry.jobs.search.trial import Outcome, Question, Suggestion, Trial
from terry.jobs.sweeps.distributions import Distribution, rounded
from terry.jobs.sweeps.search import Direction

if TYPE_CHECKING:
    from cmaes import CMA

#: First standard deviation, of a space that is one wide in each direction.
_SIGMA = 0.25


def suggest(question: Question) -> Suggestion:
    """What a trial tries. UserError where the package is missing."""
    search, space, trials = question.search, question.space, question.trials
    optimizer = _begun(len(space), question.seed)
    sign = -1.0 if search.directions[0] is Direction.maximize else 1.0
    while whole := _generation(trials, optimizer.generation, optimizer.population_size):
        optimizer.tell([(_place(space, trial.settings), sign * trial.values[0]) for trial in whole])
    settings = {each.key: _value(each, u) for each, u in zip(space, optimizer.ask().tolist(), strict=True)}
    return Suggestion(number=question.number, settings=settings, generation=optimizer.generation)


def _begun(dimensions: int, seed: int) -> CMA:
    try:
        import cmaes
        import numpy as np
    except ModuleNotFoundError as error:
        raise UserError(
            f"the search needs the package {error.name!r}, which is not installed here: "
            "pip install 'terry-cluster[search]'"
        ) from None
    bounds = np.array([[0.0, 1.0]] * dimensions)
    return cmaes.CMA(mean=np.full(dimensions, 0.5), sigma=_SIGMA, bounds=bounds, seed=seed)


def _generation(trials: Sequence[Trial], generation: int, size: int) -> list[Trial]:
    """The first trials of a generation that have figures; none where they are too few."""
    of_it = (t for t in trials if t.generation == generation and t.outcome in (Outcome.done, Outcome.stopped))
    found = sorted(of_it, key=lambda trial: trial.number)[:size]
    return found if len(found) == size else []


def _place(space: Sequence[Distribution], settings: Mapping[str, Any]) -> Any:
    import numpy as np

    return np.array([_unit(each, settings[each.key]) for each in space])


def _unit(axis: Distribution, value: float) -> float:
    """Where a value lies between the bounds: 0 to 1, on the axis' own scale."""
    low, high = _ends(axis)
    u = math.log(value / low) / math.log(high / low) if axis.is_log else (value - low) / (high - low)
    return min(max(u, 0.0), 1.0)


def _value(axis: Distribution, u: float) -> float:
    low, high = _ends(axis)
    value: float = low * (high / low) ** u if axis.is_log else low + (high - low) * u
    if axis.is_whole:
        return int(min(max(round(value), axis.values[0]), axis.values[1]))
    return float(min(max(rounded(value), axis.values[0]), axis.values[1]))


def _ends(axis: Distribution) -> tuple[float, float]:
    """Bounds; of whole numbers half a step more on each side, so that the ends are as likely as others."""
    low, high = axis.values
    return (low - 0.5, high + 0.5) if axis.is_whole else (low, high)
