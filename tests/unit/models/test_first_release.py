"""Checkpoints that the first release wrote (tests/data/checkpoint-0.1*) are read by this one, on every device here.

They were made by `toy.Recorder(stop_after=10)` on `toy.trainer(*settings)`; losses.json has the losses that the same
program had in the steps after it. The first one holds the average of the weights, the second one Adam's memory.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from terry.jobs.process.checkpoints import load
from terry.models.config import AnnealConfig, ModelConfig, Optimizer, OptimizerConfig, TrainingConfig
from terry.models.language_model import LanguageModel
from terry.models.state import load_weights
from terry.models.training_state import TrainingState
from tests.helpers import toy

DATA, STEP = Path(__file__).parents[2] / "data", "step-000000010-a0001"
FOLDER = DATA / "checkpoint-0.1" / STEP
TRAINING = TrainingConfig(epochs=3, log_every=3, threads=1)
SETTINGS = (
    ModelConfig(cell="lstm", hidden_size=6, embedding_size=5, layers=2),
    OptimizerConfig(name=Optimizer.asgd, lr=2.0, average_after=1, clip_norm=1.0, anneal=AnnealConfig(minimum=0.1)),
    TRAINING,
)
WITH_MEMORY = (
    ModelConfig(cell="gru", hidden_size=6, embedding_size=5, layers=2),
    OptimizerConfig(lr=0.03, clip_norm=1.0, warmup_steps=4, anneal=AnnealConfig(minimum=0.001)),
    TRAINING,
)
DEVICES = ["cpu", "cuda:0"] if torch.cuda.is_available() else ["cpu"]


def test_the_weights_are_there_for_every_program() -> None:
    weights = load_file(FOLDER / "model.safetensors")
    load_weights(LanguageModel(SETTINGS[0], toy.VOCABULARY), weights)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "settings"), [("checkpoint-0.1", SETTINGS), ("checkpoint-0.1-adam", WITH_MEMORY)])
def test_training_goes_on_as_it_would_have_then(
    name: str, settings: tuple[ModelConfig, OptimizerConfig, TrainingConfig], device: str
) -> None:
    checkpoint = load(DATA / name / STEP)
    hooks = toy.Recorder()
    trainer = toy.trainer(*settings, hooks, device=device)
    trainer.resume(checkpoint.training_state)
    result = trainer.run()
    assert (result.step, result.rollbacks) == (21, 0)
    found = [record.loss for record in hooks.records] + [record.loss for record in hooks.validations]
    assert found == pytest.approx(json.loads((DATA / name / "losses.json").read_text()), rel=1e-4)


def test_a_snapshot_of_another_device_says_so_and_goes_on() -> None:
    checkpoint = load(FOLDER)
    hooks = toy.Recorder()
    trainer = toy.trainer(*SETTINGS, hooks)
    trainer.resume(
        TrainingState(
            step=checkpoint.step,
            model=checkpoint.model,
            optimizer=checkpoint.optimizer,
            state={**checkpoint.state, "device": "cuda"},
        )
    )
    assert "saved on cuda, going on with cpu" in hooks.warnings[0]
    assert trainer.run().step == 21
