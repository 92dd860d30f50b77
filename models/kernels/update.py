"""The optimizers' updates by the kernels, with the same memory under the same names as torch's own optimizers have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from terry.models.config import Optimizer, OptimizerConfig
from terry.models.kernels.library import Library
from terry.models.kernels.operations import PIECE, Operations, Rule
from terry.models.optimizers import NESTEROV_MOMENTUM

_RULES = {
    Optimizer.sgd: Rule.sgd,
    Optimizer.asgd: Rule.sgd,
    Optimizer.nesterov: Rule.nesterov,
    Optimizer.rmsprop: Rule.rmsprop,
    Optimizer.adam: Rule.adam,
    Optimizer.adamw: Rule.adamw,
}


class Updates:
    """Clips and moves weights. `numbers` are those of the network: see terry.models.kernels.network.

    The optimizer is torch's: this writes to its memory, so that training states are what they always were.
    """

    def __init__(
        self, library: Library, config: OptimizerConfig, optimizer: torch.optim.Optimizer,
        weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], numbers: Tensor,
    ) -> None:  # fmt: skip
        self._library, self._config, self._optimizer = library, config, optimizer
        self._weights, self._gradients, self._numbers = dict(weights), gradients, numbers
        self._plain = numbers.numpy()
        self._rule = _RULES[config.name]
        self._momentum = config.momentum
        if config.name is Optimizer.nesterov:
            self._momentum = config.momentum or NESTEROV_MOMENTUM
        self._moves: Operations | None = None
        self._steps: Tensor | None = None
        self._done = 0
        self._averages: tuple[Operations, list[int]] | None = None

    def clipping(self, operations: Operations) -> None:
        """Measure the gradient, and what shortens it to `clip_norm`."""
        if self._config.clip_norm is None:
            return
        pieces = [-(-g.numel() // PIECE) for g in self._gradients.values()]
        squares = torch.zeros(sum(pieces), dtype=torch.float64)
        for gradient, part in zip(self._gradients.values(), _split(squares, pieces), strict=True):
            operations.squares(gradient, part)
        operations.clip(squares, self._numbers[2:3], self._numbers[3:4], self._config.clip_norm)

    def forget(self) -> None:
        """The optimizer has other memory now: that of a training state."""
        self._moves = None

    def move(self, lr: float, threads: int) -> None:
        """One update of all weights."""
        if self._moves is None:
            self._moves = self._bind()
        self._plain[4] = lr
        if self._steps is not None:
            self._done += 1
            self._steps += 1
        if self._rule in (Rule.adam, Rule.adamw):
            first, second = self._config.betas
            self._plain[5] = lr / (1 - _power(first, self._done))
            self._plain[6] = math.sqrt(1 - _power(second, self._done))
        self._moves.run(threads)

    def _bind(self) -> Operations:
        """The operations, over the optimizer's memory, which is made where it is missing."""
        operations = Operations(self._library)
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        names = self._names()
        counted = self._rule in (Rule.rmsprop, Rule.adam, Rule.adamw)
        self._steps = torch.zeros(len(parameters)) if counted else None
        config, momentum = self._config, self._momentum
        adam = self._rule in (Rule.adam, Rule.adamw)
        one, other = config.betas if adam else (momentum, config.alpha)
        settings = (config.weight_decay, one, other, config.eps)
        for i, (parameter, name) in enumerate(zip(parameters, self._weights, strict=True)):
            memory = self._optimizer.state[parameter]
            if self._steps is not None:
                self._steps[i] = memory.get("step", 0.0)
                memory["step"] = self._steps[i]
            memories = (self._memory(memory, names[0], parameter), self._memory(memory, names[1], parameter))
            operations.update(
                self._rule, self._weights[name], self._gradients[name], memories, self._numbers[3:7], settings
            )
        self._done = 0 if self._steps is None else int(self._steps[0])
        return operations

    def _names(self) -> tuple[str | None, str | None]:
        """What torch calls the two memories of this rule."""
        if self._rule in (Rule.adam, Rule.adamw):
            return "exp_avg", "exp_avg_sq"
        buffer = "momentum_buffer" if self._momentum else None
        return buffer, "square_avg" if self._rule is Rule.rmsprop else None

    @staticmethod
    def _memory(memory: dict[str, Tensor], key: str | None, parameter: Tensor) -> Tensor | None:
        if key is None:
            return None
        found = memory.get(key)
        if found is None:
            found = memory[key] = torch.zeros_like(parameter, requires_grad=False)
        return found

    def average(self, averages: Mapping[str, Tensor], steps: int, threads: int) -> None:
        """Take the weights into their average, the `steps`-th ones since it was begun."""
        where = [tensor.data_ptr() for tensor in averages.values()]
        if self._averages is None or self._averages[1] != where:
            operations = Operations(self._library)
            for name, tensor in averages.items():
                operations.average(self._weights[name], tensor, self._numbers[7:8])
            self._averages = operations, where
        self._plain[7] = 1 / steps
        self._averages[0].run(threads)


def _split(tensor: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
    begin = 0
    for size in sizes:
        yield tensor[begin : begin + size]
        begin += size


def _power(base: float, exponent: int) -> float:
    """base ** exponent by products alone: libm's power may differ between processors in its last bit."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
