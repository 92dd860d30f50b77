"""Updates by the kernels against torch's optimizers in float64; their memory has torch's names and shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from terry.models.config import Optimizer, OptimizerConfig
from terry.models.kernels.operations import Operations
from terry.models.kernels.update import Updates, _power
from terry.models.optimizers import WeightAverage, make_optimizer, optimizer_tensors
from tests.unit.models.kernels.network import at_level, levels, needs_kernels, threads

pytestmark = needs_kernels

SETTINGS = [
    OptimizerConfig(name=Optimizer.sgd, lr=0.1),
    OptimizerConfig(name=Optimizer.sgd, lr=0.1, momentum=0.9, weight_decay=0.01, clip_norm=0.5),
    OptimizerConfig(name=Optimizer.nesterov, lr=0.1, weight_decay=0.01),
    OptimizerConfig(name=Optimizer.rmsprop, lr=0.01, weight_decay=0.1, clip_norm=1e6),
    OptimizerConfig(name=Optimizer.rmsprop, lr=0.01, momentum=0.5),
    OptimizerConfig(name=Optimizer.adam, lr=0.01, weight_decay=0.1, clip_norm=1.0),
    OptimizerConfig(name=Optimizer.adam, lr=0.01, betas=[0.8, 0.9], eps=1e-4),
    OptimizerConfig(name=Optimizer.adamw, lr=0.01, weight_decay=0.1),
    OptimizerConfig(name=Optimizer.asgd, lr=0.1),
]


def weights(dtype: torch.dtype) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"a": (37, 5), "b": (7,), "c": (5000,)}
    return {name: nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for name, shape in shapes.items()}


def gradient(step: int, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(step)).to(like.dtype)


def by_kernels(
    config: OptimizerConfig, steps: int, level: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    ours = weights(torch.float32)
    optimizer = make_optimizer(config, ours.values())
    gradients = {name: torch.zeros_like(p, requires_grad=False) for name, p in ours.items()}
    numbers = torch.zeros(8, dtype=torch.float64)
    numbers[3] = 1.0
    library = at_level(level)
    plain = {name: p.detach() for name, p in ours.items()}
    updates = Updates(library, config, optimizer, plain, gradients, numbers)
    for step in range(steps):
        for name, place in gradients.items():
            place.copy_(gradient(step + len(name), place))
        clipping = Operations(library)
        updates.clipping(clipping)
        clipping.run(torch.get_num_threads())
        updates.move(config.lr / (step + 1), torch.get_num_threads())
        if step == 2:
            updates.forget()
    return plain, optimizer_tensors(optimizer, {p: name for name, p in ours.items()})


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_weights_move_as_by_torch(config: OptimizerConfig) -> None:
    found, memory = by_kernels(config, 6, levels()[-1])
    theirs = weights(torch.float64)
    optimizer = make_optimizer(config, theirs.values())
    for step in range(6):
        for name, parameter in theirs.items():
            parameter.grad = gradient(step + len(name), parameter)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(theirs.values(), config.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = config.lr / (step + 1)
        optimizer.step()
    for name, weight in found.items():
        torch.testing.assert_close(weight.double(), theirs[name].detach(), rtol=1e-5, atol=1e-6, msg=name)
    expected = optimizer_tensors(optimizer, {p: name for name, p in theirs.items()})
    assert memory.keys() == expected.keys()
    for name, tensor in memory.items():
        torch.testing.assert_close(tensor.double(), expected[name].double(), rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("config", SETTINGS, ids=str)
def test_every_level_and_number_of_threads_gives_the_same_bits(config: OptimizerConfig) -> None:
    expected, _ = by_kernels(config, 4, levels()[-1])
    for level in levels():
        for count in (1, 3):
            with threads(count):
                found, _ = by_kernels(config, 4, level)
            assert all(torch.equal(found[name], expected[name]) for name in found), (level, count)


def test_the_average_of_the_weights_is_the_plain_mean() -> None:
    ours = weights(torch.float32)
    plain = {name: p.detach() for name, p in ours.items()}
    config = OptimizerConfig(name=Optimizer.asgd)
    numbers = torch.zeros(8, dtype=torch.float64)
    updates = Updates(at_level(levels()[-1]), config, make_optimizer(config, ours.values()), plain, {}, numbers)
    average = WeightAverage(plain)
    average.begin()
    seen = []
    for step in range(5):
        for p in plain.values():
            p.add_(gradient(step, p))
        seen.append({name: p.double().clone() for name, p in plain.items()})
        average.update(lambda tensors, steps: updates.average(tensors, steps, 1))
    for name, tensor in average.tensors.items():
        torch.testing.assert_close(tensor.double(), torch.stack([s[name] for s in seen]).mean(0), rtol=1e-5, atol=1e-6)


def test_powers_by_products() -> None:
    for base, exponent in ((0.9, 1), (0.999, 12345), (0.5, 0)):
        assert _power(base, exponent) == pytest.approx(base**exponent, rel=1e-12)
