"""The softmax layer and its loss in one: cross-entropy by chunks of rows, the gradient computed on the way forward.

At a vocabulary of 8,000 the logits of a batch are the largest array of the whole step by far, and a loop that writes
them, reads them for the loss, keeps them, and reads them again for the gradient spends its time on memory. Here a chunk
of rows goes through logits, probabilities and all its gradients while it is in the cache, in a buffer that is used
again for the next chunk and the next step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Logits of a chunk on a CPU: 256 rows of 8,000 in float32 are 8 MB, which a last-level cache holds.
CPU_LOGITS = 256 * 8_000
#: Logits of a chunk on other devices, where a few large products are better than many small ones.
DEVICE_LOGITS = 1 << 26


class Workspace:
    """The buffer of logits. One belongs to each model, so that models in several threads do not share it."""

    def __init__(self, rows: int | None = None) -> None:
        self._rows = rows
        self._buffer = torch.empty(0)

    def rows(self, vocabulary: int, device: torch.device) -> int:
        """Rows of a chunk."""
        if self._rows is not None:
            return self._rows
        return max(64, (CPU_LOGITS if device.type == "cpu" else DEVICE_LOGITS) // vocabulary)

    def take(self, rows: int, vocabulary: int, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A (rows, vocabulary) array whose content does not matter."""
        count, dtype = rows * vocabulary, dtype or like.dtype
        if self._buffer.numel() < count or self._buffer.dtype != dtype or self._buffer.device != like.device:
            self._buffer = torch.empty(count, dtype=dtype, device=like.device)
        return self._buffer[:count].view(rows, vocabulary)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        counts: Tensor | None,
        workspace: Workspace,
        wanted: tuple[bool, bool, bool],
    ) -> Tensor:
        """Sum of the rows' losses; gradients are computed here where they will be wanted."""
        if torch.is_autocast_enabled(hidden.device.type):
            low = torch.get_autocast_dtype(hidden.device.type)
            hidden, weight = hidden.to(low), weight.to(low)
        grads = _Gradients(hidden, weight, bias, wanted=wanted)
        total = torch.zeros((), dtype=_exact(hidden.dtype), device=hidden.device)
        rows = min(workspace.rows(len(weight), hidden.device), len(hidden))
        for begin in range(0, len(hidden), rows):
            part = slice(begin, min(begin + rows, len(hidden)))
            chunk = _logits(hidden[part], weight, bias, workspace)
            loss, slopes = _losses_and_slopes(chunk, targets[part], None if counts is None else counts[part])
            total += loss
            grads.add(slopes, part)
        ctx.gradients = grads
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (*ctx.gradients.scaled(upstream[0]), None, None, None, None)


class _Gradients:
    """Gradients of the sum of losses, filled chunk by chunk. One pass backward uses them up."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, *, wanted: tuple[bool, bool, bool]) -> None:
        exact = _exact(hidden.dtype)
        self._of = (hidden, weight)
        self._used = False
        self._hidden = torch.empty_like(hidden, dtype=exact) if wanted[0] else None
        self._weight = torch.zeros_like(weight, dtype=exact) if wanted[1] else None
        self._bias = torch.zeros_like(bias) if wanted[2] and bias is not None else None

    def add(self, slopes: Tensor, part: slice) -> None:
        """One chunk, given the gradient of its logits."""
        hidden, weight = self._of
        low = slopes.to(weight.dtype)
        if self._hidden is not None:
            _product(low, weight, self._hidden[part], keep=False)
        if self._weight is not None:
            _product(low.t(), hidden[part], self._weight, keep=True)
        if self._bias is not None:
            self._bias += slopes.sum(0)

    def scaled(self, factor: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients times what comes from above, in place."""
        if self._used:
            raise RuntimeError("the gradient of this loss can be taken only once: it was computed with the loss")
        self._used = True
        found = (self._hidden, self._weight, self._bias)
        self._hidden = self._weight = self._bias = None
        return tuple(None if g is None else g.mul_(factor) for g in found)  # type: ignore[return-value]


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The type in which losses and gradients are kept."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _product(left: Tensor, right: Tensor, out: Tensor, *, keep: bool) -> None:
    """Write left @ right into `out`, or add it."""
    if left.dtype == out.dtype:
        torch.addmm(out, left, right, beta=int(keep), out=out)
    elif keep:
        out += left @ right
    else:
        out.copy_(left @ right)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, workspace: Workspace) -> Tensor:
    """Logits of a chunk in the workspace, exact type."""
    exact = _exact(hidden.dtype)
    chunk = workspace.take(len(hidden), len(weight), hidden, exact)
    if hidden.dtype != exact:
        chunk.copy_(hidden @ weight.t())
        return chunk if bias is None else chunk.add_(bias)
    if bias is None:
        return torch.mm(hidden, weight.t(), out=chunk)
    return torch.addmm(bias, hidden, weight.t(), out=chunk)


def _losses_and_slopes(chunk: Tensor, targets: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sum of a chunk's losses, and the gradient of its logits, which on a CPU takes the logits' place.

    The logarithm of the sum of exponentials is had from the likeliest entry, whose probability, unlike the target's,
    is never too small to be told from 0. counts: how much a row weighs, of the chunk's type; None = 1.
    """
    index = targets.unsqueeze(1)
    chosen = chunk.gather(1, index)
    top = chunk.amax(1, keepdim=True)
    slopes = torch.softmax(chunk, 1, out=chunk if chunk.device.type == "cpu" else None)
    losses = (top - chosen) - slopes.amax(1, keepdim=True).log()
    slopes.scatter_add_(1, index, torch.full_like(chosen, -1.0))
    if counts is None:
        return losses.sum(), slopes
    slopes.mul_(counts.unsqueeze(1))
    return (losses.squeeze(1) * counts).sum(), slopes


def cross_entropy_sum(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    counts: Tensor | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """Sum over rows of -log softmax(hidden @ weight.T + bias)[target], in nats; differentiable once.

    hidden (rows, size), weight (vocabulary, size), bias (vocabulary,), targets (rows,) int64 in 0..vocabulary-1,
    counts (rows,): how much each row weighs, 0 for padding; None = 1 each.
    """
    if counts is not None:
        counts = counts.to(_exact(hidden.dtype))
    tensors = (hidden, weight, bias)
    # Asked here: inside a Function parameters seem to want gradients under no_grad too.
    first, second, third = (torch.is_grad_enabled() and t is not None and t.requires_grad for t in tensors)
    return _CrossEntropy.apply(*tensors, targets, counts, workspace or Workspace(), (first, second, third))  # type: ignore[no-any-return,no-untyped-call]
