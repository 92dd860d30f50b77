"""Each optimizer, step by step, against torch.optim as its documentation defines it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from terry.models.config import Optimizer, OptimizerConfig
from terry.models.errors import StateError
from terry.models.optimizers import WeightAverage, load_optimizer, make_optimizer, optimizer_tensors, set_rate

Plain = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
CASES: dict[str, tuple[OptimizerConfig, Plain]] = {
    "sgd": (OptimizerConfig(name=Optimizer.sgd, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (
        OptimizerConfig(name=Optimizer.sgd, lr=0.1, momentum=0.8, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, weight_decay=0.01),
    ),
    "nesterov": (
        OptimizerConfig(name=Optimizer.nesterov, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (
        OptimizerConfig(name=Optimizer.rmsprop, lr=0.01, alpha=0.9, momentum=0.5),
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, momentum=0.5),
    ),
    "adam": (
        OptimizerConfig(name=Optimizer.adam, lr=0.01, betas=[0.8, 0.99], weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), weight_decay=0.1),
    ),
    "adamw": (
        OptimizerConfig(name=Optimizer.adamw, lr=0.01, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    ),
    "asgd": (
        OptimizerConfig(name=Optimizer.asgd, lr=0.1, weight_decay=0.01),
        lambda p: torch.optim.ASGD(p, lr=0.1, t0=0, lambd=0.0, weight_decay=0.01),
    ),
}


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"weight": (4, 3), "bias": (5,)}
    return {n: nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for n, s in shapes.items()}


def give_gradients(found: dict[str, nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in found.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


def names(found: dict[str, nn.Parameter]) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_every_step_is_that_of_torch(case: str) -> None:
    config, plain = CASES[case]
    ours, theirs = parameters(), parameters()
    optimizer, reference = make_optimizer(config, ours.values()), plain(list(theirs.values()))
    close = 1e-6 if case == "asgd" else 1e-12  # torch keeps ASGD's rate in float32, and its own copy of it
    for step in range(8):
        for one, found in ((optimizer, ours), (reference, theirs)):
            give_gradients(found, step)
            if case != "asgd":
                set_rate(one, config.lr / (1 + step))
            one.step()
        for name, parameter in ours.items():
            torch.testing.assert_close(parameter, theirs[name], rtol=close, atol=close)


@pytest.mark.parametrize("case", CASES)
def test_memory_put_back_gives_the_same_bits(case: str) -> None:
    config, _ = CASES[case]
    ours = parameters()
    optimizer = make_optimizer(config, ours.values())
    assert optimizer_tensors(optimizer, names(ours)) == {}
    for step in range(3):
        give_gradients(ours, step)
        optimizer.step()
    memory = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, names(ours)).items()}
    other = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in ours.items()}
    resumed = make_optimizer(config, other.values())
    load_optimizer(resumed, names(other), memory)
    for step in range(3, 6):
        for one, found in ((optimizer, ours), (resumed, other)):
            give_gradients(found, step)
            one.step()
    for name, parameter in ours.items():
        assert torch.equal(parameter, other[name])


def test_memory_of_another_model_is_refused_by_name() -> None:
    ours = parameters()
    optimizer = make_optimizer(OptimizerConfig(), ours.values())
    with pytest.raises(StateError, match="gate/exp_avg"):
        load_optimizer(optimizer, names(ours), {"gate/exp_avg": torch.zeros(3)})
    with pytest.raises(StateError, match="weight/exp_avg has shape"):
        load_optimizer(optimizer, names(ours), {"weight/exp_avg": torch.zeros(3)})


def test_frozen_parameters_stay() -> None:
    ours = parameters()
    ours["bias"].requires_grad_(requires_grad=False)
    optimizer = make_optimizer(OptimizerConfig(), ours.values())
    assert [p.shape for group in optimizer.param_groups for p in group["params"]] == [ours["weight"].shape]


def test_the_average_is_that_of_torch_from_its_second_step_on() -> None:
    ours, theirs = parameters(), parameters()
    optimizer = torch.optim.SGD(ours.values(), lr=0.1)
    reference = torch.optim.ASGD(theirs.values(), lr=0.1, t0=0, lambd=0.0)
    average = WeightAverage(ours)
    for step in range(7):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        optimizer.step()
        reference.step()
        if step == 0:
            average.begin()
            continue
        average.update()
        for name, parameter in theirs.items():
            torch.testing.assert_close(average.tensors[name], reference.state[parameter]["ax"])
    assert average.steps == 6
