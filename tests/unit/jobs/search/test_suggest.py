"""A search's next trial is a function of what is known: asked again, or anew, the answer is the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.jobs.search.question import HOPELESS, ask, due, is_hopeless
from terry.jobs.search.suggest import suggest
from terry.jobs.search.trial import Outcome, Question, Trial
from terry.jobs.sweeps.distributions import Distribution, read
from terry.jobs.sweeps.search import Direction, SearchConfig, SearchMethod

NUMBERS = read(
    {
        "optimizer.lr": {"log_uniform": [1e-4, 1.0]},
        "model.hidden_size": {"log_integer": [8, 256]},
        "model.dropout": {"uniform": [0, 0.5]},
    }
)
MIXED = read(
    {
        "optimizer.lr": {"log_uniform": [1e-4, 1.0]},
        "model.cell": {"choice": ["gru", "lstm", None]},
        "model.forget_bias": {"uniform": [0, 2], "when": {"model.cell": "lstm"}},
    }
)
QUICK = [SearchMethod.random, SearchMethod.qmc, SearchMethod.tpe, SearchMethod.cmaes]


def loss(chosen: Any) -> float:
    """Least at lr 0.01 and 64 units."""
    return (
        (math.log10(chosen["optimizer.lr"]) + 2) ** 2
        + (math.log2(chosen["model.hidden_size"]) - 6) ** 2 / 4
        + chosen["model.dropout"]
    )


def config(method: SearchMethod, **other: Any) -> SearchConfig:
    return SearchConfig(method=method, **{"trials": 200, "parallel": 1, **other})


def done(number: int, chosen: Any, value: float, generation: int | None = None) -> Trial:
    return Trial(number=number, settings=chosen, outcome=Outcome.done, values=(value,), generation=generation)


def searched(search: SearchConfig, count: int, space: list[Distribution] = NUMBERS) -> list[Trial]:
    """Trials of a search that is driven without a break."""
    trials: list[Trial] = []
    for _ in range(count):
        (one,) = ask(search, space, {}, trials, 1)
        trials.append(done(one.number, one.settings, loss(one.settings), one.generation))
    return trials


@pytest.mark.parametrize("method", QUICK)
def test_what_is_asked_anew_is_what_was_asked(method: SearchMethod) -> None:
    search = config(method)
    trials = searched(search, 24)
    for cut in (3, 9, 12, 17, 23):
        (again,) = ask(search, NUMBERS, {}, trials[:cut], 1)
        assert again.settings == trials[cut].settings


def test_a_gaussian_process_too() -> None:
    search = config(SearchMethod.gp, warm_up=4)
    trials = searched(search, 7)
    (again,) = ask(search, NUMBERS, {}, trials[:6], 1)
    assert again.settings == trials[6].settings


@pytest.mark.parametrize("method", QUICK)
def test_each_trial_is_another_one(method: SearchMethod) -> None:
    trials = searched(config(method), 24)
    assert len({tuple(trial.settings.values()) for trial in trials}) == 24


@pytest.mark.parametrize("method", QUICK)
def test_another_seed_gives_other_trials(method: SearchMethod) -> None:
    one, other = (ask(config(method, seed=seed), NUMBERS, {}, [], 5) for seed in (1, 2))
    assert [a.settings for a in one] != [b.settings for b in other]


@pytest.mark.parametrize("method", [SearchMethod.tpe, SearchMethod.cmaes])
def test_those_that_learn_find_more_than_chance(method: SearchMethod) -> None:
    """The mean of the best of 40 over five seeds: a single seed may be lucky."""
    found, chance = (
        [min(trial.values[0] for trial in searched(config(m, seed=seed), 40)) for seed in range(5)]
        for m in (method, SearchMethod.random)
    )
    assert sum(found) < sum(chance)


def test_what_is_better_may_be_more() -> None:
    search = config(SearchMethod.tpe, direction=Direction.maximize)
    trials: list[Trial] = []
    for _ in range(40):
        (one,) = ask(search, NUMBERS, {}, trials, 1)
        trials.append(done(one.number, one.settings, -loss(one.settings)))
    mirrored = searched(config(SearchMethod.tpe), 40)
    assert [trial.settings for trial in trials] == [trial.settings for trial in mirrored]


def test_trials_that_run_change_what_is_suggested() -> None:
    """Else eight at once would all try the same."""
    known = searched(config(SearchMethod.tpe), 12)
    batch = ask(config(SearchMethod.tpe), NUMBERS, {}, known, 8)
    assert len({tuple(one.settings.values()) for one in batch}) == 8
    alone = suggest(
        Question(search=config(SearchMethod.tpe), space=NUMBERS, beside={}, trials=known, number=batch[7].number)
    )
    assert alone.settings != batch[7].settings


def test_a_failed_trial_is_no_result() -> None:
    """CMA-ES asks for another one of the same generation."""
    search = config(SearchMethod.cmaes)
    (first,) = ask(search, NUMBERS, {}, [], 1)
    trials = [Trial(number=0, settings=first.settings, outcome=Outcome.failed, generation=first.generation)]
    while (one := ask(search, NUMBERS, {}, trials, 1)[0]).generation == 0:
        trials.append(done(one.number, one.settings, loss(one.settings), one.generation))
    assert sum(trial.outcome is Outcome.done for trial in trials) == 7  # its population for three numbers
    assert len(trials) == 8


def test_what_applies_only_sometimes_is_chosen_only_then() -> None:
    trials: list[Trial] = []
    for _ in range(40):
        (one,) = ask(config(SearchMethod.tpe), MIXED, {}, trials, 1)
        assert ("model.forget_bias" in one.settings) == (one.settings["model.cell"] == "lstm")
        trials.append(done(one.number, one.settings, one.settings.get("model.forget_bias", 3.0)))
    assert sum(trial.settings["model.cell"] == "lstm" for trial in trials[20:]) > 10, "it is better, and is learnt"


def test_several_figures_at_once() -> None:
    search = config(SearchMethod.tpe, objective=["valid_loss", "seconds"])
    trials: list[Trial] = []
    for _ in range(15):
        (one,) = ask(search, NUMBERS, {}, trials, 1)
        values = (loss(one.settings), float(one.settings["model.hidden_size"]))
        trials.append(Trial(number=one.number, settings=one.settings, outcome=Outcome.done, values=values))
    assert len({tuple(trial.settings.values()) for trial in trials}) == 15


def test_a_constraint_keeps_trials_where_it_holds() -> None:
    search = config(SearchMethod.tpe, constraints={"seconds": 100.0})
    trials: list[Trial] = []
    for _ in range(40):
        (one,) = ask(search, NUMBERS, {}, trials, 1)
        units = float(one.settings["model.hidden_size"])
        trials.append(
            Trial(
                number=one.number,
                settings=one.settings,
                outcome=Outcome.done,
                values=(-units,),  # ever more units would be better
                constraints=(units - 100.0,),
            )
        )
    late = [trial.settings["model.hidden_size"] for trial in trials[15:]]
    assert sum(units <= 100 for units in late) > len(late) / 2


def test_a_trial_that_halving_has_stopped_is_known_as_what_it_is() -> None:
    search = config(SearchMethod.tpe)
    known = searched(search, 12)
    ended = [
        Trial(number=t.number, settings=t.settings, outcome=Outcome.stopped, values=t.values, step=10 * t.number)
        for t in known[:6]
    ]
    assert ask(search, NUMBERS, {}, [*ended, *known[6:]], 1)


def test_as_many_as_the_file_says() -> None:
    waiting, running = (
        Trial(number=i, settings={}, outcome=outcome) for i, outcome in enumerate((Outcome.waiting, Outcome.running))
    )
    ended = done(2, {}, 1.0)
    assert due(config(SearchMethod.random, trials=10, parallel=4), [waiting, running, ended]) == 2
    assert due(config(SearchMethod.random, trials=4, parallel=4), [waiting, running, ended]) == 1
    assert due(config(SearchMethod.random, trials=3), [waiting, running, ended]) == 0


def test_without_a_number_one_always_waits_for_a_device() -> None:
    search = SearchConfig(method=SearchMethod.random, trials=10)
    waiting, running = (
        Trial(number=i, settings={}, outcome=outcome) for i, outcome in enumerate((Outcome.waiting, Outcome.running))
    )
    assert due(search, []) == 1
    assert due(search, [waiting]) == 0
    assert due(search, [running]) == 1


def test_a_search_of_which_all_fail_is_hopeless() -> None:
    failed = [Trial(number=i, settings={}, outcome=Outcome.failed) for i in range(HOPELESS)]
    assert is_hopeless(failed)
    assert not is_hopeless(failed[1:])
    assert not is_hopeless([*failed, done(HOPELESS, {}, 1.0)])


@given(
    low=st.integers(1, 50),
    width=st.integers(1, 500),
    log=st.booleans(),
    whole=st.booleans(),
    method=st.sampled_from(QUICK),
    number=st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_what_is_suggested_lies_in_its_range(
    low: int, width: int, log: bool, whole: bool, method: SearchMethod, number: int
) -> None:
    kind = ("log_" if log else "") + ("integer" if whole else "uniform")
    space = read({"a": {kind: [low, low + width]}, "b": {kind: [low, low + width]}})
    trials = [done(i, {"a": low + i % (width + 1), "b": low}, float(i)) for i in range(min(number, 12))]
    one = suggest(Question(search=config(method), space=space, beside={}, trials=trials, number=number))
    assert all(each.holds(one.settings[each.key]) for each in space)
