"""Runs that differ in their seed alone, as one; and the ranking that says what it does not know."""

from __future__ import annotations

import math

from terry.cluster.core.model import JobState
from terry.logs.records.results import ResultRow
from terry.logs.statistics.seeds import by_configuration, figure_of, rank
from terry.logs.text.seeds import difference_lines, ranking_lines


def row(number: int, labels: dict[str, str], sweep: str = "cells", **figures: object) -> ResultRow:
    return ResultRow(
        id=f"{sweep}-{number:04d}",
        sweep=sweep,
        state=JobState.COMPLETED,
        labels=labels,
        figures=dict(figures),
        device=None,
        attempts=1,
        restarts=0,
    )


def grid(losses: dict[str, list[float]]) -> list[ResultRow]:
    pairs = [(cell, seed, loss) for cell, all_of in losses.items() for seed, loss in enumerate(all_of)]
    return [row(i, {"cell": c, "seed": str(s)}, valid_loss=loss) for i, (c, s, loss) in enumerate(pairs)]


def test_groups_are_what_differs_in_the_seed_alone() -> None:
    rows = [row(1, {"cell": "gru", "training.seed": "1"}), row(2, {"cell": "gru", "training.seed": "2"})]
    rows += [row(3, {"cell": "lstm", "training.seed": "1"}), row(1, {"cell": "gru"}, sweep="other")]
    found = by_configuration(rows)
    assert [(c.sweep, c.name, len(c.runs)) for c in found] == [
        ("cells", "cell=gru", 2),
        ("cells", "cell=lstm", 1),
        ("other", "cell=gru", 1),
    ]


def test_the_best_mean_is_first_and_ties_are_marked() -> None:
    """One seed of gru is the best of all; its mean is not, and lstm beside it cannot be told apart."""
    rows = grid({"gru": [4.00, 4.60, 4.50], "lstm": [4.30, 4.35, 4.25], "rnn": [6.0, 6.1, 5.9]})
    ranked = rank(by_configuration(rows), "valid_loss")
    assert [r.configuration.name for r in ranked] == ["cell=lstm", "cell=gru", "cell=rnn"]
    assert [r.may_be_first for r in ranked] == [True, True, False]
    text = "\n".join(ranking_lines(ranked, "valid_loss"))
    assert "1=     lstm" in text
    assert "cannot be told apart from the first" in text
    assert "2 comparisons were made" in text


def test_a_run_that_diverged_is_told_and_never_the_best() -> None:
    rows = grid({"gru": [4.0, math.nan, 4.2], "rnn": [math.nan, math.nan, math.nan]})
    ranked = rank(by_configuration(rows), "valid_loss")
    assert [r.summary.mean for r in ranked] == [4.1, None]
    text = "\n".join(ranking_lines(ranked, "valid_loss"))
    assert "2 of 3" in text
    assert "4 runs without a finite value" in text


def test_a_huge_integer_breaks_no_table() -> None:
    rows = [row(1, {"seed": "1"}, loss=10**400), row(2, {"seed": "2"}, loss=4.0)]
    ranked = rank(by_configuration(rows), figure_of(rows) or "")
    assert (ranked[0].summary.n, ranked[0].summary.lost) == (1, 1)


def test_a_repeated_run_is_told_in_words() -> None:
    ranked = rank(by_configuration(grid({"gru": [4.0, 4.0, 4.0], "rnn": [5.0, 5.0, 5.0]})), "valid_loss")
    assert all(r.may_be_first for r in ranked)
    lines = difference_lines([r.beside_first for r in ranked if r.beside_first], "valid_loss")
    assert any("each seed differs by exactly as much" in line for line in lines)


def test_the_table_fits_eighty_columns() -> None:
    rows = grid({"gru": [4.00, 4.60, 4.50], "lstm": [4.30, 4.35, 4.25]})
    lines = ranking_lines(rank(by_configuration(rows), "valid_loss"), "valid_loss", width=80)
    assert all(len(line) <= 80 for line in lines[:3])
    assert "95% INTERVAL" in lines[0]
