"""How many trials a search asks for now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from terry.jobs.search.suggest import suggest
from terry.jobs.search.trial import Outcome, Question, Suggestion, Trial
from terry.jobs.sweeps.distributions import Distribution
from terry.jobs.sweeps.search import SearchConfig


def due(search: SearchConfig, trials: Sequence[Trial]) -> int:
    """Number of trials to ask for now.

    Without `parallel` one always waits for a device, so that a search has as many at once as the policy gives it.
    """
    left = search.trials - len(trials)
    if search.parallel is not None:
        return max(0, min(left, search.parallel - sum(trial.is_open for trial in trials)))
    return max(0, min(left, 1 - sum(trial.outcome is Outcome.waiting for trial in trials)))


#: So many trials that fail before one succeeds have the same cause.
HOPELESS = 5


def is_hopeless(trials: Sequence[Trial]) -> bool:
    """Whether the first trials have all failed."""
    ended = [trial for trial in trials if not trial.is_open]
    return len(ended) >= HOPELESS and all(trial.outcome is Outcome.failed for trial in ended)


def ask(
    search: SearchConfig, space: Sequence[Distribution], beside: Mapping[str, Any], trials: Sequence[Trial], count: int
) -> list[Suggestion]:
    """The next `count` trials: each is told of those before it as running."""
    known = list(trials)
    found: list[Suggestion] = []
    first = max((trial.number for trial in trials), default=-1) + 1
    for number in range(first, first + count):
        one = suggest(Question(search=search, space=space, beside=beside, trials=known, number=number))
        found.append(one)
        known.append(Trial(number=number, settings=one.settings, outcome=Outcome.waiting, generation=one.generation))
    return found
