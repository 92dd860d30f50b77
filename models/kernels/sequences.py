"""Operations of the recurrence and of the output layer, with their bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from terry.models.kernels.operations import ROWS, TOKENS, Code, Operations, Span, padded

#: Gates of a cell, and arrays of slopes that its backward pass leaves (a GRU's fourth: of what is inside of its reset).
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
SLOPES = {"rnn": 1, "gru": 4, "lstm": 4}


@dataclass(slots=True, kw_only=True)
class Recurrence:
    """Arrays of one layer's pass through (time, batch) steps; rows are padded."""

    cell: str
    relu: bool
    time: int
    batch: int
    units: int
    states: Tensor  #: (time + 1, batch, units), h_0 first
    gates: Tensor  #: (time, batch, gates x units)
    cells: Tensor | None  #: as states, for an LSTM
    inner: Tensor | None  #: (time, batch, units): W_n h + b_n of a GRU, tanh(c) of an LSTM

    @property
    def rows(self) -> int:
        """Steps of all texts."""
        return self.time * self.batch

    def _spans(self) -> tuple[Span, Span, Span, Span]:
        wide, more = padded(self.units), (self.time + 1) * self.batch
        gated, inside = self.cell == "lstm", self.cell != "rnn"
        if (gated and self.cells is None) or (inside and self.inner is None):
            raise ValueError(f"{self.cell} needs all of its arrays")
        return (
            (self.states, more * wide), (self.gates, self.rows * GATES[self.cell] * wide),
            (self.cells if gated else None, more * wide), (self.inner if inside else None, self.rows * wide),
        )  # fmt: skip

    def _sizes(self) -> tuple[int, ...]:
        return self.time, self.batch, self.units, GATES[self.cell], int(self.relu)

    def forward(
        self, operations: Operations, x: Tensor, weight: Tensor, bias: Tensor, *, ids: Tensor | None = None,
        x_rows: int | None = None,
    ) -> None:  # fmt: skip
        """All steps. x: projected inputs, (x_rows, gates x units), by ids or in order (then it may be `gates`)."""
        wide = GATES[self.cell] * padded(self.units)
        states, gates, cells, inner = self._spans()
        rows = self.rows if x_rows is None else x_rows
        spans = (
            (x, rows * wide), (ids, self.rows), states, gates, cells, inner, (weight, wide * self.units),
            (bias, padded(self.units)),
        )  # fmt: skip
        operations.add(Code.recurrence_forward, self._sizes(), spans)

    def backward(
        self, operations: Operations, up: Tensor, weight: Tensor, slopes: Tensor, carry: Tensor, carry_cell: Tensor
    ) -> None:
        """Slopes of all gates from the gradient `up` of the outputs; weight laid out backward."""
        units = padded(self.units)
        states, gates, cells, inner = self._spans()
        spans = (
            (up, self.rows * units), states, gates, cells, inner, (weight, GATES[self.cell] * units * units),
            (slopes, self.rows * SLOPES[self.cell] * units), (carry, self.batch * units),
            (carry_cell, self.batch * units),
        )  # fmt: skip
        operations.add(Code.recurrence_backward, self._sizes(), spans)


class SoftmaxWork:
    """Memory of the output layer, used again for each chunk of rows and each shape."""

    def __init__(self, vocabulary: int, units: int, threads: int) -> None:
        blocks, wide = -(-vocabulary // TOKENS), padded(units)
        self._parts = (
            torch.empty(vocabulary * ROWS),
            torch.empty(units * ROWS),
            torch.empty((blocks + 2) * ROWS),
            torch.empty(threads * TOKENS * wide),
            torch.zeros(2 * ROWS * wide),
        )
        self.addresses = torch.tensor([part.data_ptr() for part in self._parts], dtype=torch.int64)
        self.vocabulary, self.units, self.threads = vocabulary, units, threads


@dataclass(slots=True, kw_only=True)
class OutputLayer:
    """Softmax and loss of rows (rows, padded units)."""

    hidden: Tensor
    rows: int  #: at most
    weight: Tensor  #: (vocabulary, units)
    bias: Tensor
    targets: Tensor  #: int64 (rows,), checked
    kept: Tensor  #: int64, which rows count
    count: Tensor  #: int64 (1,), how many of them
    scale: Tensor  #: float64 (1,): what the gradient is multiplied by
    loss: Tensor  #: float64 (1,): the sum of the losses, nats
    work: SoftmaxWork
    gradients: tuple[Tensor, Tensor | None, Tensor] | None = None  #: of hidden, weight, bias
    _spans: tuple[Span, ...] = field(init=False, default=())

    def add(self, operations: Operations) -> None:
        """Chunk by chunk."""
        vocabulary, units = self.weight.shape
        work = self.work
        if (work.vocabulary, work.units) != (vocabulary, units):
            raise ValueError("this work space is of another output layer")
        wide = padded(units)
        hidden, weight, bias = self.gradients or (None, None, None)
        spans: tuple[Span, ...] = (
            (self.hidden, self.rows * wide), (self.weight, vocabulary * units), (self.bias, vocabulary),
            (self.targets, self.rows), (self.kept, self.rows), (self.count, 1), (self.scale, 1), (work.addresses, 5),
            (hidden, self.rows * wide), (weight, vocabulary * units), (bias, vocabulary), (self.loss, 1),
        )  # fmt: skip
        codes = [Code.softmax_gather, Code.softmax_scores, Code.softmax_largest, Code.softmax_exp, Code.softmax_losses]
        if self.gradients is not None:
            codes += [Code.softmax_weights, Code.softmax_hidden]
        for first in range(0, self.rows, ROWS):
            for code in codes:
                operations.add(code, (first, vocabulary, units, int(self.gradients is not None)), spans)
