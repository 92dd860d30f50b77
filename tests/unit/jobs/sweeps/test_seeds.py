"""`seeds:` at the top of a sweep file."""

from __future__ import annotations

from pathlib import Path

import pytest

from terry.cluster.errors import UserError
from terry.jobs.submitting.submission import publish
from terry.jobs.sweeps import sweep
from tests.helpers.sweep_files import BASE, planned, sweep_file, workspace

OWN = "name: demo\nrun: {command: [python, train.py], parameters: {lr: 0.1}}\n"
GRID = "sweep: {grid: {model.cell: [gru, lstm]}}\n"


def seeds_of(tmp_path: Path, text: str, *overrides: str) -> list[tuple[str, int]]:
    runs = sweep.load(sweep_file(tmp_path, text), overrides).runs
    return [(run.config["model"]["cell"], run.config["training"]["seed"]) for run in runs]


def test_each_configuration_runs_with_each_seed(tmp_path: Path) -> None:
    expected = [("gru", 1), ("gru", 2), ("gru", 3), ("lstm", 1), ("lstm", 2), ("lstm", 3)]
    assert seeds_of(tmp_path, BASE + "seeds: 3\n" + GRID) == expected
    assert seeds_of(tmp_path, BASE + "seeds: [7, 0]\n") == [("gru", 7), ("gru", 0)]
    assert seeds_of(tmp_path, BASE + "seeds: 3\n", "seeds=[5]") == [("gru", 5)]


def test_a_whole_section_that_varies_takes_the_seed(tmp_path: Path) -> None:
    text = BASE + "seeds: 2\nsweep: {grid: {training: [{epochs: 3}, {epochs: 4}]}}\n"
    runs = sweep.load(sweep_file(tmp_path, text)).runs
    assert [(r.config["training"]["epochs"], r.config["training"]["seed"]) for r in runs] == [
        (3, 1), (3, 2), (4, 1), (4, 2),
    ]  # fmt: skip


def test_code_and_programs_of_ones_own_find_it_among_their_parameters(tmp_path: Path) -> None:
    runs = sweep.load(sweep_file(tmp_path, OWN + "seeds: 2\n")).runs
    assert [run.config["parameters"] for run in runs] == [{"lr": 0.1, "seed": 1}, {"lr": 0.1, "seed": 2}]
    varied = "name: demo\nseeds: 2\nsweep: {grid: {command: [[true], [false]]}}\n"
    assert [r.config["parameters"]["seed"] for r in sweep.load(sweep_file(tmp_path, varied)).runs] == [1, 2, 1, 2]


def test_a_larger_number_adds_the_new_ones_alone_and_the_label_is_there_from_the_first(tmp_path: Path) -> None:
    first = planned(tmp_path, BASE + "seeds: 1\n" + GRID)
    assert [job.labels for job in first.jobs if job.kind == "train"] == [
        {"cell": "gru", "seed": "1"}, {"cell": "lstm", "seed": "1"},
    ]  # fmt: skip
    publish(workspace(tmp_path), first)
    later = planned(tmp_path, BASE + "seeds: 3\n" + GRID)
    assert [(job.labels["seed"], job.new) for job in later.jobs if job.kind == "train"] == [
        ("1", False), ("2", True), ("3", True), ("1", False), ("2", True), ("3", True),
    ]  # fmt: skip
    assert later.notices[0] == "seeds: 2 configurations, each with training.seed 1 to 3"


def test_what_is_judged_together_leaves_the_identity_as_it_is(tmp_path: Path) -> None:
    text = BASE + "seeds: 2\nsweep: {halving: {after: 2}}\n"
    two, three = (sweep.load(sweep_file(tmp_path, text), [f"seeds={n}"]).runs for n in (2, 3))
    assert [run.identity for run in two] == [run.identity for run in three][:2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: 0\n", "sweep.yaml:7: seeds: must say how many (1 to 10,000), as in `seeds: 5`, or which"),
        ("seeds: many\n", "as in `seeds: [1, 2, 3]`, not 'many'"),
        ("seeds: true\n", "not"),
        ("seeds: 2.5\n", "must say how many"),
        ("seeds: {count: 3}\n", "must say how many"),
        ("seeds: []\n", "an empty list means no runs at all"),
        ("seeds: [1, 2, 1]\n", "sweep.yaml:7: seeds[2]: 1 stands twice"),
        ("seeds: [1, -2]\n", "must be a whole number from 0"),
        ("seeds: [1, x]\n", "must be a whole number"),
        ("seeds: ${run.training.epochs}\n", "must say how many"),
        ("seeds: 2\nsweep: {grid: {training.seed: [1, 2]}}\n", "'training.seed' is varied here, and by `seeds:`"),
        ("seeds: 2\nsweep:\n  list:\n  - training: {seed: 4}\n", "'training.seed' is varied here, and by `seeds:`"),
        ("seeds: 2\nsweep: {random: {distributions: {training.seed: {integer: [1, 9]}}}}\n", "is varied here, and"),
        ("  training: {seed: 3}\nseeds: 2\n", "sweep.yaml:7: run.training.seed: does nothing here: `seeds:`"),
        ("  seeds: 5\n", "belongs at the top of the file, beside `run:`"),
        ("sweep: {seeds: 5}\n", "did you mean 'seeds'"),
        ("repeats: 5\n", "did you mean 'seeds'"),
        (
            "seeds: 10000\nsweep: {random: {count: 100, distributions: {optimizer.lr: {uniform: [0, 1]}}}}\n",
            "1,000,000",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        sweep.load(sweep_file(tmp_path, BASE + text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed=4", "training.seed=4: `seeds:` of the file sets it; write seeds=[4] instead"),
        ("seeds=none", "seeds=none: must say how many"),
        ("sweep.grid.training.seed=[1]", "seed=[1]: 'training.seed' is varied here, and by `seeds:`"),
    ],
)
def test_mistakes_of_the_command_line_are_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        sweep.load(sweep_file(tmp_path, BASE + "seeds: 2\n"), [override])
    assert message in str(caught.value)
