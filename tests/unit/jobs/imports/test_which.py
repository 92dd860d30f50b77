"""Files of other tools as their manuals show them, through the sweep file to the argument lists of the runs."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terry.cluster.errors import UserError
from terry.jobs.imports.brought import Brought
from terry.jobs.imports.which import read
from tests.helpers.sweep_files import planned


def brought(text: str, name: str = "theirs") -> Brought:
    return read(Path(name), text)


def commands(tmp_path: Path, found: Brought) -> list[tuple[str, ...]]:
    """Through the text, as a person would do it."""
    return [job.command for job in planned(tmp_path, found.text()).jobs]


WANDB_GRID = """
program: train.py
name: lm sweep
method: grid
metric: {name: val_loss, goal: minimize}
parameters:
  learning_rate: {values: [1e-3, 0.01]}
  optimizer: {values: [adam, sgd]}
  nesterov: {value: true}
early_terminate: {type: hyperband, min_iter: 3}
"""


def test_a_wandb_grid_runs_what_its_agent_would_run(tmp_path: Path) -> None:
    found = brought(WANDB_GRID)
    assert commands(tmp_path, found) == [
        ("python", "train.py", f"--learning_rate={lr}", f"--optimizer={optimizer}", "--nesterov=True")
        for lr in ("1e-3", "0.01")
        for optimizer in ("adam", "sgd")
    ]
    assert [note.partition(":")[0] for note in found.left_out] == ["metric", "early_terminate"]


WANDB_RANDOM = """
method: bayes
run_cap: 7
command: ["${env}", "${interpreter}", "${program}", "--data=wiki", "${args_no_hyphens}"]
program: main.py
parameters:
  lr: {distribution: log_uniform_values, min: 1e-5, max: 1e-1}
  hidden: {min: 16, max: 64}
  dropout: {min: 0.0, max: 0.5}
  cell: {values: [gru, lstm], probabilities: [0.1, 0.9]}
  noise: {distribution: normal, mu: 0, sigma: 1}
"""


def test_a_wandb_search_is_drawn_and_what_cannot_be_is_named(tmp_path: Path) -> None:
    found = brought(WANDB_RANDOM)
    all_of_them = commands(tmp_path, found)
    assert len(all_of_them) == 7
    for program, script, data, *rest in all_of_them:
        assert (program, script, data) == ("python", "main.py", "--data=wiki")
        values = dict(word.split("=") for word in rest)
        assert list(values) == ["lr", "hidden", "dropout", "cell"]
        assert 1e-5 <= float(values["lr"]) <= 1e-1
        assert 16 <= int(values["hidden"]) <= 64
    told = "\n".join(found.left_out)
    for what in ("bayes", "cell.probabilities", "parameters.noise: normal"):
        assert what in told


def test_macros_of_a_wandb_command(tmp_path: Path) -> None:
    text = """
program: a.py
method: grid
command: ["${env}", python3, "${program}", "${args_no_boolean_flags}", "${envvar:HOME}"]
parameters: {fast: {value: true}, slow: {value: false}, n: {values: [1, 2]}, flip: {values: [true, false]}}
"""
    found = brought(text)
    assert found.command == ["python3", "a.py", "--fast", "--n=${parameters.n}", "${envvar:HOME}"]
    assert any("${envvar:HOME}" in note for note in found.left_out)
    assert any("parameters.flip" in note for note in found.left_out)


def test_a_hydra_multirun_passes_each_override_to_the_letter(tmp_path: Path) -> None:
    line = "python train.py --multirun optim.lr=1e-3,0.01 model=gru,lstm +seed='range(1,3)' db.name=x"
    found = brought(f"#!/bin/sh\ncd here\n{line} \\\n  hydra/launcher=joblib\n")
    assert commands(tmp_path, found) == [
        ("python", "train.py", f"optim.lr={lr}", f"model={m}", f"+seed={s}", "db.name=x", "hydra.run.dir=${run_dir}")
        for lr in ("1e-3", "0.01")
        for m in ("gru", "lstm")
        for s in ("1", "2")
    ]
    assert found.left_out == ["hydra/launcher=joblib: what launches and chooses runs is Terry"]


def test_what_hydra_does_not_split_stays_whole(tmp_path: Path) -> None:
    found = brought("python a.py -m 'sizes=[1,2],[3]' 'd={a:1,b:2}' \"s='x,y'\" 'lr=interval(0.1,1)' 'k=choice(a,b)'")
    assert found.grid == {"sizes": ["[1,2]", "[3]"], "k": ["a", "b"]}
    assert found.draws == {"lr": {"uniform": [0.1, 1.0]}}
    assert "d={a:1,b:2}" in found.command
    assert "s='x,y'" in found.command
    assert len(commands(tmp_path, found)) == 40


SLURM = """#!/bin/bash -l
#SBATCH --job-name=tune
#SBATCH --array=0-4:2,7%2
#SBATCH --time=1-02:00:00
#SBATCH -c 4
#SBATCH --gres=gpu:1      # one is enough
#SBATCH --partition=long
#SBATCH --mem=16G
LRS=(0.1 0.01)
srun python train.py --task $SLURM_ARRAY_TASK_ID
"""


def test_a_slurm_array_is_a_run_for_each_task(tmp_path: Path) -> None:
    found = read(Path("lab/tune.sbatch"), SLURM)
    given = "SLURM_ARRAY_TASK_COUNT=4", "SLURM_ARRAY_TASK_MIN=0", "SLURM_ARRAY_TASK_MAX=7"
    assert commands(tmp_path, found) == [
        ("env", f"SLURM_ARRAY_TASK_ID={task}", *given, "/bin/bash", "-l", "tune.sbatch") for task in (0, 2, 4, 7)
    ]
    assert found.run == {"resources": {"gpus": 1}, "threads": 4, "time_limit": 93600}
    for what in ("%2", "srun", "partition", "mem"):
        assert any(note.startswith(what) for note in found.left_out), what


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("90", 5400), ("2:30", 150), ("1:00:00", 3600), ("2-0", 172800), ("1-1:30", 91800), ("x", None)],
)
def test_time_limits_as_sbatch_has_them(time: str, seconds: int | None) -> None:
    found = brought(f"#!/bin/sh\n#SBATCH -t {time}\ntrue\n")
    assert found.run.get("time_limit") == seconds
    assert found.command == ["/bin/sh", "theirs"]


DETERMINED = """
name: mnist
entrypoint: python3 train.py --quick
hyperparameters:
  batch: 64
  optim: {lr: {type: log, base: 10, minval: -4, maxval: -2, count: 3}, kind: {type: categorical, vals: [adam, sgd]}}
  layers: {type: int, minval: 1, maxval: 2}
searcher: {name: grid, metric: loss, max_length: {batches: 100}}
resources: {slots_per_trial: 2, resource_pool: big}
max_restarts: 3
environment: {environment_variables: [A=1], image: theirs}
"""


def test_an_experiment_of_determined(tmp_path: Path) -> None:
    found = brought(DETERMINED)
    jobs = planned(tmp_path, found.text()).plan.lines
    parameters = [line.config["parameters"] for line in jobs]
    assert [(p["optim"]["lr"], p["optim"]["kind"], p["layers"], p["batch"]) for p in parameters] == [
        (lr, kind, layers, 64) for lr in (1e-4, 1e-3, 1e-2) for kind in ("adam", "sgd") for layers in (1, 2)
    ]
    assert jobs[0].config["command"] == ["python3", "train.py", "--quick"]
    assert jobs[0].job.retry.crash == 3
    assert jobs[0].config["environment"] == {"A": "1"}
    for what in ("slots_per_trial: 2", "resource_pool", "environment.image", "searcher.max_length"):
        assert any(what in note for note in found.left_out), what


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "none of the files"),
        ("a: [", "line|YAML"),
        ("method: grid\nparameters: {a: {value: 1}}\n", "neither `program:` nor `command:`"),
        ("program: a\nmethod: best\nparameters: {}\n", "none of grid, random, bayes"),
        ("entrypoint: model_def:Trial\nsearcher: {name: grid}\nhyperparameters: {}\n", "must be a command"),
        ("#!/bin/sh\n#SBATCH --array=9-1\n", "--array=9-1: must be"),
        ("python a.py -m x='glob(*)'\n", r"glob\(...\) cannot be carried over"),
        ("python a.py -m x='range(0,1,0)'\n", "too many values"),
        ("name: mine\nrun: {}\n", "none of the files"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        brought(text)


_VALUES = st.one_of(
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(string.printable.replace("\x0b", "").replace("\x0c", "").replace("\r", ""), min_size=1, max_size=12),
    st.booleans(),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(_VALUES, min_size=1, max_size=4, unique_by=str))
def test_any_value_stands_in_the_sweep_file_as_it_stood_there(values: list[Any]) -> None:
    document = {"program": "a.py", "method": "grid", "parameters": {"x": {"values": values}}}
    found = brought(json.dumps(document) if all(isinstance(v, str) for v in values) else yaml.safe_dump(document))
    written = yaml.safe_load(found.text())["sweep"]["grid"]["parameters.x"]
    assert written == [str(value) if isinstance(value, bool) else value for value in values]
