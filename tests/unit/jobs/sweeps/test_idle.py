"""Settings that do nothing: refused where no run reads them, told where only some do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from terry.cluster.errors import UserError
from terry.data_prep.idle import applies, idle_settings
from terry.jobs.sweeps.spec import RunConfig
from terry.jobs.sweeps.sweep import Sweep, load
from terry.models.config import Init, ModelConfig, OptimizerConfig, Schedule


def swept(tmp_path: Path, run: dict[str, Any], sweep: dict[str, Any] | None = None, **dataset: Any) -> Sweep:
    (tmp_path / "a.csv").write_text("body\nSome words.\n")
    whole = {
        "name": "idle",
        "datasets": {"words": {"source": "a.csv", **dataset}},
        "run": run,
        **({"sweep": sweep} if sweep else {}),
    }
    path = tmp_path / "idle.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return load(path)


@pytest.mark.parametrize(
    ("run", "key", "needs"),
    [
        ({"optimizer": {"divide_after": 6}}, "run.optimizer.divide_after", "optimizer.schedule: divide"),
        ({"optimizer": {"divide_by": 3}}, "run.optimizer.divide_by", "optimizer.schedule: divide"),
        ({"optimizer": {"name": "sgd", "betas": [0.5, 0.9]}}, "run.optimizer.betas", "adam or adamw"),
        ({"optimizer": {"average_after": 3}}, "run.optimizer.average_after", "optimizer.name: asgd"),
        ({"optimizer": {"alpha": 0.5}}, "run.optimizer.alpha", "optimizer.name: rmsprop"),
        ({"model": {"forget_bias": 1}}, "run.model.forget_bias", "model.cell: lstm"),
        ({"model": {"cell": "gru", "nonlinearity": "relu"}}, "run.model.nonlinearity", "model.cell: rnn"),
        ({"model": {"init_range": 0.05}}, "run.model.init_range", "model.init: uniform"),
        ({"model": {"input": "onehot", "embedding_size": 64}}, "run.model.embedding_size", "model.input: embedding"),
        ({"model": {"dropout_between": 0.5}}, "run.model.dropout_between", "model.layers of 2 or more"),
        ({"model": {"variational": True}}, "run.model.variational", "a dropout above 0"),
        ({"training": {"rollback": {"factor": 0.1}}}, "run.training.rollback", "training.on_nan: rollback"),
        ({"data": {"batches": "examples", "bptt": 20}}, "run.data.bptt", "data.batches: stream"),
    ],
)
def test_a_setting_that_no_run_reads_is_refused_by_its_line(
    tmp_path: Path, run: dict[str, Any], key: str, needs: str
) -> None:
    with pytest.raises(UserError, match=f"idle.yaml:[0-9]+: {key}: does nothing here: it needs .*{needs}"):
        swept(tmp_path, run)


def test_a_setting_that_no_value_of_the_grid_reads_is_refused_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.forget_bias: does nothing here"):
        swept(tmp_path, {}, {"grid": {"model.forget_bias": [0, 1]}})


def test_a_grid_may_share_a_setting_over_several_cells_and_is_told(tmp_path: Path) -> None:
    sweep = swept(tmp_path, {"model": {"forget_bias": 1.0}}, {"grid": {"model.cell": ["gru", "lstm", "rnn"]}})
    assert sweep.notices == ["model.forget_bias does nothing in 2 of 3 runs: it needs model.cell: lstm"]
    assert [run.typed.model.forget_bias for run in sweep.runs] == [1.0] * 3
    read = swept(tmp_path, {"model": {"forget_bias": 1.0, "cell": "lstm"}}, {"grid": {"training.seed": [1, 2]}})
    assert read.notices == []


def test_what_the_command_line_makes_idle_is_told(tmp_path: Path) -> None:
    swept(tmp_path, {"data": {"bptt": 20}})
    notices = load(tmp_path / "idle.yaml", ["data.batches=examples"]).notices
    assert notices == ["data.bptt does nothing in 1 of 1 runs: it needs data.batches: stream"]


def test_patience_without_validation_is_told(tmp_path: Path) -> None:
    run = {"training": {"patience": 2}}
    told = swept(tmp_path, run, split={"train": 1, "valid": 0, "test": 0}).notices
    assert told == ["training.patience will look at the training loss: the data set 'words' has no valid split"]
    assert swept(tmp_path, run).notices == []


def test_nothing_is_said_of_somebodys_own_code(tmp_path: Path) -> None:
    (tmp_path / "lab.py").write_text("def main(ctx):\n    pass\n")
    own = {"entrypoint": "lab:main", "parameters": {"x": 1}, "model": {"forget_bias": 1}}
    assert swept(tmp_path, own).notices == []


def test_defaults_are_never_idle_and_every_rule_can_be_asked() -> None:
    assert list(idle_settings(RunConfig())) == []
    assert applies(RunConfig(model=ModelConfig(init=Init.uniform)), ("model", "init_range"))
    assert not applies(RunConfig(), ("optimizer", "divide_by"))
    assert applies(RunConfig(optimizer=OptimizerConfig(schedule=Schedule.divide)), ("optimizer", "divide_by"))
    assert not applies(RunConfig(), ("optimizer", "anneal", "factor"))
