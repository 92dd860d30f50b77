"""What a network's compiled operations read and write: its layers, and memory by name that stays where it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from terry.models.cells import Gru, Lstm, Rnn
from terry.models.kernels.library import Library
from terry.models.kernels.operations import padded
from terry.models.kernels.sequences import GATES, SLOPES, SoftmaxWork
from terry.models.language_model import LanguageModel


@dataclass(slots=True, kw_only=True)
class Layer:
    """One recurrent layer, its arrays and its carried state."""

    cell: str
    relu: bool
    inputs: int
    units: int
    weight_drop: float
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    name: str

    @property
    def gates(self) -> int:
        """Gates of the cell."""
        return GATES[self.cell]

    @property
    def wide(self) -> int:
        """Numbers of a row of all gates."""
        return self.gates * padded(self.units)

    @property
    def slopes(self) -> int:
        """Numbers of a row of slopes."""
        return SLOPES[self.cell] * padded(self.units)


class Arrays:
    """Memory by name, kept as long as it is large enough."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self.grown = 0  #: how often memory moved: lists made before point to what was there

    def take(self, name: str, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """At least `count` numbers; zeros when new."""
        found = self._tensors.get(name)
        if found is None or found.numel() < count:
            self.grown += found is not None
            found = self._tensors[name] = torch.zeros(count, dtype=dtype)
        return found


class Memory:
    """A model's arrays, as operations are given them.

    numbers (float64): loss, scale of the gradient, length of the gradient, then factor of the gradient, rate, Adam's
    rate, root of its second correction (see `update`).
    """

    work: SoftmaxWork  #: of the softmax, for as many threads as compute

    def __init__(self, model: LanguageModel, library: Library, *, seed: int) -> None:
        self.model, self.library = model, library
        self.numbers = torch.zeros(8, dtype=torch.float64)
        self.numbers[3] = 1.0
        self.clock = torch.tensor([seed, 0], dtype=torch.int64)  #: seed and step: what masks of dropout depend on
        self._arrays = Arrays()
        self.layers = [self._layer(i) for i in range(len(model.recurrent_layers))]
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        #: gradients by name, in the model's order; their memory stays
        self.gradients = {name: torch.zeros_like(p, requires_grad=False) for name, p in trained.items()}

    def _layer(self, number: int) -> Layer:
        layer = self.model.recurrent_layers[number]
        assert isinstance(layer, Rnn | Gru | Lstm), f"no kernels for {type(layer).__name__}"
        return Layer(
            cell=self.model.config.cell,
            relu=isinstance(layer, Rnn) and layer.relu,
            inputs=layer.input_size,
            units=layer.hidden_size,
            weight_drop=layer.weight_drop,
            weight_ih=layer.weight_ih.detach(),
            weight_hh=layer.weight_hh.detach(),
            bias_ih=layer.bias_ih.detach(),
            bias_hh=layer.bias_hh.detach(),
            name=f"layers.{number}",
        )

    def ids(self, name: str, count: int) -> Tensor:
        """int64 memory."""
        return self._arrays.take(name, count, torch.int64)

    def floats(self, name: str, count: int) -> Tensor:
        """float32 memory."""
        return self._arrays.take(name, count)

    def carried(self, layer: int, part: int, batch: int, *, training: bool) -> Tensor:
        """Where a part of a layer's state stays between two batches, padded with zeros; in training and out of it."""
        count = batch * padded(self.layers[layer].units)
        return self.floats(f"carried.{training}.{layer}.{part}", count)[:count]
