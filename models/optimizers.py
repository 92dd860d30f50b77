"""Optimizers by name, their state as named tensors, and the average of the weights (ASGD)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from terry.models.config import Optimizer, OptimizerConfig
from terry.models.errors import StateError

#: Momentum of `nesterov` unless given.
NESTEROV_MOMENTUM = 0.9


def make_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's own optimizer, in one kernel over all parameters (`fused`) where there is one."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    name, lr, decay = config.name, config.lr, config.weight_decay
    if name in (Optimizer.sgd, Optimizer.asgd):
        return torch.optim.SGD(trained, lr=lr, momentum=config.momentum, weight_decay=decay, fused=True)
    if name is Optimizer.nesterov:
        momentum = config.momentum or NESTEROV_MOMENTUM
        return torch.optim.SGD(trained, lr=lr, momentum=momentum, nesterov=True, weight_decay=decay, fused=True)
    if name is Optimizer.rmsprop:
        return torch.optim.RMSprop(
            trained, lr=lr, alpha=config.alpha, eps=config.eps, weight_decay=decay, momentum=config.momentum
        )
    betas = (config.betas[0], config.betas[1])
    kind = torch.optim.Adam if name is Optimizer.adam else torch.optim.AdamW
    return kind(trained, lr=lr, betas=betas, eps=config.eps, weight_decay=decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """What the optimizer remembers, the tensors themselves: `<parameter>/<what>`. Empty before the first step."""
    found = {}
    for parameter, memory in optimizer.state.items():
        for key, value in memory.items():
            if value is not None:
                found[f"{names[parameter]}/{key}"] = value
    return found


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave. Raises StateError for tensors of another model or optimizer."""
    order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    number = {names[parameter]: i for i, parameter in enumerate(order)}
    memory: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition("/")
        if parameter not in number:
            raise StateError(f"the training state's optimizer remembers {name}, the model trains no such parameter")
        if key != "step" and tensor.shape != order[number[parameter]].shape:
            raise StateError(f"{name} has shape {tuple(tensor.shape)} in the training state, which the model does not")
        memory.setdefault(number[parameter], {})[key] = tensor.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": memory, "param_groups": groups})


class WeightAverage:
    """Average of the weights after each step since it was begun (Polyak and Juditsky 1992).

    The same as torch.optim.ASGD's `ax` with lambd=0, t0=0, which begins at that optimizer's second step.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = dict(parameters)
        self.steps = 0
        self.tensors: dict[str, Tensor] = {}

    @property
    def active(self) -> bool:
        """Whether averaging has begun."""
        return bool(self.tensors)

    def begin(self) -> None:
        """Average from the next step on; until then the average is the weights as they are."""
        self.steps = 0
        self.tensors = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    def update(self, by: Callable[[Mapping[str, Tensor], int], None] | None = None) -> None:
        """Take in the weights after a step; `by`: computes it, given the averages and the number of steps."""
        self.steps += 1
        if by is not None:
            by(self.tensors, self.steps)
            return
        averages = list(self.tensors.values())
        torch._foreach_lerp_(averages, [p.detach() for p in self._parameters.values()], 1 / self.steps)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model computes with the average, if there is one."""
        raw = {name: self._parameters[name].detach().clone() for name in self.tensors}
        self._write(self.tensors)
        try:
            yield
        finally:
            self._write(raw)

    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._parameters[name].detach().copy_(tensor)

    def load(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a training state, whose tensors come in any order; without tensors, averaging has not begun."""
        self.steps = steps
        self.tensors = {
            name: tensors[name].to(parameter.device, copy=True)
            for name, parameter in self._parameters.items()
            if name in tensors
        }
