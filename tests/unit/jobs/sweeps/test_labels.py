"""Short names of what tells runs apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from terry.jobs.sweeps.labels import labels


def run(cell: str, name: str, lr: float, seed: int = 1) -> dict[str, object]:
    return {"model": {"cell": cell}, "optimizer": {"name": name, "lr": lr, "anneal": None}, "training": {"seed": seed}}


VARIED = ["model.cell", "optimizer.name", "optimizer.lr", "optimizer.anneal.minimum", "training.seed"]


def test_what_goes_with_another_setting_is_left_out() -> None:
    runs = [run(cell, name, lr) for cell in ("rnn", "gru") for name, lr in (("sgd", 0.05), ("adam", 0.001))]
    assert labels(runs, VARIED) == [
        {"cell": "rnn", "optimizer": "sgd"},
        {"cell": "rnn", "optimizer": "adam"},
        {"cell": "gru", "optimizer": "sgd"},
        {"cell": "gru", "optimizer": "adam"},
    ]


def test_what_tells_runs_apart_stays() -> None:
    assert labels([run("gru", "sgd", 0.05), run("gru", "sgd", 1e-5)], VARIED) == [{"lr": "0.05"}, {"lr": "1e-05"}]


def test_names_that_would_be_the_same_are_written_out() -> None:
    runs = [{"a": {"size": i}, "b": {"size": j}} for i in (1, 2) for j in (1, 2)]
    assert labels(runs, ["a.size", "b.size"])[1] == {"a.size": "1", "b.size": "2"}


def test_a_single_run_needs_none() -> None:
    assert labels([run("gru", "sgd", 0.1)], VARIED) == [{}]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, unique=True))
def test_labels_tell_all_runs_apart(rows: list[tuple[int, int, bool]]) -> None:
    runs = [{"a": {"x": x, "y": y}, "z": z} for x, y, z in rows]
    found = labels(runs, ["a.x", "a.y", "z"])
    assert len({tuple(label.items()) for label in found}) == len(rows)
