"""Optuna's samplers, asked as pure functions: a study is made anew, in memory, at each question.

None of its storages is used, and no sampler outlives its question: in Optuna 5.0 a seeded study that is rebuilt from
its finished trials suggests again what it has suggested already, so each trial has a sampler of its own, seeded by its
number, and is told which trials run at the moment.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from terry.cluster.errors import UserError
from terry.jobs.search.trial import Outcome, Question, Suggestion, Trial
from terry.jobs.sweeps.distributions import CHOICE, Distribution, drawn, rounded
from terry.jobs.sweeps.search import SearchConfig, SearchMethod

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

#: Where Optuna's samplers look for a trial's constraints.
_CONSTRAINTS = "constraints"


def suggest(question: Question) -> Suggestion:
    """What a trial tries, by TPE or a Gaussian process. UserError where a package is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a part of it is experimental
        study = study_of(question.search, question.space, question.trials, question.seed)
        asked = study.ask()
        settings = drawn(question.space, question.beside, lambda each: _suggested(asked, each))
    return Suggestion(number=question.number, settings=settings)


def study_of(search: SearchConfig, space: Sequence[Distribution], trials: Sequence[Trial], seed: int) -> optuna.Study:
    """A study in memory that knows these trials. UserError where a package is missing."""
    found = _optuna()
    found.logging.set_verbosity(found.logging.ERROR)
    directions = [str(direction) for direction in search.directions]
    study: optuna.Study = found.create_study(directions=directions, sampler=_sampler(search, seed))
    axes = {each.key: each for each in space}
    kinds = {each.key: _shared(distribution_of(each)) for each in space}
    in_order = sorted(trials, key=lambda trial: trial.number)
    study.add_trials([_frozen(trial, axes, kinds, search) for trial in in_order])
    return study


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UserError(
            f"the search needs the package {error.name!r}, which is not installed here: "
            "pip install 'terry-cluster[search]'"
        ) from None
    return optuna


def _sampler(search: SearchConfig, seed: int) -> Any:
    samplers = _optuna().samplers
    constrained = _constraints if search.constraints else None
    if search.method is SearchMethod.gp:
        return samplers.GPSampler(seed=seed, n_startup_trials=0, constraints_func=constrained)
    return samplers.TPESampler(seed=seed, n_startup_trials=0, constraints_func=constrained)


def _constraints(trial: FrozenTrial) -> Sequence[float]:
    found: Sequence[float] = trial.system_attrs[_CONSTRAINTS]
    return found


def _shared(kind: BaseDistribution) -> BaseDistribution:
    """One object for all trials: Optuna copies each trial with its distributions, half the time of a question."""
    from optuna.distributions import CategoricalDistribution

    if not isinstance(kind, CategoricalDistribution):  # those are compared with all that stands in them
        kind.__deepcopy__ = lambda _: kind  # type: ignore[attr-defined]
    return kind


def _frozen(
    trial: Trial, axes: Mapping[str, Distribution], kinds: Mapping[str, BaseDistribution], search: SearchConfig
) -> FrozenTrial:
    """The trial as Optuna has it. A choice goes by its place in the list: it may be of any kind."""
    from optuna.trial import TrialState, create_trial

    states = {
        Outcome.waiting: TrialState.RUNNING,
        Outcome.running: TrialState.RUNNING,
        Outcome.done: TrialState.COMPLETE,
        Outcome.stopped: TrialState.PRUNED,
        Outcome.failed: TrialState.FAIL,
    }
    state = states[trial.outcome]
    stopped = state is TrialState.PRUNED
    if stopped and len(search.objectives) > 1:  # Optuna prunes by one figure only
        state = TrialState.COMPLETE
    return create_trial(
        state=state,
        values=list(trial.values) if state is TrialState.COMPLETE else None,
        params={key: _param(axes[key], value) for key, value in trial.settings.items()},
        distributions={key: kinds[key] for key in trial.settings},
        intermediate_values={trial.step: trial.values[0]} if stopped else {},
        system_attrs={_CONSTRAINTS: list(trial.constraints)} if search.constraints and trial.constraints else {},
    )


def _param(axis: Distribution, value: Any) -> Any:
    if axis.kind == CHOICE:
        return next(i for i, each in enumerate(axis.values) if type(each) is type(value) and each == value)
    return int(value) if axis.is_whole else float(value)


def distribution_of(axis: Distribution) -> BaseDistribution:
    """The same as Optuna has it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.kind == CHOICE:
        return CategoricalDistribution(tuple(range(len(axis.values))))
    low, high = axis.values
    kind = IntDistribution if axis.is_whole else FloatDistribution
    return kind(low, high, log=axis.is_log)


def _suggested(trial: optuna.Trial, axis: Distribution) -> Any:
    if axis.kind == CHOICE:
        return axis.values[trial.suggest_categorical(axis.key, tuple(range(len(axis.values))))]
    low, high = axis.values
    if axis.is_whole:
        return trial.suggest_int(axis.key, low, high, log=axis.is_log)
    return min(max(rounded(trial.suggest_float(axis.key, low, high, log=axis.is_log)), low), high)


def importances(
    search: SearchConfig, space: Sequence[Distribution], trials: Sequence[Trial], objective: int = 0
) -> dict[str, float]:
    """How much of the figure's spread each setting explains, by Optuna's own evaluator: the largest first, sum 1.

    Only settings that every trial has. Raises UserError with fewer than two finished trials, or figures all alike.
    """
    done = [trial for trial in trials if trial.outcome is Outcome.done]
    if len(done) < 2:
        raise UserError(f"importance needs at least two trials that have ended; there are {len(done)}")
    if len({trial.values[objective] for trial in done}) < 2:
        raise UserError("importance needs figures that differ; all trials have the same")
    optuna = _optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = study_of(search, space, done, seed=search.seed)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: _signed(trial.values[objective], study, objective)
        )
    total = sum(found.values())
    return {key: value / total if total and math.isfinite(total) else 0.0 for key, value in found.items()}


def _signed(value: float, study: optuna.Study, objective: int) -> float:
    """PED-ANOVA looks at what is smallest."""
    return -value if str(study.directions[objective].name) == "MAXIMIZE" else value
