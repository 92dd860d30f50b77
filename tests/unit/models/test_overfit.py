"""What can learn a few examples by heart, and what cannot."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from terry.models.config import (
    CELLS,
    AnnealConfig,
    Init,
    ModelConfig,
    Nonlinearity,
    Optimizer,
    OptimizerConfig,
    Schedule,
)
from terry.models.errors import ConfigError
from terry.models.overfit import OverfitVerdict, overfit


def small(cell: str = "gru", **settings: object) -> ModelConfig:
    return ModelConfig(cell=cell, hidden_size=48, embedding_size=24, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_by_heart(cell: str) -> None:
    report = overfit(small(cell, dropout=0.5, weight_drop=0.5), OptimizerConfig(lr=0.005), seconds=60)
    assert report.verdict is OverfitVerdict.learned
    assert report.ok
    assert report.first_loss == pytest.approx(4.605, rel=0.02)
    assert report.loss is not None
    assert report.loss < 0.47
    assert report.steps < 500
    assert "learned: loss 4.6" in report.describe()


def test_examples_of_ones_own_and_a_schedule_that_would_stop_it() -> None:
    optimizer = OptimizerConfig(lr=0.01, anneal=AnnealConfig(factor=1e-6), warmup_steps=10**6)
    report = overfit(small(), optimizer, vocabulary_size=5, examples=torch.tensor([[1, 2, 3, 4, 0]]), seconds=60)
    assert report.verdict is OverfitVerdict.learned


def test_a_cosine_with_its_own_end_is_left_out_too() -> None:
    optimizer = OptimizerConfig(lr=0.01, schedule=Schedule.cosine, minimum_lr=0.001)
    assert overfit(small(), optimizer, seconds=60).verdict is OverfitVerdict.learned


def test_a_rate_that_is_far_too_small_is_stuck() -> None:
    report = overfit(small(), OptimizerConfig(lr=1e-7), steps=60, seconds=60)
    assert report.verdict is OverfitVerdict.stuck
    assert not report.ok
    assert "nothing moves; a higher rate than 1e-07" in report.describe()


def test_weights_that_are_thrown_about_are_stuck_for_another_reason() -> None:
    optimizer = OptimizerConfig(name=Optimizer.adamw, weight_decay=1000.0, lr=0.0015)  # each step takes all of them
    report = overfit(small(), optimizer, steps=60, seconds=60)
    assert report.verdict is OverfitVerdict.stuck
    assert "it jumps; a lower rate than 0.0015 may help" in report.describe()


def test_a_beginning_far_off_is_said() -> None:
    report = overfit(small(init=Init.uniform, init_range=30.0), OptimizerConfig(lr=0.2), steps=60, seconds=60)
    assert report.first_loss > 20
    assert report.verdict is OverfitVerdict.stuck
    assert "an untrained model should have about ln(vocabulary) = 4.605" in report.describe()


def test_an_absurd_loss_is_not_written_out_digit_by_digit() -> None:
    report = overfit(small("lstm"), OptimizerConfig(name=Optimizer.sgd, lr=1e30), steps=60, seconds=60)
    assert report.verdict is OverfitVerdict.diverged
    assert re.search(r" -> \d\.\d\de\+\d\d in \d+ steps, .*; a lower rate than 1e\+30 may help$", report.describe())


@pytest.mark.parametrize("cell", ["torch.nn:Linear", "torch.nn:Identity", "torch.nn:Bilinear"])
def test_a_cell_of_ones_own_that_is_none_is_a_setting_at_fault(cell: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.cell: {cell} must be made as Class\(inputs, units\).* it raised "):
        overfit(small(cell), OptimizerConfig(), steps=1)


def test_a_rate_that_is_rather_small_is_slow() -> None:
    report = overfit(small(), OptimizerConfig(lr=3e-4), steps=150, seconds=60)
    assert report.verdict is OverfitVerdict.slow
    assert report.ok


@pytest.mark.parametrize("lr", [100.0, 1e30])
def test_a_rate_that_is_far_too_large_diverges(lr: float) -> None:
    model = small("rnn", nonlinearity=Nonlinearity.relu)
    report = overfit(model, OptimizerConfig(name=Optimizer.sgd, lr=lr), steps=60, seconds=60)
    assert report.verdict is OverfitVerdict.diverged
    assert not report.ok


def test_time_is_kept() -> None:
    report = overfit(small(), OptimizerConfig(lr=1e-5), steps=10**6, seconds=0.3)
    assert report.seconds < 60
    assert report.steps < 10**6


class LeavesOut(nn.Module):
    """A cell with a weight that it forgets to use, and one that it cuts off."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(inputs, units)
        self.forgotten = nn.Parameter(torch.ones(3))
        self.cut = nn.Parameter(torch.ones(units))

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return self.cell(x, state) * self.cut.detach()


def test_parameters_without_gradient_are_named() -> None:
    report = overfit(small(f"{__name__}:LeavesOut"), OptimizerConfig(lr=0.005), steps=20, seconds=60)
    assert report.idle == ("layers.0.cell.forgotten", "layers.0.cell.cut")
    assert not report.ok
    assert "no gradient reaches layers.0.cell.forgotten, layers.0.cell.cut" in report.describe()


def test_it_takes_one_thread_and_gives_the_others_back() -> None:
    class Counting(nn.GRUCell):
        seen: set[int] = set()  # noqa: RUF012

        def forward(self, *args: torch.Tensor) -> torch.Tensor:
            self.seen.add(torch.get_num_threads())
            return super().forward(*args)

    setattr(nn, "_Counting", Counting)  # noqa: B010
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        overfit(small("torch.nn:_Counting"), OptimizerConfig(), steps=1)
        assert torch.get_num_threads() == 2
        assert Counting.seen == {1}
    finally:
        torch.set_num_threads(before)
        delattr(nn, "_Counting")
