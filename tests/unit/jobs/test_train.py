"""Training jobs in processes of their own: whatever kills them, they end with the same weights."""

from __future__ import annotations

import json
import math
import random
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch._dynamo  # as in a forkserver: each process would otherwise import it

from terry.cluster.agent.evidence import ErrorReport
from terry.cluster.core.model import EndReason
from terry.jobs.process.checkpoints import checkpoints
from terry.jobs.process.progress import Rate
from terry.jobs.submitting.submission import publish
from terry.logs.records.metrics import read_series
from tests.helpers.job_processes import Attempt, orders, start
from tests.helpers.sweep_files import planned, workspace

TEXT = """\
name: demo
datasets:
  small: {source: comments.csv, column: body, split: {train: 0.8, valid: 0.2, test: 0}}
run:
  data: {batch_size: 4, bptt: 7}
  model: {hidden_size: 16, embedding_size: 8, dropout: 0.2}
  training: {epochs: 4, log_every: 5}
  checkpoint: {every: 0.05}
  resources: {cpus: 1}
"""

WORDS = ["the", "whale", "swam", "away", "and", "nobody", "saw", "it", "again", "ship", "sea", "old", "captain"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def prepared(folder: Path, *overrides: str) -> dict[str, Any]:
    """The order of a training whose data set is prepared."""
    folder.mkdir(exist_ok=True)
    submission = planned(folder, TEXT, *overrides)
    choose = random.Random(1)
    rows = [" ".join(choose.choices(WORDS, k=9)) + "." for _ in range(120)]
    (folder / "comments.csv").write_text("id,body\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows)))
    publish(workspace(folder), submission)
    found = orders(workspace(folder), "demo")
    assert start(found["demo-prepare-small"]).wait() == 0
    return found["demo-0001"]


def result(attempt: Attempt) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(attempt.run.result.read_bytes())
    return found


def curve(attempt: Attempt) -> list[dict[str, Any]]:
    """The series without what depends on the clock."""
    rows = read_series(attempt.run)
    return [{k: v for k, v in row.items() if k not in {"time", "tokens_per_s", "utilisation"}} for row in rows]


def test_a_training_says_how_it_went(tmp_path: Path) -> None:
    attempt = start(prepared(tmp_path))
    assert attempt.wait() == 0, (attempt.folder / "stderr.log").read_text()
    found = result(attempt)
    assert found["reason"] == "completed"
    assert found["step"] == attempt.said[-1]["total_steps"] > 50
    assert found["train_loss"] < curve(attempt)[0]["loss"]
    assert found["perplexity"] == pytest.approx(math.exp(found["best_loss"]))
    assert found["valid_loss"] >= found["best_loss"] > 0
    assert (attempt.run.checkpoints / found["checkpoint"]).is_dir()
    assert (attempt.run.checkpoints / found["best_checkpoint"]).is_dir()
    assert len(found["model_sha256"]) == len(found["best_model_sha256"]) == 64
    assert found["tokens_per_s"] > 0
    steps = [row["step"] for row in curve(attempt)]
    assert steps == sorted(set(steps))
    assert sum("valid_loss" in row for row in curve(attempt)) == 4


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("settings", [("model.cell=gru",), ("model.cell=lstm", "data.batches=examples")])
def test_killed_at_random_steps_it_ends_with_the_same_weights(
    tmp_path: Path, number: int, settings: tuple[str, ...]
) -> None:
    undisturbed = start(prepared(tmp_path / "alone", *settings))
    assert undisturbed.wait() == 0, (undisturbed.folder / "stderr.log").read_text()
    order = prepared(tmp_path / "hurt", *settings)
    total = result(undisturbed)["step"]
    kills = sorted(random.Random(f"{number}{settings}").sample(range(1, total), 4))
    for i, step in enumerate(kills, 1):
        attempt = start(order, i)
        attempt.kill_at(step, number)
        assert attempt.wait() in ({75, 0} if number == signal.SIGTERM else {-number, 0})
    last = start(order, len(kills) + 1)
    assert last.wait() == 0, (last.folder / "stderr.log").read_text()
    for key in ("model_sha256", "best_model_sha256", "best_loss", "train_loss", "step"):
        assert result(last)[key] == result(undisturbed)[key], key
    assert curve(last) == curve(undisturbed)


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    order = prepared(tmp_path, "training.max_steps=20")
    attempt = start(order)
    assert attempt.wait() == 0
    prepare = workspace(tmp_path).run("demo-prepare-small").result
    saved = checkpoints(attempt.run.checkpoints)[-1] / "state.json"
    assert prepare.exists()
    state = json.loads(saved.read_bytes())
    assert set(state["made_of"]) == {"identity", "data"}
    line = (workspace(tmp_path).submission("demo", 1) / "jobs.jsonl").read_bytes()
    changed = line.replace(state["made_of"]["identity"].encode(), b"0" * 64)
    (workspace(tmp_path).submission("demo", 1) / "jobs.jsonl").write_bytes(changed)
    spec = attempt.run.spec.read_bytes()  # the folder is to be the new run's own; only the checkpoint is another's
    attempt.run.spec.write_bytes(spec.replace(state["made_of"]["identity"].encode(), b"0" * 64))
    attempt.run.result.unlink()
    again = start(order, 2)
    assert again.wait() == 1
    report = msgspec.json.decode((again.folder / "error.json").read_bytes(), type=ErrorReport)
    assert report.reason is EndReason.BAD_INPUT
    assert "is of another run or other data" in report.message


def test_a_loss_that_explodes_is_named(tmp_path: Path) -> None:
    attempt = start(prepared(tmp_path, "optimizer.name=sgd", "optimizer.lr=1e38"))
    assert attempt.wait() == 1
    report = msgspec.json.decode((attempt.folder / "error.json").read_bytes(), type=ErrorReport)
    assert report.reason is EndReason.NOT_FINITE


def test_too_little_text_is_bad_input(tmp_path: Path) -> None:
    attempt = start(prepared(tmp_path, "data.batch_size=5000"))
    assert attempt.wait() == 1
    report = msgspec.json.decode((attempt.folder / "error.json").read_bytes(), type=ErrorReport)
    assert report.reason is EndReason.BAD_INPUT
    assert "batch_size" in report.message


def test_a_gpu_that_is_not_there_is_a_launch_error(tmp_path: Path) -> None:
    attempt = start(prepared(tmp_path), gpu_uuid="GPU-00000000-0000-0000-0000-000000000000")
    assert attempt.wait() == 1
    report = msgspec.json.decode((attempt.folder / "error.json").read_bytes(), type=ErrorReport)
    assert report.reason is EndReason.LAUNCH_ERROR
    assert "GPU-00000000" in report.message


def test_rate_is_of_the_last_seconds() -> None:
    rate = Rate(every_s=1.0)
    assert rate.at(0, 0.0) is None
    assert rate.at(50, 0.5) is None
    assert rate.at(100, 1.0) == 100.0
    assert rate.at(400, 2.0) == 200.0


def test_a_finished_run_leaves_its_curve_and_tensorboard_reads_the_workspace(tmp_path: Path) -> None:
    """`loss_curve.png`, and `tensorboard --logdir RUNS` finds the run: nothing has to be exported."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    order = prepared(tmp_path, "training.epochs=1")
    attempt = start(order)
    assert attempt.wait() == 0
    assert attempt.run.loss_curve.read_bytes().startswith(b"\x89PNG")
    found = EventMultiplexer().AddRunsFromDirectory(str(workspace(tmp_path).runs)).Reload()
    assert list(found.Runs()) == ["demo-0001/tb"]
    measured = [row["step"] for row in read_series(attempt.run) if "loss" in row]
    assert [scalar.step for scalar in found.Scalars("demo-0001/tb", "loss")] == measured


def test_a_curve_that_cannot_be_drawn_fails_no_run(tmp_path: Path) -> None:
    """It is done; the rest is a warning."""
    order = prepared(tmp_path, "training.epochs=1")
    run = workspace(tmp_path).run("demo-0001")
    run.loss_curve.mkdir(parents=True)
    attempt = start(order)
    assert attempt.wait() == 0
    assert result(attempt)["step"] > 0
    assert "warning: the loss curve could not be drawn" in (attempt.folder / "stderr.log").read_text()
