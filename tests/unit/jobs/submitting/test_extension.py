"""Trainings made longer: the bits of one that was as long from the beginning, or a word on why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from terry.cluster.controller.requests import read_jobs
from terry.cluster.core.model import Attempt, JobRecord, JobState
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting import extension
from tests.helpers.job_processes import orders, start
from tests.helpers.queue_values import T0, at
from tests.helpers.sweep_files import workspace
from tests.unit.jobs.test_train import prepared, result

RECIPES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "adam, clipped, noisy": ("optimizer.name=adam", "optimizer.lr=0.01", "model.dropout=0.3"),
    "annealed": ("optimizer.anneal.factor=0.5", "training.patience=5"),
    "averaged": ("optimizer.name=asgd", "optimizer.nonmonotone=1"),
    "validated often": ("training.valid_every=3",),
    "examples": ("data.batches=examples",),
}


def record_of(place: WorkspacePaths, state: JobState = JobState.COMPLETED) -> JobRecord:
    """The queue's record of demo-0001 after an attempt."""
    (job,) = [job for job in read_jobs(place, place.submission("demo", 1)) if job.id == "demo-0001"]
    attempt = Attempt(number=1, series=1, device="here:cpu", node="here", placed_at=T0, ended_at=at(9))
    return JobRecord(job=job, state=state, attempts=(attempt,), finished_at=at(9))


def extended(place: WorkspacePaths, record: JobRecord, *settings: str) -> dict[str, Any]:
    """The order by which it goes on."""
    found = extension.extend(place, record, extension.lengths(settings), at(10))
    assert extension.publish(place, [found], "ann", at(10)) == ["demo-0001"]
    order = orders(place, "demo", 2)["demo-0001"]
    job = found.line.job
    return {**order, "identity": job.identity, "result_from": 2}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_longer_training_has_the_bits_of_one_that_was_as_long_at_first(recipe: str, tmp_path: Path) -> None:
    """Weights by sha256, and the identity: a sweep file that says so much finds the run there."""
    overrides = RECIPES[recipe]
    whole = start(prepared(tmp_path / "whole", *overrides, "training.epochs=4"))
    assert whole.wait() == 0
    short = start(prepared(tmp_path / "short", *overrides, "training.epochs=2"))
    assert short.wait() == 0
    place = workspace(tmp_path / "short")
    record = record_of(place)
    found = extension.extend(place, record, extension.lengths(["training.epochs=4"]), at(10))
    assert not found.warning
    attempt = start(extended(place, record, "training.epochs=4"), 2)
    assert attempt.wait() == 0, (attempt.folder / "stderr.log").read_text()
    longer, once = result(attempt), result(whole)
    assert longer["step"] == once["step"] == 2 * 2 * (longer["step"] // 4)
    for key in ("model_sha256", "best_model_sha256", "valid_loss", "best_loss", "best_step"):
        assert longer[key] == once[key], key
    (job,) = read_jobs(place, place.submission("demo", 2))
    other = workspace(tmp_path / "whole")
    (same,) = [each for each in read_jobs(other, other.submission("demo", 1)) if each.kind == "train"]
    assert job.identity == same.identity
    assert job.former == (record.job.identity,)
    assert (attempt.run.root / f"spec-{record.job.identity[:8]}.yaml").is_file()
    assert same.identity in attempt.run.spec.read_text()


def test_one_that_was_cancelled_goes_on_too(tmp_path: Path) -> None:
    """From its last checkpoint, with steps in place of epochs."""
    overrides = ("training.max_steps=7", "checkpoint.every=0")
    short = start(prepared(tmp_path / "short", *overrides))
    assert short.wait() == 0
    whole = start(prepared(tmp_path / "whole", "training.max_steps=11", "checkpoint.every=0"))
    assert whole.wait() == 0
    place = workspace(tmp_path / "short")
    attempt = start(extended(place, record_of(place, JobState.CANCELLED), "training.max_steps=11"), 2)
    assert attempt.wait() == 0
    assert result(attempt)["model_sha256"] == result(whole)["model_sha256"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("optimizer.schedule=cosine",), "cosine, which falls towards the end"),
        (("training.max_steps=7", "training.patience=3"), "training.patience goes by validations"),
    ],
)
def test_where_the_end_mattered_it_is_said(overrides: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """Before anything is asked for."""
    attempt = start(prepared(tmp_path / "short", *overrides))
    assert attempt.wait() == 0
    place = workspace(tmp_path / "short")
    setting = "training.epochs=9" if "max_steps" not in overrides[0] else "training.max_steps=9"
    assert words in extension.extend(place, record_of(place), extension.lengths([setting]), at(10)).warning


def test_what_cannot_be_longer_is_refused(tmp_path: Path) -> None:
    """With why, and what would be right."""
    attempt = start(prepared(tmp_path, "training.patience=1", "training.epochs=60", "optimizer.lr=5"))
    assert attempt.wait() == 0
    assert result(attempt)["reason"] == "early_stopped"
    place, record = workspace(tmp_path), record_of(workspace(tmp_path))
    for settings, words in {
        ("optimizer.lr=0.1",): "another setting makes another run",
        ("training.epochs=0",): "epochs",
        ("training.epochs=70",): "was ended by training.patience",
    }.items():
        with pytest.raises(UserError, match=words):
            extension.extend(place, record, extension.lengths(settings), at(10))
