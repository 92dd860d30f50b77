"""A language model's weights as drawing reads them, laid out once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from terry.models.cells import Gru, Lstm, Rnn
from terry.models.config import Input
from terry.models.ensemble import Ensemble
from terry.models.kernels.draws import BLOCK, MEMBERS, NOTHING, OutputLayer, Rows, blocks_of
from terry.models.kernels.library import Library, find
from terry.models.kernels.operations import Operations, padded
from terry.models.kernels.sequences import GATES
from terry.models.language_model import LanguageModel


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnLayer:
    """One recurrent layer."""

    gates: int
    inputs: int
    units: int
    relu: bool
    recurrent: Tensor  #: laid out forward
    rest: Tensor  #: float64 (padded units,), of a GRU's W_n h
    bias: Tensor  #: float64 (gates x padded units,)
    weight: Tensor | None  #: of inputs, laid out forward; None: the table has it all
    table: Tensor | None = None  #: float64 (tokens, gates x padded units): each token's part of the gates

    @property
    def wide(self) -> int:
        """Numbers of a row of all gates."""
        return self.gates * padded(self.units)


class DrawnModel:
    """All of a model; later changes of its weights are not seen."""

    def __init__(self, model: LanguageModel, library: Library) -> None:
        self._library, self._threads = library, torch.get_num_threads()
        self.embedding = None if model.embedding is None else model.embedding.detach().clone()
        self.layers = [self._layer(model, i) for i in range(len(model.recurrent_layers))]
        self.output = self._output_layer(model)
        bias = model.output_bias.detach().double()
        self.exact_bias = functional.pad(bias, (0, padded(len(bias)) - len(bias)))  #: float64, padded with zeros

    def _output_layer(self, model: LanguageModel) -> OutputLayer:
        weight, bias = model.decoder.detach(), model.output_bias.detach()
        tokens, units = weight.shape
        whole = torch.full((blocks_of(tokens) * BLOCK,), NOTHING)
        whole[:tokens] = bias
        return OutputLayer(
            tokens=tokens, units=units, weight=self._laid(weight, gates=1, units=tokens), bias=whole,
            longest=float(weight.double().norm(dim=1).max()), highest=float(bias.double().abs().max()),
        )  # fmt: skip

    def _layer(self, model: LanguageModel, number: int) -> DrawnLayer:
        layer = model.recurrent_layers[number]
        assert isinstance(layer, Rnn | Gru | Lstm), f"no kernels for {type(layer).__name__}"
        gates, units = layer.gates, layer.hidden_size
        bias, hh = layer.bias_ih.detach().double(), layer.bias_hh.detach().double()
        both = 2 * units if isinstance(layer, Gru) else gates * units
        bias = torch.cat((bias[:both] + hh[:both], bias[both:]))
        rest = hh[both:] if isinstance(layer, Gru) else hh.new_zeros(units)
        onehot = number == 0 and model.config.input is Input.onehot
        weight = layer.weight_ih.detach()
        made = DrawnLayer(
            gates=gates, inputs=layer.input_size, units=units, relu=isinstance(layer, Rnn) and layer.relu,
            recurrent=self._laid(layer.weight_hh.detach(), gates=gates, units=units),
            rest=_gates_padded(rest, 1, units), bias=_gates_padded(bias, gates, units),
            weight=None if onehot else self._laid(weight, gates=gates, units=units),
            table=_gates_padded(weight.t().double() + bias, gates, units).flatten() if onehot else None,
        )  # fmt: skip
        return made

    def _laid(self, weight: Tensor, *, gates: int, units: int) -> Tensor:
        inputs = weight.shape[1]
        out = torch.zeros(gates * padded(units) * inputs)
        operations = Operations(self._library)
        operations.lay_out_forward(weight.contiguous(), out, gates=gates, units=units, inputs=inputs)
        operations.run(self._threads)
        return out

    def states(self, rows: int) -> list[list[Tensor]]:
        """Zeros, (rows, padded units) of each part of each layer."""
        return [
            [torch.zeros(rows, padded(layer.units), dtype=torch.float64) for _ in range(2 if layer.gates == 4 else 1)]
            for layer in self.layers
        ]

    def read(self, operations: Operations, rows: Rows, ids: Tensor, states: list[list[Tensor]]) -> None:
        """One more token a row, through all layers."""
        for i, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            work = torch.zeros(rows.most * layer.wide, dtype=torch.float64)
            x = layer.table
            by_id = x is not None
            if x is None:
                x = self._projected(operations, rows, ids, states[i - 1][0] if i else None, layer)
            rows.step(
                operations, x, layer.recurrent, layer.rest, state, work, gates=layer.gates, units=layer.units,
                relu=layer.relu, ids=ids if by_id else None, x_rows=x.numel() // layer.wide,
            )  # fmt: skip

    def _projected(
        self, operations: Operations, rows: Rows, ids: Tensor, below: Tensor | None, layer: DrawnLayer
    ) -> Tensor:
        """The inputs' part of a layer's gates; below: the states of the layer below it."""
        x = self._words(operations, rows, ids, layer) if below is None else below
        gates = torch.zeros(rows.most * layer.wide, dtype=torch.float64)
        assert layer.weight is not None
        rows.project(
            operations, x, layer.weight, layer.bias, gates, inputs=layer.inputs, gates=layer.gates, units=layer.units
        )
        return gates

    def _words(self, operations: Operations, rows: Rows, ids: Tensor, layer: DrawnLayer) -> Tensor:
        assert self.embedding is not None
        x = torch.zeros(rows.most * padded(layer.inputs), dtype=torch.float64)
        rows.read(operations, self.embedding, ids, x)
        return x


def _gates_padded(values: Tensor, gates: int, units: int) -> Tensor:
    """(..., gates x units) -> (..., gates x padded units)."""
    parted = values.reshape(*values.shape[:-1], gates, units)
    return functional.pad(parted, (0, padded(units) - units)).flatten(-2).contiguous()


def library_for(ensemble: Ensemble) -> Library | None:
    """The compiled kernels, where they can draw from all members."""
    found = find()
    cells = all(member.config.cell in GATES for member in ensemble.members)
    weights = [weight for member in ensemble.members for weight in member.parameters()]
    known = cells and all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights)
    return None if isinstance(found, str) or not known or len(ensemble.members) > MEMBERS else found
