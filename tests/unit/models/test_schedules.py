"""Learning rates, step by step, against torch.optim.lr_scheduler and the papers' formulas."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from terry.models.config import AnnealConfig, Compare, OptimizerConfig, Schedule
from terry.models.schedules import Annealer, AverageTrigger, LearningRate


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def test_without_a_schedule_the_rate_stays() -> None:
    rates = LearningRate(OptimizerConfig(lr=0.3), 100)
    assert {rates.at(step, step // 10) for step in range(100)} == {0.3}


def test_cosine_is_that_of_torch() -> None:
    rates = LearningRate(OptimizerConfig(lr=0.5, schedule=Schedule.cosine, minimum_lr=0.01), 40)
    inner = optimizer(0.5)
    reference = lr_scheduler.CosineAnnealingLR(inner, 40, eta_min=0.01)
    for step in range(40):
        assert rates.at(step, 0) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        inner.step()
        reference.step()
    assert rates.at(40, 0) == pytest.approx(0.01)


def test_warm_up_is_the_line_that_torch_draws() -> None:
    rates = LearningRate(OptimizerConfig(lr=0.5, warmup_steps=5), 40)
    inner = optimizer(0.5)
    reference = lr_scheduler.LinearLR(inner, start_factor=0.2, total_iters=4)
    for step in range(12):
        assert rates.at(step, 0) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        inner.step()
        reference.step()


def test_zaremba_divides_by_two_after_the_fourth_epoch() -> None:
    rates = LearningRate(OptimizerConfig(lr=1.0, schedule=Schedule.divide, divide_by=2, divide_after=4), 1300)
    assert [rates.at(0, epoch) for epoch in range(13)] == [1, 1, 1, 1, *(0.5**k for k in range(1, 10))]


@given(
    losses=st.lists(st.floats(0, 10), max_size=40),
    factor=st.floats(0.1, 0.9),
    patience=st.integers(0, 3),
    minimum=st.floats(0, 0.5),
)
def test_annealing_is_torchs_reduce_on_plateau(
    losses: list[float], factor: float, patience: int, minimum: float
) -> None:
    annealer = Annealer(AnnealConfig(factor=factor, patience=patience, minimum=minimum), 1.0)
    inner = optimizer(1.0)
    reference = lr_scheduler.ReduceLROnPlateau(
        inner, factor=factor, patience=patience, threshold=0.0, min_lr=minimum, eps=0.0
    )
    for loss in losses:
        before = annealer.lr
        assert annealer.see(loss) == (annealer.lr < before)
        reference.step(loss)
        assert annealer.lr == pytest.approx(reference.get_last_lr()[0], rel=1e-12)


def test_the_rate_never_goes_below_the_minimum() -> None:
    annealer = Annealer(AnnealConfig(factor=0.5, minimum=0.3), 1.0)
    assert [annealer.see(1.0) for _ in range(5)] == [False, True, True, False, False]
    assert annealer.lr == 0.3


def test_compared_with_the_previous_loss_a_slow_return_is_an_improvement() -> None:
    losses = [1.0, 3.0, 2.0, 1.5, 1.6]
    by_best, by_previous = (Annealer(AnnealConfig(compare=c), 1.0) for c in (Compare.best, Compare.previous))
    assert [by_best.see(loss) for loss in losses] == [False, True, True, True, True]
    assert [by_previous.see(loss) for loss in losses] == [False, True, False, False, True]


@given(losses=st.lists(st.floats(0, 10), min_size=2, max_size=20), cut=st.integers(0, 20))
def test_a_restored_rate_goes_on_as_if_nothing_had_happened(losses: list[float], cut: int) -> None:
    config = OptimizerConfig(lr=1.0, anneal=AnnealConfig(patience=1, compare=Compare.previous))
    whole, first, second = (LearningRate(config, 10) for _ in range(3))
    first.scale = whole.scale = 0.25
    for rates, part in ((whole, losses), (first, losses[:cut])):
        assert rates.annealer is not None
        for loss in part:
            rates.annealer.see(loss)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.annealer is not None
    for loss in losses[cut:]:
        second.annealer.see(loss)
    assert second.at(3, 0) == whole.at(3, 0)
    assert second.state_dict() == whole.state_dict()


def test_averaging_begins_when_a_loss_is_worse_than_the_best_before_the_last_n() -> None:
    trigger = AverageTrigger(3, None)
    losses = [5.0, 4.0, 3.0, 3.5, 3.4, 3.3, 3.2]
    assert [trigger.see(loss, 0) for loss in losses] == [False] * 6 + [True]


def test_what_must_be_beaten_is_the_best_before_not_the_last_before() -> None:
    trigger = AverageTrigger(2, None)
    assert [trigger.see(loss, 0) for loss in [4.0, 5.0, 4.5, 3.9, 4.4]] == [False] * 4 + [True]


def test_averaging_can_begin_after_a_fixed_epoch() -> None:
    trigger = AverageTrigger(1, 2)
    assert [trigger.see(loss, epoch) for epoch, loss in enumerate((1.0, 2.0, 3.0))] == [False, False, True]
