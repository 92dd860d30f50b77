"""Operations that draw the next token of each text, with their bounds. See draws.h."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from terry.models.kernels.operations import Code, Operations, Span, padded

#: Tokens whose exponentials are added up as one.
BLOCK = 64
#: Score of a token that is not there.
NOTHING = -1e30
#: Members of an ensemble that the kernels know.
MEMBERS = 64


def blocks_of(tokens: int) -> int:
    """Blocks of a vocabulary."""
    return -(-tokens // BLOCK)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows (texts) of a list of operations: how many there are is read when it runs."""

    count: Tensor  #: int64 (1,), from 0 to `most`
    most: int

    def read(self, operations: Operations, table: Tensor, ids: Tensor, out: Tensor) -> None:
        """out (rows, padded columns) float64 = rows of a float32 table (tokens, columns); ids are checked."""
        columns = table.shape[1]
        spans: tuple[Span, ...] = (
            (self.count, 1), (_of(table, torch.float32), table.numel()), (_of(ids, torch.int64), self.most),
            (_of(out, torch.float64), self.most * padded(columns)),
        )  # fmt: skip
        operations.add(Code.draw_read, (columns, padded(columns)), spans)

    def project(
        self, operations: Operations, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, *, inputs: int, gates: int,
        units: int,
    ) -> None:  # fmt: skip
        """out (rows, gates x padded units) = bias + x W, W laid out forward; all but W float64."""
        wide = gates * padded(units)
        spans: tuple[Span, ...] = (
            (self.count, 1), (_of(x, torch.float64), self.most * padded(inputs)),
            (_of(weight, torch.float32), wide * inputs), (_of(bias, torch.float64), wide),
            (_of(out, torch.float64), self.most * wide),
        )  # fmt: skip
        operations.add(Code.draw_project, (inputs, padded(inputs), gates, units), spans)

    def step(
        self, operations: Operations, x: Tensor, weight: Tensor, rest: Tensor, state: Sequence[Tensor], work: Tensor, *,
        gates: int, units: int, relu: bool, ids: Tensor | None = None, x_rows: int | None = None,
    ) -> None:  # fmt: skip
        """States, in place, by one more step. x: the inputs' part of the gates, in order or by ids below x_rows."""
        wide, row = gates * padded(units), padded(units)
        cell = state[1] if gates == 4 else None
        spans: tuple[Span, ...] = (
            (self.count, 1), (_of(x, torch.float64), (self.most if x_rows is None else x_rows) * wide),
            (ids, self.most), (_of(weight, torch.float32), wide * units), (_of(rest, torch.float64), row),
            (_of(state[0], torch.float64), self.most * row), (cell, self.most * row),
            (_of(work, torch.float64), self.most * wide),
        )  # fmt: skip
        operations.add(Code.draw_step, (units, gates, int(relu)), spans)

    def scores(
        self, operations: Operations, hidden: Tensor, weight: Tensor, bias: Tensor, out: Tensor, *, tokens: int,
        units: int,
    ) -> None:  # fmt: skip
        """out (rows, padded tokens) float64: scores of all tokens."""
        wide = padded(tokens)
        spans: tuple[Span, ...] = (
            (self.count, 1), (_of(hidden, torch.float64), self.most * padded(units)),
            (_of(weight, torch.float32), wide * units), (_of(bias, torch.float64), wide),
            (_of(out, torch.float64), self.most * wide),
        )  # fmt: skip
        operations.add(Code.draw_scores, (tokens, units), spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLayer:
    """A member's output layer."""

    tokens: int
    units: int
    weight: Tensor  #: laid out forward
    bias: Tensor  #: float32, whole blocks of it, `NOTHING` behind the tokens
    longest: float  #: length of the longest row of weights
    highest: float  #: the largest bias, without its sign


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """Draws a token a row from the mean of members' probabilities, and says where float32 does not decide which."""

    rows: Rows
    members: Sequence[OutputLayer]
    hidden: Sequence[Tensor]  #: float64 (rows, padded units) each
    shares: Tensor  #: float64, of each member
    allowed: Tensor | None  #: float32, whole blocks: 1 for a token that may come, else 0; None: all, temperature 1
    warmth: float  #: 1 / temperature
    numbers: Tensor  #: float64 (rows,), from 0 to below 1
    tokens: Tensor  #: int64 (rows,), what was drawn
    log_p: Tensor  #: float64 (rows,), its log probability without temperature and with all tokens
    certain: Tensor  #: int64 (rows,), 0: to be drawn again in float64

    def add(self, operations: Operations) -> None:
        """Put all of it into the list. Raises ValueError for more than `MEMBERS`."""
        most, count = self.rows.most, len(self.members)
        tokens = self.members[0].tokens
        blocks = blocks_of(tokens)
        if count > MEMBERS:
            raise ValueError(f"{count} members, and the kernels know up to {MEMBERS}")
        if self.allowed is None and self.warmth != 1:
            raise ValueError("a temperature needs to know which tokens there are")
        sums = torch.zeros(most * count * 2 * blocks, dtype=torch.float64)
        shifts, wrong = (torch.zeros(count * most, dtype=torch.float64) for _ in range(2))
        narrow = [torch.zeros(most * padded(member.units)) for member in self.members]
        for i, member in enumerate(self.members):
            own = slice(i * most, None)
            spans: tuple[Span, ...] = (
                (self.rows.count, 1), (_of(self.hidden[i], torch.float64), narrow[i].numel()),
                (narrow[i], narrow[i].numel()), (shifts[own], most), (wrong[own], most),
            )  # fmt: skip
            operations.add(Code.draw_narrow, (member.units,), spans, (member.longest, member.highest))
        for i, member in enumerate(self.members):
            spans = (
                (self.rows.count, 1), (narrow[i], narrow[i].numel()),
                (_of(member.weight, torch.float32), padded(tokens) * member.units),
                (_of(member.bias, torch.float32), blocks * BLOCK), (self.allowed, blocks * BLOCK),
                (shifts[i * most :], most), (sums, sums.numel()),
            )  # fmt: skip
            operations.add(
                Code.draw_sums, (tokens, member.units, i, count, int(self.allowed is None)), spans, (self.warmth,)
            )
        spans = (
            (self.rows.count, 1), (_of(self.shares, torch.float64), count), (_of(self.numbers, torch.float64), most),
            (wrong, count * most), (_of(self.tokens, torch.int64), most), (_of(self.log_p, torch.float64), most),
            (_of(self.certain, torch.int64), most),
        )  # fmt: skip
        operations.add(Code.draw_pick, (count, tokens, most), spans, (max(1.0, self.warmth),))


def _of(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.dtype != dtype or not tensor.is_contiguous():
        raise ValueError(f"a contiguous tensor of {dtype} is needed, not {tensor.dtype} with strides {tensor.stride()}")
    return tensor
