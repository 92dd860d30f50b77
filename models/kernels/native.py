"""A training's step by the compiled kernels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from terry.models.config import OptimizerConfig
from terry.models.kernels.library import Library
from terry.models.kernels.network import Network
from terry.models.kernels.update import Updates
from terry.models.language_model import LanguageModel, ModelState


class Native:
    """Forward, backward and update of a language model."""

    def __init__(
        self, library: Library, model: LanguageModel, optimizing: OptimizerConfig, optimizer: torch.optim.Optimizer,
        trained: Mapping[str, nn.Parameter], *, seed: int,
    ) -> None:  # fmt: skip
        self._network = Network(model, library, seed=seed)
        weights = {name: parameter.detach() for name, parameter in trained.items()}
        #: by name; memory that the next step writes to
        self.gradients = self._network.gradients
        self._updates = Updates(library, optimizing, optimizer, weights, self.gradients, self._network.numbers)
        self._network.then(self._updates.clipping)

    def loss(
        self, inputs: Tensor, targets: Tensor, mask: Tensor | None, state: ModelState
    ) -> tuple[Tensor, Tensor, ModelState]:
        """As LanguageModel.loss, without dropout and gradients."""
        total, after = self._network.loss(inputs, targets, mask, state)
        return total, total.new_zeros(()), after

    def backward(
        self, inputs: Tensor, targets: Tensor, mask: Tensor | None, state: ModelState, *, step: int, scale: float
    ) -> tuple[Tensor, ModelState]:
        """The sum of losses and the state afterwards; `gradients` are those of the mean that scale makes of the sum."""
        return self._network.loss(inputs, targets, mask, state, backward=True, step=step, scale=scale)

    @property
    def gradient_norm(self) -> Tensor:
        """Length of the last gradient before clipping, where there is a limit to it."""
        return self._network.numbers[2]

    def outputs(self, time: int, batch: int) -> dict[str, Tensor]:
        """What each layer made of the last batch."""
        return self._network.outputs(time, batch)

    def move(self, lr: float) -> None:
        """Update the weights by the gradients, clipped."""
        self._updates.move(lr, torch.get_num_threads())

    def average(self, averages: Mapping[str, Tensor], steps: int) -> None:
        """Take the weights into their average, the `steps`-th ones since it was begun."""
        self._updates.average(averages, steps, torch.get_num_threads())

    def restored(self) -> None:
        """The optimizer was given the memory of a training state."""
        self._updates.forget()
