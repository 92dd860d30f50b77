"""`sweep.search` in the file: what is refused, with the line of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from terry.cluster.errors import UserError
from tests.helpers.sweep_files import BASE, planned

RANDOM = """\
sweep:
  random:
    distributions:
      optimizer.lr: {log_uniform: [1e-4, 1e-1]}
      model.hidden_size: {integer: [8, 64]}
"""


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("  search: {method: bayes}\n", "unknown value 'bayes'; did you mean"),
        ("  search: {trials: 0}\n", "trials must be at least 1, not 0"),
        ("  search: {trails: 5}\n", "trials"),
        ("  search: {method: cmaes, objective: [valid_loss, seconds]}\n", "tpe and gp take several"),
        ("  search: {method: qmc, constraints: {seconds: 5}}\n", "constraints do nothing with method qmc"),
        ("  search: {method: random, warm_up: 5}\n", "warm_up does nothing with method random"),
        ("  search: {objective: [valid_loss, valid_loss]}\n", "several different ones"),
        ("  search: {objective: [valid_loss, seconds], direction: [minimize]}\n", "one for each of the 2 objectives"),
        ("  search: {}\n  exclude: [{model.hidden_size: 9}]\n", "exclude does not go with `search:`"),
        ("  search: {}\nseeds: 3\n", "does not go with `seeds:`"),
        ("  search: {}\nensembles: {all: {}}\n", "does not go with `ensembles:`"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_is_refused(tmp_path: Path, more: str, says: str) -> None:
    with pytest.raises(UserError, match=r"sweep.yaml:\d+: ") as refused:
        planned(tmp_path, BASE + RANDOM + more)
    assert says in str(refused.value)


@pytest.mark.parametrize("said", ["count: 20", "seed: 5"])
def test_what_random_says_for_itself_is_refused_beside_it(tmp_path: Path, said: str) -> None:
    text = BASE + RANDOM.replace("  random:\n", f"  random:\n    {said}\n") + "  search: {}\n"
    with pytest.raises(UserError, match=f"{said.split(':')[0]}: does nothing beside `search:`"):
        planned(tmp_path, text)


def test_without_distributions_there_is_nothing_to_search(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="search needs distributions"):
        planned(tmp_path, BASE + "sweep:\n  grid: {model.cell: [gru]}\n  search: {}\n")


def test_cmaes_searches_numbers_only(tmp_path: Path) -> None:
    text = BASE + RANDOM + "      model.cell: {choice: [gru, lstm]}\n  search: {method: cmaes}\n"
    with pytest.raises(UserError, match=r"cmaes searches plain numbers, and model\.cell is a choice"):
        planned(tmp_path, text)


def test_an_end_of_a_range_that_is_impossible_is_refused_at_once(tmp_path: Path) -> None:
    """Not by the trial that comes to it, in the night."""
    text = BASE + RANDOM + "      model.dropout: {uniform: [0, 1.5]}\n  search: {}\n"
    with pytest.raises(UserError, match=r"sweep.yaml:\d+: .*dropout"):
        planned(tmp_path, text)


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("{model.cel: lstm}", "unknown key; did you mean 'model.cell'?"),
        ("{model.cell: rnn}", "model.cell is never 'rnn' here"),
        ("{model.layers: 2}", "looks at 'model.layers'"),
    ],
)
def test_a_condition_that_never_holds_is_refused(tmp_path: Path, when: str, says: str) -> None:
    text = (
        BASE
        + RANDOM.replace("distributions:\n", "distributions:\n      model.cell: {choice: [gru, lstm]}\n")
        + f"      model.dropout: {{uniform: [0, 0.5], when: {when}}}\n"
    )
    with pytest.raises(UserError, match=r"sweep.yaml:\d+: ") as refused:
        planned(tmp_path, text)
    assert says in str(refused.value)


def test_a_condition_holds_for_points_at_random_too(tmp_path: Path) -> None:
    text = (
        BASE
        + RANDOM.replace("  random:\n", "  random:\n    count: 30\n").replace(
            "distributions:\n", "distributions:\n      model.cell: {choice: [gru, lstm]}\n"
        )
        + "      model.dropout: {uniform: [0.1, 0.5], when: {model.cell: lstm}}\n"
    )
    runs = planned(tmp_path, text).asked.expanded.runs
    assert len(runs) == 30
    assert all((run.config["model"]["dropout"] > 0) == (run.config["model"]["cell"] == "lstm") for run in runs)


def test_a_condition_may_look_at_the_grid(tmp_path: Path) -> None:
    text = BASE + RANDOM.replace("  random:\n", "  grid: {model.cell: [gru, lstm]}\n  random:\n    count: 5\n")
    text += "      model.dropout: {uniform: [0.1, 0.5], when: {model.cell: [lstm]}}\n"
    runs = planned(tmp_path, text).asked.expanded.runs
    assert [run.config["model"]["dropout"] > 0 for run in runs] == [False] * 5 + [True] * 5


def test_the_first_trials_are_planned_and_the_search_is_told(tmp_path: Path) -> None:
    found = planned(tmp_path, BASE + RANDOM + "  search: {trials: 40, parallel: 4}\n")
    assert len([job for job in found.jobs if job.kind == "train"]) == 4
    assert any("40 trials by tpe" in notice for notice in found.notices)
