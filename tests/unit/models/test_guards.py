"""Guards: what they say, and that they say it once."""

from __future__ import annotations

import math

import pytest
import torch

from terry.models import guards
from terry.models.errors import NotFinite


def settled() -> guards.Guard:
    guard = guards.Guard(100)
    for step in range(guards.SETTLED):
        assert guard.record(step, 4.0, {"w": 1e-3}) == []
    return guard


@pytest.mark.parametrize(("loss", "told"), [(math.log(8000), 0), (8.5, 0), (12.0, 1), (6.0, 1)])
def test_the_first_loss_is_held_against_the_logarithm_of_the_vocabulary(loss: float, told: int) -> None:
    found = guards.Guard(8000).first_loss(loss)
    assert len(found) == told
    assert all("8.987" in text for text in found)


def test_a_spike_is_told() -> None:
    guard = guards.Guard(100_000)
    for step in range(guards.SETTLED):
        assert guard.record(step, 4.0, {}) == []
    assert guard.record(6, 4.4, {}) == []
    assert guard.record(7, 9.0, {}) == ["step 7: the loss jumped to 9.000 from 4.040"]


def test_updates_outside_the_healthy_range_are_told_once_by_name() -> None:
    guard = settled()
    first = guard.record(6, 4.0, {"slow": 1e-6, "fast": 0.5, "sound": 1e-3})
    assert len(first) == 2
    assert "slow (1.0e-06)" in first[0]
    assert "fast (5.0e-01)" in first[1]
    assert guard.record(7, 4.0, {"slow": 1e-6, "fast": 0.5, "sound": 1e-3}) == []
    assert "sound" in guard.record(8, 4.0, {"sound": 1.0})[0]


def test_updates_that_a_schedule_made_small_are_not_told() -> None:
    guard = settled()
    assert guard.record(6, 4.0, {"w": 5e-6}, share=0.01) == []
    assert "w (5.0e-06)" in guard.record(7, 4.0, {"w": 5e-6}, share=0.1)[0]


def test_a_loss_worse_than_a_guess_is_told_once_and_no_higher_rate_is_advised() -> None:
    guard = guards.Guard(100)
    for step in range(guards.SETTLED):
        guard.record(step, 2.3e30, {})
    (told,) = guard.record(6, 2.3e30, {"stranded": 0.0})
    assert told.startswith("step 6: the loss is 2.30e+30, worse than a uniform guess, ln(vocabulary) = 4.605: a lower")
    assert guard.record(7, 2.3e30, {"stranded": 0.0}) == []
    assert "a higher learning rate may help" in guard.record(8, 4.0, {"stranded": 0.0})[0]


def test_the_first_records_are_not_judged() -> None:
    assert guards.Guard(100).record(1, 4.0, {"w": 1.0}) == []


def test_a_guard_goes_on_with_its_memory() -> None:
    guard = settled()
    guard.record(6, 4.0, {"w": 1.0})
    other = guards.Guard(100)
    other.load_state_dict(guard.state_dict())
    assert other.record(7, 4.0, {"w": 1.0}) == []
    assert "the loss jumped" in other.record(8, 9.0, {})[0]
    assert guard.state_dict() != other.state_dict()


def test_an_idle_device_is_told_once() -> None:
    guard = settled()
    guard.record(6, 4.0, {})
    assert guard.utilisation(0.9, "cuda:0") == []
    assert guard.utilisation(None, "cuda:0") == []
    assert "cuda:0 is busy 20%" in guard.utilisation(0.2, "cuda:0")[0]
    assert guard.utilisation(0.2, "cuda:0") == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_tensor_that_is_not_finite_is_named(bad: float) -> None:
    wrong = torch.zeros(3, 2)
    wrong[1, 1] = bad
    with pytest.raises(NotFinite) as caught:
        guards.require_finite("gradient", 7, {"good": torch.ones(5), "wrong": wrong, "also": wrong})
    assert (caught.value.step, caught.value.tensor) == (7, "wrong")
    assert str(caught.value) == f"step 7: the gradient of wrong holds {bad} (1 of 6 entries)"


def test_large_numbers_are_finite() -> None:
    guards.require_finite("value", 1, {"large": torch.full((4, 4), 3e38), "none": torch.empty(0)})
    guards.require_finite("value", 1, {})


def test_the_first_bad_loss_gives_the_step() -> None:
    with pytest.raises(NotFinite) as caught:
        guards.require_finite_losses(11, [2.0, math.nan, math.inf])
    assert caught.value.step == 12


def test_update_ratios() -> None:
    before = {"w": torch.full((2, 2), 2.0), "b": torch.zeros(2), "zero": torch.zeros(2, 2)}
    after = {"w": torch.full((2, 2), 2.002), "b": torch.ones(2), "zero": torch.ones(2, 2)}
    assert guards.update_ratios(before, after) == {"w": pytest.approx(1e-3, rel=1e-3)}
    assert guards.update_ratios({}, {}) == {}


def test_utilisation_of_a_cpu_is_the_time_that_the_process_had() -> None:
    meter = guards.Utilisation(torch.device("cpu"))
    x = torch.randn(300, 300)
    for _ in range(50):
        x = torch.tanh(x @ x)
    share = meter.share()
    assert share is not None
    assert 0 < share <= 1
