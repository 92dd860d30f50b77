"""`check`: which configurations of a sweep cannot learn, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cluster.conftest import Terry

SWEEP = """\
name: a
datasets:
  comments: {source: comments.csv, column: body}
run:
  model: {cell: gru, hidden_size: 24, embedding_size: 12}
sweep:
  grid: {optimizer: [{name: adam, lr: 0.01}, {name: adam, lr: 1e-12}, {name: sgd, lr: 1e30}], training.seed: [1, 2]}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    (tmp_path / "comments.csv").write_text("id,body\n1,Call me Ishmael.\n")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return "sweep.yaml"


def test_each_model_and_optimizer_is_tried_once_and_what_cannot_learn_says_why(terry: Terry, sweep: str) -> None:
    said = terry("check", sweep, "--seconds", "5")
    assert said.code == 1, said.err
    good, slow, wild = said.out.splitlines()  # seeds make no other configuration
    assert good.startswith("ok ")
    assert slow.startswith("BAD")
    assert "lr=1e-12" in slow
    assert "nothing moves; a higher rate than 1e-12" in slow
    assert wild.startswith("BAD")
    assert "a lower rate than 1e+30 may help" in wild


def test_in_json_and_with_a_setting_for_all(terry: Terry, sweep: str) -> None:
    said = terry("--json", "check", sweep, "optimizer.lr=0.01", "optimizer.name=adam")
    assert (said.code, [(one["ok"], one["verdict"]) for one in said.json]) == (0, [(True, "learned")])


def test_a_cell_that_is_none_is_named(terry: Terry, sweep: str) -> None:
    said = terry("check", sweep, "model.cell=torch.nn:Linear")
    assert said.code == 2
    assert said.err.startswith("error: model.cell: torch.nn:Linear must be made as Class(inputs, units)")
