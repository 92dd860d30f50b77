"""A training by the kernels: what is recorded, how it resumes, that it ends where torch's does."""

from __future__ import annotations

import pytest
import torch

from terry.models.config import CELLS, Kernels, ModelConfig, Optimizer, OptimizerConfig, TrainingConfig
from terry.models.kernels import library
from terry.models.training_state import TrainingState
from tests.helpers import toy
from tests.unit.models.kernels.network import levels, needs_kernels, threads

pytestmark = needs_kernels
MODEL = ModelConfig(cell="gru", hidden_size=6, embedding_size=5, layers=2, dropout=0.2)


def last(
    kernels: Kernels = Kernels.auto, *, model: ModelConfig = MODEL, optimizer: OptimizerConfig | None = None,
    stop: int | None = None, start: TrainingState | None = None,
) -> tuple[TrainingState, toy.Recorder]:  # fmt: skip
    hooks = toy.Recorder(stop_after=stop)
    training = TrainingConfig(epochs=2, log_every=3, kernels=kernels)
    trainer = toy.trainer(model, optimizer or OptimizerConfig(lr=0.01, clip_norm=1.0), training, hooks)
    if start is not None:
        trainer.resume(start)
    trainer.run()
    return hooks.last, hooks


def test_the_kernels_are_recorded_and_a_resumed_run_keeps_them() -> None:
    assert last()[0].state["kernels"] == "native"
    half, _ = last(Kernels.torch, stop=5)
    whole, hooks = last(start=half)
    assert half.state["kernels"] == whole.state["kernels"] == "torch"
    assert hooks.warnings == []
    assert toy.differences(whole, last(Kernels.torch)[0]) == []


def test_a_checkpoint_from_before_there_was_a_choice_goes_on_with_torch() -> None:
    half, _ = last(Kernels.torch, stop=5)
    old = {key: value for key, value in half.state.items() if key != "kernels"}
    start = TrainingState(step=half.step, model=half.model, optimizer=half.optimizer, state=old)
    assert toy.differences(last(start=start)[0], last(Kernels.torch)[0]) == []


def test_other_kernels_than_before_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    half, _ = last(stop=5)
    _, hooks = last(Kernels.torch, start=half)
    assert hooks.warnings == [
        "begun with native kernels, going on with torch (training.kernels: torch): the last bits will differ from "
        "step 6 on"
    ]
    monkeypatch.setenv(library.VARIABLE, "off")
    _, hooks = last(start=half)
    assert "going on with torch (turned off by TERRY_KERNELS=off)" in hooks.warnings[0]


@pytest.mark.parametrize("name", list(Optimizer))
@pytest.mark.parametrize("cell", CELLS)
def test_final_weights_are_the_same_at_every_level_and_number_of_threads(
    cell: str, name: Optimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in between, where the rest is done at another level."""
    model = ModelConfig(cell=cell, hidden_size=6, embedding_size=5, layers=2, dropout=0.2, weight_drop=0.1)
    optimizer = OptimizerConfig(name=name, lr=0.05, clip_norm=1.0, average_after=1)
    whole, _ = last(model=model, optimizer=optimizer)
    for level in levels():
        monkeypatch.setenv(library.VARIABLE, library.LEVELS[level])
        half, _ = last(model=model, optimizer=optimizer, stop=5)
        with threads(2):
            monkeypatch.setenv(library.VARIABLE, library.LEVELS[levels()[-1 - level]])
            found, _ = last(model=model, optimizer=optimizer, start=half)
        different = [what for what in toy.differences(whole, found) if what != "threads"]
        assert different == []


@pytest.mark.parametrize("cell", CELLS)
def test_losses_are_those_of_torch(cell: str) -> None:
    model = ModelConfig(cell=cell, hidden_size=16, embedding_size=16, tie_weights=True)
    found = [last(kernels, model=model)[1] for kernels in (Kernels.native, Kernels.torch)]
    ours, theirs = ([record.loss for record in hooks.records + hooks.validations] for hooks in found)
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_the_carried_state_of_a_snapshot_has_the_models_shape() -> None:
    training_state, _ = last(stop=5)
    assert training_state.optimizer["hidden/0/0"].shape == (4, 6)
    assert all(tensor.is_contiguous() for tensor in training_state.optimizer.values())
    assert torch.isfinite(training_state.optimizer["memory/output_bias/exp_avg"]).all()
