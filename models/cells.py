"""Recurrent layers: vanilla RNN, GRU, LSTM, and cells of the user's own by import path.

A layer maps (time, batch, inputs) and a state, a tuple of (batch, size) tensors, to (time, batch, size) and the state
after the last step. Parameters are named and ordered as in torch.nn.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from terry.models import torch_kernels
from terry.models.config import Nonlinearity
from terry.models.errors import ConfigError
from terry.models.recurrence import GruSequence, LstmSequence, RnnSequence

#: What a layer carries from step to step; its first tensor is the output of the last step.
State = tuple[Tensor, ...]


#: So often must a row of the table be looked up on average for `prefers_ids`.
_REPEATED = 4
#: rows of a batch x units^2 from which an LSTM by `LstmSequence` and a table is as fast as torch's, by threads^2:
#: measured with one and two threads, 50 to 400 units, batches of 8 to 128 (benchmarks/RESULTS.md).
_LSTM_WORK = 450_000


class RecurrentLayer(nn.Module):
    """What the language model needs of a layer."""

    #: units; the size of the output
    hidden_size: int
    #: tensors in a state
    states: int = 1

    def forward(self, x: Tensor, state: State, table: Tensor | None = None) -> tuple[Tensor, State]:
        """x: (time, batch, inputs), or (time, batch) int64 ids.

        Ids stand for rows of `table` (vocabulary, inputs) where `prefers_ids` is True, and for one-hot vectors without.
        """
        raise NotImplementedError

    def prefers_ids(self, rows: int, time: int, batch: int) -> bool:
        """Whether (time, batch) ids and a table of so many rows are better for training than the rows themselves."""
        del rows, time, batch
        return False


class _BuiltIn(RecurrentLayer):
    """Weights and biases as torch.nn has them, dropout of the recurrent weights, projection of the inputs."""

    gates: int

    def __init__(self, input_size: int, hidden_size: int, *, weight_drop: float = 0.0) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.weight_drop = input_size, hidden_size, weight_drop
        rows = self.gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))

    def recurrent(self) -> Tensor:
        """Recurrent weights, some of them dropped while training (Merity et al. 2017, section 2)."""
        return (
            functional.dropout(self.weight_hh, self.weight_drop, self.training) if self.weight_drop else self.weight_hh
        )

    def prefers_ids(self, rows: int, time: int, batch: int) -> bool:
        """On a CPU, where ids repeat: the product with the inputs is then taken once for each row of the table."""
        return not self.weight_ih.is_cuda and time * batch >= _REPEATED * rows

    def project(self, x: Tensor, bias: Tensor, table: Tensor | None) -> Tensor:
        """The inputs' part of all gates, for all steps at once, float32: (time, batch, gates x units)."""
        if x.dtype == torch.int64:
            if table is None:
                return functional.embedding(x, self.weight_ih.t()) + bias
            return functional.embedding(x, self.project(table, bias, None))
        return functional.linear(x, self.weight_ih, bias).to(self.weight_hh.dtype)

    def by_torch(self, kernel: str, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The same by torch's own kernel (cuDNN, or oneDNN on a CPU), all steps in one call."""
        weights = [self.weight_ih, self.recurrent(), self.bias_ih, self.bias_hh]
        first = tuple(part.unsqueeze(0).to(x.dtype) for part in state)
        hx = first if self.states > 1 else first[0]
        outputs, *last = getattr(torch, kernel)(x, hx, weights, True, 1, 0.0, self.training, False, False)
        return outputs, tuple(part.squeeze(0) for part in last)


def _on_cudnn(kernel: str, x: Tensor) -> bool:
    return x.is_cuda and x.dtype != torch.int64 and torch_kernels.runs(kernel, x.device)


class Rnn(_BuiltIn):
    """h' = tanh or relu(W_ih x + b_ih + W_hh h + b_hh) (Elman 1990)."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: Nonlinearity = Nonlinearity.tanh,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, weight_drop=weight_drop)
        self.relu = nonlinearity is Nonlinearity.relu

    def forward(self, x: Tensor, state: State, table: Tensor | None = None) -> tuple[Tensor, State]:
        kernel = "rnn_relu" if self.relu else "rnn_tanh"
        if _on_cudnn(kernel, x):
            return self.by_torch(kernel, x, state)
        projected = self.project(x, self.bias_ih + self.bias_hh, table)
        first = state[0].to(projected.dtype)  # under autocast torch's kernels leave bfloat16
        outputs = RnnSequence.apply(projected, first, self.recurrent(), self.relu)  # type: ignore[no-untyped-call]
        return outputs, (outputs[-1],)


class Gru(_BuiltIn):
    """A GRU (Cho et al. 2014) with the reset gate after the product, as in cuDNN."""

    gates = 3

    def forward(self, x: Tensor, state: State, table: Tensor | None = None) -> tuple[Tensor, State]:
        if _on_cudnn("gru", x):
            return self.by_torch("gru", x, state)
        split = 2 * self.hidden_size
        inside = torch.cat((self.bias_ih[:split] + self.bias_hh[:split], self.bias_ih[split:]))
        projected = self.project(x, inside, table)
        first = state[0].to(projected.dtype)
        outputs = GruSequence.apply(projected, first, self.recurrent(), self.bias_hh[split:])  # type: ignore[no-untyped-call]
        return outputs, (outputs[-1],)


class Lstm(_BuiltIn):
    """An LSTM with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

    gates = 4
    states = 2

    def prefers_ids(self, rows: int, time: int, batch: int) -> bool:
        """Only where the steps' products outweigh what our own loop over them costs: torch's is one call."""
        work = batch * self.hidden_size**2
        return super().prefers_ids(rows, time, batch) and work >= _LSTM_WORK * torch.get_num_threads() ** 2

    def forward(self, x: Tensor, state: State, table: Tensor | None = None) -> tuple[Tensor, State]:
        # torch's kernel for CPUs is the fastest here, unlike those of RNN and GRU
        if x.dtype != torch.int64 and torch_kernels.runs("lstm", x.device):
            return self.by_torch("lstm", x, state)
        projected = self.project(x, self.bias_ih + self.bias_hh, table)
        first = (part.to(projected.dtype) for part in state)
        outputs, memory = LstmSequence.apply(projected, *first, self.recurrent())  # type: ignore[no-untyped-call]
        return outputs, (outputs[-1], memory)


class OwnCell(RecurrentLayer):
    """A user's cell, called step by step.

    The class is made as `Class(inputs, units)` and called as `cell(x, state) -> state` with x (batch, inputs) and
    tensors (batch, units): one tensor, or a tuple of as many as the class's attribute `states` says, the output first.
    So torch.nn:GRUCell and torch.nn:LSTMCell are such cells.
    """

    def __init__(self, input_size: int, hidden_size: int, cell: type[nn.Module]) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.input_size = input_size
        self.cell = cell(input_size, hidden_size)
        self.states = getattr(cell, "states", 2 if issubclass(cell, nn.LSTMCell) else 1)

    def forward(self, x: Tensor, state: State, table: Tensor | None = None) -> tuple[Tensor, State]:
        if x.dtype == torch.int64:
            x = functional.one_hot(x, self.input_size).to(state[0].dtype) if table is None else table[x]
        outputs = []
        for x_t in x.unbind(0):
            made = self.cell(x_t, state if self.states > 1 else state[0])
            state = made if isinstance(made, tuple) else (made,)
            outputs.append(state[0])
        return torch.stack(outputs), state


def own_cell(path: str) -> type[nn.Module]:
    """The class at `package.module:Class`. Raises ConfigError."""
    module_name, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"model.cell: {path} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"model.cell: {path} is not a class derived from torch.nn.Module")
    return found


def make_layer(
    cell: str, input_size: int, hidden_size: int, *, nonlinearity: Nonlinearity, weight_drop: float
) -> RecurrentLayer:
    """A layer by its cell's name or import path. Weights of the built-in ones are not set yet."""
    if cell == "rnn":
        return Rnn(input_size, hidden_size, nonlinearity=nonlinearity, weight_drop=weight_drop)
    if cell == "gru":
        return Gru(input_size, hidden_size, weight_drop=weight_drop)
    if cell == "lstm":
        return Lstm(input_size, hidden_size, weight_drop=weight_drop)
    return OwnCell(input_size, hidden_size, own_cell(cell))
