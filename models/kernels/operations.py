"""Lists of operations for the compiled kernels. All bounds are checked here, when a list is made.

A list is made once for a shape and run at each step; what changes from step to step stands in the tensors that it
points to. Rows of internal arrays are padded to `ALIGN` numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from terry.models.kernels.library import Library

#: Floats to which rows are padded.
ALIGN = 16
#: Rows of the output layer that are worked on at once, and tokens of a block of it.
ROWS, TOKENS = 128, 64
#: Numbers whose squares are added up in float32.
PIECE = 4096


def padded(size: int) -> int:
    """Numbers of a row of `size`, with padding."""
    return -(-size // ALIGN) * ALIGN


class Code(IntEnum):
    """Operations, numbered as in level.h."""

    check_ids = 0
    copy_rows = 1
    zero = 2
    lay_out_forward = 3
    lay_out_backward = 4
    lay_out_bias = 5
    project = 6
    project_back = 7
    weight_slopes = 8
    bias_slopes = 9
    scatter = 10
    turn_forward = 11
    turn_backward = 12
    recurrence_forward = 13
    recurrence_backward = 14
    softmax_gather = 15
    softmax_scores = 16
    softmax_largest = 17
    softmax_exp = 18
    softmax_losses = 19
    softmax_weights = 20
    softmax_hidden = 21
    dropout = 22
    add_scaled = 23
    add_changes = 24
    squares = 25
    clip = 26
    update = 27
    average = 28
    draw_read = 29
    draw_project = 30
    draw_step = 31
    draw_scores = 32
    draw_narrow = 33
    draw_sums = 34
    draw_pick = 35


class Rule(IntEnum):
    """Kinds of updates, numbered as in elementwise.h."""

    sgd = 0
    nesterov = 1
    rmsprop = 2
    adam = 3
    adamw = 4


class _Op(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_int64),
        ("n", ctypes.c_int64 * 12),
        ("p", ctypes.c_void_p * 12),
        ("f", ctypes.c_double * 4),
    )


#: A tensor and the numbers that are read or written from its first one on.
Span = tuple[Tensor | None, int]


class Operations:
    """A list that is being made, then run again and again."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._made: list[_Op] = []
        self._kept: list[Tensor] = []
        self._array: ctypes.Array[_Op] | None = None

    def run(self, threads: int) -> None:
        """Do all of it. Raises IndexError for an id outside of the vocabulary."""
        if self._array is None:
            self._array = (_Op * len(self._made))(*self._made)
        self._library.run(self._array, len(self._array), threads)

    def add(self, code: Code, sizes: Sequence[int], spans: Sequence[Span], factors: Sequence[float] = ()) -> None:
        """Put one operation behind the others. Raises ValueError where a tensor is too small or of the wrong kind."""
        if min(sizes, default=0) < 0:
            raise ValueError(f"{code.name}: sizes must not be negative, not {list(sizes)}")
        op = _Op(code=code)
        for i, size in enumerate(sizes):
            op.n[i] = size
        for i, (tensor, needed) in enumerate(spans):
            op.p[i] = self._address(code, i, tensor, needed)
        for i, factor in enumerate(factors):
            op.f[i] = factor
        self._made.append(op)

    def _address(self, code: Code, place: int, tensor: Tensor | None, needed: int) -> int | None:
        if tensor is None:
            return None
        there = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
        if tensor.device.type != "cpu" or there < needed:
            raise ValueError(
                f"{code.name}: tensor {place} has {there} numbers on {tensor.device}; {needed} on a CPU are needed"
            )
        self._kept.append(tensor)
        return tensor.data_ptr()

    # what stands around the recurrence

    def check_ids(self, ids: Tensor, count: int, limit: int) -> None:
        """Ids from 0 to below limit; these come first in a list."""
        self.add(Code.check_ids, (count, limit), ((_ids(ids), count),))

    def copy_rows(
        self, source: Tensor, to: Tensor, *, rows: int, source_row: int, columns: int, to_row: int,
        ids: Tensor | None = None, source_rows: int | None = None,
    ) -> None:  # fmt: skip
        """Rows, by ids below source_rows if given, with zeros behind the columns."""
        most = rows if source_rows is None else source_rows
        spans = (
            (_floats(source), _last(most, source_row, columns)),
            (_floats(to), _last(rows, to_row, min(padded(columns), to_row))),
            (_ids(ids), rows),
        )
        self.add(Code.copy_rows, (rows, source_row, columns, to_row), spans)

    def zero(self, to: Tensor, count: int, *, rows: Tensor | None = None, unless: int = 0) -> None:
        """Zeros; not where `rows` holds at least `unless`."""
        self.add(Code.zero, (count, unless), ((_floats(to), count), (_ids(rows), 1)))

    def lay_out_forward(self, weight: Tensor, out: Tensor, *, gates: int, units: int, inputs: int) -> None:
        """Weights (gates x units, inputs) for products with rows of inputs."""
        spans = ((_floats(weight), gates * units * inputs), (_floats(out), gates * padded(units) * inputs))
        self.add(Code.lay_out_forward, (gates, units, inputs), spans)

    def lay_out_backward(
        self, weight: Tensor, out: Tensor, order: Tensor, *, gates: int, units: int, inputs: int
    ) -> None:
        """The same weights for products with rows of slopes, whose gates come in `order`."""
        _check_order(order, gates)
        spans = (
            (_floats(weight), gates * units * inputs),
            (_floats(out), gates * padded(units) * padded(inputs)),
            (order, gates),
        )
        self.add(Code.lay_out_backward, (gates, units, inputs), spans)

    def lay_out_bias(
        self, of_inputs: Tensor, recurrent: Tensor, out: Tensor, rest: Tensor, *, gates: int, units: int, both: int
    ) -> None:
        """Biases of inputs with the recurrent ones of the first `both` gates; the last gate's go to `rest`."""
        wide = gates * padded(units)
        spans = (
            (_floats(of_inputs), gates * units), (_floats(recurrent), gates * units), (_floats(out), wide),
            (_floats(rest), padded(units)),
        )  # fmt: skip
        self.add(Code.lay_out_bias, (gates, units, both), spans)

    def project(
        self, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, *, rows: int, inputs: int, row: int, gates: int,
        units: int,
    ) -> None:  # fmt: skip
        """out (rows, gates x padded units) = bias + x (rows, inputs) W, W laid out forward."""
        wide = gates * padded(units)
        spans = (
            (_floats(x), _last(rows, row, inputs)), (_floats(weight), wide * inputs), (_floats(bias), wide),
            (_floats(out), rows * wide),
        )  # fmt: skip
        self.add(Code.project, (rows, inputs, row, gates, units), spans)

    def project_back(
        self, slopes: Tensor, weight: Tensor, out: Tensor, *, rows: int, inner: int, row: int, columns: int,
        out_row: int, more: bool = False,
    ) -> None:  # fmt: skip
        """out (rows, columns) = slopes (rows, inner) W, W laid out backward; `more`: added to what is there."""
        spans = (
            (_floats(slopes), _last(rows, row, inner)), (_floats(weight), inner * padded(columns)),
            (_floats(out), _last(rows, out_row, columns)),
        )  # fmt: skip
        self.add(Code.project_back, (rows, inner, row, columns, out_row, int(more)), spans)

    def weight_slopes(
        self, slopes: Tensor, x: Tensor, out: Tensor, order: Tensor, *, rows: int, gates: int, units: int, row: int,
        columns: int, x_row: int,
    ) -> None:  # fmt: skip
        """Gradient (gates x units, columns) of weights: slopes^T x, x with padded rows."""
        _check_order(order, gates)
        if x_row < padded(columns):
            raise ValueError(f"rows of {x_row} numbers are not padded: {padded(columns)} are read")
        spans = (
            (_floats(slopes), _last(rows, row, gates * padded(units))),
            (_floats(x), _last(rows, x_row, padded(columns))), (_floats(out), gates * units * columns), (order, gates),
        )  # fmt: skip
        self.add(Code.weight_slopes, (rows, gates, units, row, columns, x_row), spans)

    def bias_slopes(
        self, slopes: Tensor, outs: tuple[Tensor | None, Tensor | None], order: Tensor, *, rows: int, gates: int,
        units: int, row: int,
    ) -> None:  # fmt: skip
        """Gradient of biases: the slopes added up."""
        _check_order(order, gates)
        one, other = ((None if out is None else _floats(out), gates * units) for out in outs)
        spans = ((_floats(slopes), _last(rows, row, gates * padded(units))), one, other, (order, gates))
        self.add(Code.bias_slopes, (rows, gates, units, row), spans)

    def scatter(
        self, source: Tensor, to: Tensor, ids: Tensor, *, rows: int, row: int, columns: int, to_row: int, limit: int
    ) -> None:
        """to[ids] += source, row by row; ids were checked to be below limit."""
        spans = (
            (_floats(source), _last(rows, row, columns)), (_floats(to), _last(limit, to_row, columns)),
            (_ids(ids), rows),
        )  # fmt: skip
        self.add(Code.scatter, (rows, row, columns, to_row), spans)

    def turn_forward(self, weight: Tensor, bias: Tensor, out: Tensor, *, tokens: int, gates: int, units: int) -> None:
        """One-hot inputs: the projected row of each token."""
        wide = gates * padded(units)
        spans = ((_floats(weight), gates * units * tokens), (_floats(bias), wide), (_floats(out), tokens * wide))
        self.add(Code.turn_forward, (tokens, gates, units), spans)

    def turn_backward(self, slopes: Tensor, out: Tensor, order: Tensor, *, tokens: int, gates: int, units: int) -> None:
        """One-hot inputs: the gradient of the weights from that of the projected rows."""
        _check_order(order, gates)
        spans = (
            (_floats(slopes), tokens * gates * padded(units)), (_floats(out), gates * units * tokens), (order, gates)
        )  # fmt: skip
        self.add(Code.turn_backward, (tokens, gates, units), spans)

    # dropout, penalties, updates

    def dropout(
        self, source: Tensor, to: Tensor, clock: Tensor, *, rows: int, columns: int, share: float, site: int,
        row: int | None = None, period: int | None = None, whole: bool = False,
    ) -> None:  # fmt: skip
        """to = source with dropout; `period`: rows after which the mask comes again; `whole`: of whole rows."""
        row = columns if row is None else row
        spans = (
            (_floats(source), _last(rows, row, columns)), (_floats(to), _last(rows, row, columns)), (_ids(clock), 2)
        )  # fmt: skip
        sizes = (rows, columns, row, row, max(1, rows if period is None else period), site, int(whole))
        self.add(Code.dropout, sizes, spans, (share,))

    def add_scaled(self, x: Tensor, to: Tensor, count: int, factor: float) -> None:
        """to += factor x."""
        self.add(Code.add_scaled, (count,), ((_floats(x), count), (_floats(to), count)), (factor,))

    def add_changes(self, x: Tensor, to: Tensor, *, time: int, row: int, factor: float) -> None:
        """Gradient of the squared change of x (time, row) from step to step, times factor / 2."""
        if row % ALIGN:
            raise ValueError(f"rows of {row} numbers are not padded")
        self.add(Code.add_changes, (time, row), ((_floats(x), time * row), (_floats(to), time * row)), (factor,))

    def squares(self, x: Tensor, out: Tensor) -> None:
        """Sum of squares of each piece of x, float64."""
        count = x.numel()
        self.add(Code.squares, (count,), ((_floats(x), count), (_doubles(out), -(-count // PIECE))))

    def clip(self, pieces: Tensor, length: Tensor, factor: Tensor, limit: float) -> None:
        """Length of the whole gradient, and what shortens it to `limit`."""
        spans = ((_doubles(pieces), pieces.numel()), (_doubles(length), 1), (_doubles(factor), 1))
        self.add(Code.clip, (pieces.numel(),), spans, (limit,))

    def update(
        self, rule: Rule, weight: Tensor, grad: Tensor, memories: tuple[Tensor | None, Tensor | None],
        numbers: Tensor, settings: tuple[float, float, float, float],
    ) -> None:  # fmt: skip
        """Move weights. numbers: factor of the gradient, rate, Adam's rate, root of its second correction; settings:
        decay, momentum or first beta, alpha or second beta, eps.
        """
        count = weight.numel()
        one, other = ((None if memory is None else _floats(memory), count) for memory in memories)
        if (rule in (Rule.adam, Rule.adamw) and None in memories) or (rule is Rule.rmsprop and memories[1] is None):
            raise ValueError(f"{rule.name} needs its memory")
        spans = ((_floats(weight), count), (_floats(grad), count), one, other, (_doubles(numbers), 4))
        self.add(Code.update, (count, rule), spans, settings)

    def average(self, weight: Tensor, to: Tensor, share: Tensor) -> None:
        """to += (weight - to) share."""
        count = weight.numel()
        self.add(Code.average, (count,), ((_floats(weight), count), (_floats(to), count), (_doubles(share), 1)))


def _last(rows: int, row: int, columns: int) -> int:
    """Numbers up to the last column of the last row."""
    return 0 if not rows else (rows - 1) * row + columns


def _check_order(order: Tensor, gates: int) -> None:
    if order.dtype != torch.int64 or sorted(order.tolist()) != list(range(gates)):
        raise ValueError(f"the order of {gates} gates must name each of them once, not {order.tolist()}")


def _floats(tensor: Tensor) -> Tensor:
    return _of_kind(tensor, torch.float32)


def _doubles(tensor: Tensor) -> Tensor:
    return _of_kind(tensor, torch.float64)


def _ids(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _of_kind(tensor, torch.int64)


def _of_kind(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.dtype != dtype or not tensor.is_contiguous():
        raise ValueError(f"a contiguous tensor of {dtype} is needed, not {tensor.dtype} with strides {tensor.stride()}")
    return tensor
