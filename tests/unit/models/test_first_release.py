"""A checkpoint that the first release wrote (tests/data/checkpoint-0.1) is read by this one, on every device here.

It was made by `toy.Recorder(stop_after=10)` on `toy.trainer(*SETTINGS)`; `EXPECTED` are the losses that the same
program had in the steps after it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from terry.jobs.checkpoints import load
from terry.models.config import AnnealConfig, ModelConfig, Optimizer, OptimizerConfig, TrainingConfig
from terry.models.language_model import LanguageModel
from terry.models.snapshot import Snapshot
from terry.models.state import load_weights
from tests.unit.models import toy

FOLDER = Path(__file__).parents[2] / "data" / "checkpoint-0.1" / "step-000000010-a0001"
SETTINGS = (
    ModelConfig(cell="lstm", hidden_size=6, embedding_size=5, layers=2),
    OptimizerConfig(name=Optimizer.asgd, lr=2.0, average_after=1, clip_norm=1.0, anneal=AnnealConfig(minimum=0.1)),
    TrainingConfig(epochs=3, log_every=3, threads=1),
)
EXPECTED: list[float] = json.loads((FOLDER.parent / "losses.json").read_text())
DEVICES = ["cpu", "cuda:0"] if torch.cuda.is_available() else ["cpu"]


def test_the_weights_are_there_for_every_program() -> None:
    weights = load_file(FOLDER / "model.safetensors")
    load_weights(LanguageModel(SETTINGS[0], toy.VOCABULARY), weights)


@pytest.mark.parametrize("device", DEVICES)
def test_training_goes_on_as_it_would_have_then(device: str) -> None:
    checkpoint = load(FOLDER)
    hooks = toy.Recorder()
    trainer = toy.trainer(*SETTINGS, hooks, device=device)
    trainer.resume(checkpoint.snapshot)
    result = trainer.run()
    assert (result.step, result.rollbacks) == (21, 0)
    found = [record.loss for record in hooks.records] + [record.loss for record in hooks.validations]
    assert found == pytest.approx(EXPECTED, rel=1e-4)


def test_a_snapshot_of_another_device_says_so_and_goes_on() -> None:
    checkpoint = load(FOLDER)
    hooks = toy.Recorder()
    trainer = toy.trainer(*SETTINGS, hooks)
    trainer.resume(
        Snapshot(
            step=checkpoint.step,
            model=checkpoint.model,
            optimizer=checkpoint.optimizer,
            state={**checkpoint.state, "device": "cuda"},
        )
    )
    assert "saved on cuda, going on with cpu" in hooks.warnings[0]
    assert trainer.run().step == 21
