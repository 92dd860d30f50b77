"""NaN and infinity: caught at their step, named, never saved, gone back from; whenever the run is killed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from terry.data_prep.batches import StreamBatches
from terry.models.config import (
    ModelConfig,
    Nonlinearity,
    OnNan,
    Optimizer,
    OptimizerConfig,
    RollbackConfig,
    TrainingConfig,
)
from terry.models.errors import NotFinite
from terry.models.protocols import Reason
from terry.models.training_state import TrainingState
from tests.helpers import toy

#: A ReLU network explodes once the rate, which rises from step to step, is large enough.
MODEL = ModelConfig(cell="rnn", nonlinearity=Nonlinearity.relu, hidden_size=6, embedding_size=5)
ABSURD = OptimizerConfig(name=Optimizer.sgd, lr=1e9, warmup_steps=10**7)


def training(log_every: int, on_nan: OnNan = OnNan.fail, factor: float = 1e-3, maximum: int = 3) -> TrainingConfig:
    rollback = RollbackConfig(factor=factor, maximum=maximum)
    return TrainingConfig(epochs=4, log_every=log_every, on_nan=on_nan, rollback=rollback, threads=1)


def failure(log_every: int, optimizer: OptimizerConfig = ABSURD, model: ModelConfig = MODEL) -> NotFinite:
    with pytest.raises(NotFinite) as caught:
        toy.trainer(model, optimizer, training(log_every)).run()
    return caught.value


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_step_and_the_tensor_are_named_however_seldom_one_looks(cell: str) -> None:
    model = ModelConfig(cell=cell, nonlinearity=MODEL.nonlinearity, hidden_size=6, embedding_size=5)
    optimizer = OptimizerConfig(name=Optimizer.sgd, lr=3e38, warmup_steps=5)
    at_once = failure(1, optimizer, model)
    for log_every in (4, 50):
        found = failure(log_every, optimizer, model)
        assert (found.step, found.tensor, str(found)) == (at_once.step, at_once.tensor, str(at_once))
    assert f"step {at_once.step}:" in str(at_once)
    assert at_once.tensor in str(at_once)


class _Poison(toy.Recorder):
    """Writes infinity into a weight after a step, once, as a broken memory might."""

    def __init__(self, *, at: int, stop_after: int | None = None) -> None:
        super().__init__(stop_after=stop_after)
        self.at: int | None = at

    def run(self, config: TrainingConfig, start: TrainingState | None = None) -> int:
        trainer = toy.trainer(training=config, hooks=self)
        self.weight = trainer.model.get_parameter("output_weight")
        if start is not None:
            trainer.resume(start)
        return trainer.run().rollbacks

    def progress(self, step: int, total_steps: int, epoch: float, loss: float | None) -> None:
        super().progress(step, total_steps, epoch, loss)
        if step == self.at:
            self.weight.data[0, 0] = math.inf
            self.at = None


def test_what_does_not_come_back_is_named_all_the_same() -> None:
    with pytest.raises(NotFinite) as caught:
        _Poison(at=9).run(training(6))
    assert (caught.value.step, caught.value.tensor) == (10, "loss")


@pytest.mark.parametrize("stop", [1, 3, 6, 8, 9, 10, 11, 12, 17])
def test_killed_anywhere_a_run_with_a_flipped_bit_ends_with_the_same_bits(stop: int) -> None:
    whole, first = _Poison(at=10), _Poison(at=10, stop_after=stop)
    assert whole.run(training(4, OnNan.rollback)) == 1
    assert "back to step 8 with" in whole.warnings[0]
    first.run(training(4, OnNan.rollback))
    second = _Poison(at=0)
    second.at = first.at
    assert second.run(training(4, OnNan.rollback), first.last) == 1
    assert toy.differences(whole.last, second.last) == []


class _SpoiltWhileLooking(toy.Recorder):
    """A device at fault spoils a weight when a step has been looked at already, as the run is told to stop."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def run(self) -> None:
        trainer = toy.trainer(training=training(4), hooks=self)
        self._weight = trainer.model.get_parameter("output_weight")
        trainer.run()

    def should_stop(self) -> bool:
        if self.step >= self._at:
            self._weight.data[0, 0] = math.nan
            return True
        return False


def test_what_is_spoilt_after_the_look_at_its_step_is_not_saved_either() -> None:
    hooks = _SpoiltWhileLooking(at=8)
    with pytest.raises(NotFinite):
        hooks.run()
    assert all(is_finite(training_state) for training_state, _ in hooks.saved)


class SavesAlways(toy.Recorder):
    """Wants a checkpoint after each step."""

    def checkpoint_due(self) -> bool:
        return True


def is_finite(training_state: TrainingState) -> bool:
    return all(
        bool(torch.isfinite(tensor).all())
        for tensor in (*training_state.model.values(), *training_state.optimizer.values())
    )


def test_what_is_not_finite_is_never_saved() -> None:
    hooks = SavesAlways()
    with pytest.raises(NotFinite) as caught:
        toy.trainer(MODEL, ABSURD, training(2), hooks).run()
    assert hooks.saved
    assert all(training_state.step < caught.value.step for training_state, _ in hooks.saved)
    assert all(is_finite(training_state) for training_state, _ in hooks.saved)


def test_told_to_stop_while_it_is_poisoned_it_saves_what_is_good() -> None:
    bad = failure(1).step
    hooks = toy.Recorder(stop_after=bad)
    result = toy.trainer(MODEL, ABSURD, training(50, OnNan.rollback), hooks).run()
    assert result.reason is Reason.stopped
    assert hooks.last.step < bad
    assert is_finite(hooks.last)


def test_rolled_back_with_a_smaller_rate_the_run_finishes() -> None:
    hooks = toy.Recorder()
    bad = failure(1).step
    result = toy.trainer(MODEL, ABSURD, training(4, OnNan.rollback), hooks).run()
    assert (result.reason, result.epoch) == (Reason.completed, 4)
    assert 1 <= result.rollbacks <= 3
    told = [text for text in hooks.warnings if "back to step" in text]
    assert len(told) == result.rollbacks
    assert f"step {bad}:" in told[0]
    assert f"back to step {(bad - 1) // 4 * 4} " in told[0]
    assert hooks.records[-1].lr == pytest.approx(hooks.records[-1].step * 100 * 1e-3**result.rollbacks)
    assert is_finite(hooks.last)
    assert math.isfinite(result.valid_loss or math.nan)


def test_it_is_rolled_back_so_many_times_and_no_more() -> None:
    hooks = toy.Recorder()
    with pytest.raises(NotFinite, match=r"^step \d+: .*, after 2 rollbacks, with the learning rate times 0\.998001$"):
        toy.trainer(MODEL, ABSURD, training(4, OnNan.rollback, factor=0.999, maximum=2), hooks).run()
    assert len([text for text in hooks.warnings if "back to step" in text]) == 2


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 8, 17])
def test_killed_anywhere_a_run_that_is_rolled_back_ends_with_the_same_bits(stop: int) -> None:
    config = training(4, OnNan.rollback)
    whole, first, second = toy.Recorder(), toy.Recorder(stop_after=stop), toy.Recorder()
    toy.trainer(MODEL, ABSURD, config, whole).run()
    toy.trainer(MODEL, ABSURD, config, first).run()
    resumed = toy.trainer(MODEL, ABSURD, config, second)
    resumed.resume(first.last)
    result = resumed.run()
    assert result.rollbacks >= 1
    assert toy.differences(whole.last, second.last) == []


def test_a_validation_that_is_not_finite_counts_too() -> None:
    """A word that training never meets, with a vector so long that one unit's sum overflows on any processor."""
    known = np.random.default_rng(0).integers(0, toy.VOCABULARY - 1, 203).astype(np.uint16)
    optimizer = OptimizerConfig(name=Optimizer.sgd, lr=1e-3)
    trainer = toy.trainer(MODEL, optimizer, training(50), data=lambda: StreamBatches(known, batch_size=4, bptt=7))
    with torch.no_grad():
        trainer.model.embedding[-1] = 3e38
        trainer.model.layers[0].weight_ih[0] = 1.0
    with pytest.raises(NotFinite) as caught:
        trainer.run()
    assert (caught.value.step, caught.value.tensor) == (7, "validation loss")


def test_without_guards_nothing_is_looked_at() -> None:
    config = TrainingConfig(epochs=1, guards=False)
    result = toy.trainer(MODEL, ABSURD, config, valid=None).run()
    assert result.reason is Reason.completed
