"""What can learn a few examples by heart, and what cannot."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from terry.models.config import CELLS, AnnealConfig, ModelConfig, Nonlinearity, Optimizer, OptimizerConfig
from terry.models.overfit import Verdict, overfit


def small(cell: str = "gru", **settings: object) -> ModelConfig:
    return ModelConfig(cell=cell, hidden_size=48, embedding_size=24, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_by_heart(cell: str) -> None:
    report = overfit(small(cell, dropout=0.5, weight_drop=0.5), OptimizerConfig(lr=0.005), seconds=60)
    assert report.verdict is Verdict.learned
    assert report.ok
    assert report.first_loss == pytest.approx(4.605, rel=0.02)
    assert report.loss is not None
    assert report.loss < 0.47
    assert report.steps < 500
    assert "learned: loss 4.6" in report.describe()


def test_examples_of_ones_own_and_a_schedule_that_would_stop_it() -> None:
    optimizer = OptimizerConfig(lr=0.01, anneal=AnnealConfig(factor=1e-6), warmup_steps=10**6)
    report = overfit(small(), optimizer, vocabulary_size=5, examples=torch.tensor([[1, 2, 3, 4, 0]]), seconds=60)
    assert report.verdict is Verdict.learned


def test_a_rate_that_is_far_too_small_is_stuck() -> None:
    report = overfit(small(), OptimizerConfig(lr=1e-7), steps=60, seconds=60)
    assert report.verdict is Verdict.stuck
    assert not report.ok


def test_a_rate_that_is_rather_small_is_slow() -> None:
    report = overfit(small(), OptimizerConfig(lr=3e-4), steps=150, seconds=60)
    assert report.verdict is Verdict.slow
    assert report.ok


@pytest.mark.parametrize("lr", [100.0, 1e30])
def test_a_rate_that_is_far_too_large_diverges(lr: float) -> None:
    model = small("rnn", nonlinearity=Nonlinearity.relu)
    report = overfit(model, OptimizerConfig(name=Optimizer.sgd, lr=lr), steps=60, seconds=60)
    assert report.verdict is Verdict.diverged
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
