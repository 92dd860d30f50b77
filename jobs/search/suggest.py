"""The settings of one trial, as a function of the search's settings, the trials so far, and the trial's number.

Asked again with the same, each method answers the same, so a search needs no memory of its own: whatever drives it may
be killed at any time. Each trial has a generator of its own, seeded by the search's seed and its number.
"""

from __future__ import annotations

from collections.abc import Callable

from terry.jobs.search.trial import Question, Suggestion
from terry.jobs.sweeps.distributions import at_random, drawn
from terry.jobs.sweeps.search import LEARN_FROM_RANDOM, SearchMethod


def suggest(question: Question) -> Suggestion:
    """What the trial tries. UserError where the method's package is not installed."""
    search, known = question.search, sum(not trial.is_open for trial in question.trials)
    if search.method in LEARN_FROM_RANDOM and known < search.at_random:
        return _random(question)
    return _METHODS[search.method](question)


def _random(question: Question) -> Suggestion:
    """The same points as `sweep.random` draws."""
    settings = at_random(question.search.seed, question.number, question.space, question.beside)
    return Suggestion(number=question.number, settings=settings)


def _qmc(question: Question) -> Suggestion:
    """The trial's point of a scrambled Sobol sequence."""
    from scipy.stats import qmc

    space = question.space
    sequence = qmc.Sobol(len(space), rng=question.search.seed)
    if question.number:  # SciPy 1.17: no points at all to skip are an OverflowError
        sequence.fast_forward(question.number)
    place = dict(zip((each.key for each in space), sequence.random(1)[0].tolist(), strict=True))
    settings = drawn(space, question.beside, lambda each: each.draw(place[each.key]))
    return Suggestion(number=question.number, settings=settings)


def _optuna(question: Question) -> Suggestion:
    from terry.jobs.search import samplers

    return samplers.suggest(question)


def _cmaes(question: Question) -> Suggestion:
    from terry.jobs.search import cma

    return cma.suggest(question)


_METHODS: dict[SearchMethod, Callable[[Question], Suggestion]] = {
    SearchMethod.random: _random,
    SearchMethod.qmc: _qmc,
    SearchMethod.tpe: _optuna,
    SearchMethod.gp: _optuna,
    SearchMethod.cmaes: _cmaes,
}
