"""The softmax layer and its loss in one: cross-entropy by chunks of rows, the gradient computed on the way forward.

At a vocabulary of 8,000 the logits of a batch are the largest array of the whole step by far, and a loop that writes
them, reads them for the loss, keeps them, and reads them again for the gradient spends its time on memory. Here a chunk
of rows goes through logits, probabilities and all its gradients while it is in the cache, in a buffer that is used
again for the next chunk and the next step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Logits of a chunk on a CPU: 128 rows of 8,000 in float32 are 4 MB, which caches hold together with the weights.
CPU_LOGITS = 128 * 8_000
#: Logits of a chunk on other devices, where a few large products are better than many small ones.
DEVICE_LOGITS = 1 << 26
#: Up to here torch's own functions are faster on a CPU: their logits stay in the cache as well.
SMALL_VOCABULARY = 96
#: A probability below this has lost digits, or is 0.
VANISHED = 1e-30


class LogitsBuffer:
    """The buffer of logits. One belongs to each model, so that models in several threads do not share it."""

    def __init__(self, rows: int | None = None) -> None:
        self._rows = rows
        self._buffer = torch.empty(0)

    def rows(self, count: int, weight: Tensor) -> int:
        """Rows of a chunk, where there are `count`: as many as fit, and about as many in the last chunk.

        On a CPU there are at least as many as units, since every chunk reads all of the weights and their gradient.
        """
        if self._rows is not None:
            return min(self._rows, count)
        vocabulary, units = weight.shape
        most = max(CPU_LOGITS // vocabulary, units) if weight.device.type == "cpu" else DEVICE_LOGITS // vocabulary
        count = max(count, 1)
        return -(-count // -(-count // max(64, most)))

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
        workspace: LogitsBuffer,
        wanted: tuple[bool, bool, bool],
    ) -> Tensor:
        """Sum of the rows' losses; gradients are computed here where they will be wanted."""
        if torch.is_autocast_enabled(hidden.device.type):
            low = torch.get_autocast_dtype(hidden.device.type)
            hidden, weight = hidden.to(low), weight.to(low)
        grads = _Gradients(hidden, weight, bias, wanted=wanted)
        total = torch.zeros((), dtype=_exact(hidden.dtype), device=hidden.device)
        rows = workspace.rows(len(hidden), weight)
        for begin in range(0, len(hidden), rows):
            part = slice(begin, min(begin + rows, len(hidden)))
            losses, slopes = _probabilities(hidden[part], weight, bias, targets[part], workspace)
            slopes.scatter_add_(1, targets[part].unsqueeze(1), torch.full_like(losses, -1.0))
            if counts is not None:
                losses *= counts[part].unsqueeze(1)
                slopes *= counts[part].unsqueeze(1)
            total += losses.sum()
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
        self._begun = self._used = False
        self._hidden = torch.empty_like(hidden, dtype=exact) if wanted[0] else None
        self._weight = torch.empty_like(weight, dtype=exact) if wanted[1] else None
        self._bias = torch.empty_like(bias) if wanted[2] and bias is not None else None

    def add(self, slopes: Tensor, part: slice) -> None:
        """One chunk, given the gradient of its logits. The first one is written, so that nothing is cleared before."""
        hidden, weight = self._of
        low = slopes.to(weight.dtype)
        if self._hidden is not None:
            _product(low, weight, self._hidden[part], keep=False)
        if self._weight is not None:
            _product(low.t(), hidden[part], self._weight, keep=self._begun)
        if self._bias is not None:
            torch.addmv(self._bias, slopes.t(), slopes.new_ones(len(slopes)), beta=int(self._begun), out=self._bias)
        self._begun = True

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
        torch.addmm(out, left, right, out=out) if keep else torch.mm(left, right, out=out)
    elif keep:
        out += left @ right
    else:
        out.copy_(left @ right)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, workspace: LogitsBuffer) -> Tensor:
    """Logits of a chunk in the workspace, exact type."""
    exact = _exact(hidden.dtype)
    chunk = workspace.take(len(hidden), len(weight), hidden, exact)
    if hidden.dtype != exact:
        chunk.copy_(hidden @ weight.t())
        return chunk if bias is None else chunk.add_(bias)
    if bias is None:
        return torch.mm(hidden, weight.t(), out=chunk)
    return torch.addmm(bias, hidden, weight.t(), out=chunk)


def _probabilities(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, workspace: LogitsBuffer
) -> tuple[Tensor, Tensor]:
    """Losses (rows, 1) and probabilities (rows, vocabulary) of a chunk."""
    chunk, index = _logits(hidden, weight, bias, workspace), targets.unsqueeze(1)
    if chunk.device.type == "cpu":
        return _on_cpu(chunk, index, lambda rows: _logits(hidden[rows], weight, bias, LogitsBuffer()))
    return _on_device(chunk, index)


def _on_cpu(chunk: Tensor, index: Tensor, again: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Losses (rows, 1), and probabilities, which take the logits' place: softmax is the only pass over them.

    Where a target's probability is too small to be told from 0, the row's logits are taken once more.
    """
    probabilities = torch.softmax(chunk, 1, out=chunk)
    chosen = probabilities.gather(1, index)
    losses = chosen.log().neg_()
    if bool((vanished := chosen.squeeze(1) < VANISHED).any()):
        exact = functional.cross_entropy(again(vanished), index[vanished].squeeze(1), reduction="none")
        losses[vanished] = exact.unsqueeze(1)
    return losses, probabilities


def _on_device(chunk: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The same without a look at values, for which the host would have to wait.

    The logarithm of the sum of exponentials is had from the likeliest entry, whose probability, unlike the target's,
    is never too small to be told from 0.
    """
    above = chunk.amax(1, keepdim=True) - chunk.gather(1, index)
    probabilities = torch.softmax(chunk, 1)
    return above - probabilities.amax(1, keepdim=True).log(), probabilities


def language_model_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, counts: Tensor | None, workspace: LogitsBuffer
) -> Tensor:
    """`cross_entropy_sum` by the fastest way for this vocabulary and device.

    counts: bool, True for rows that count. On a CPU the others are left out before anything is computed of them.
    """
    if hidden.device.type != "cpu":
        return cross_entropy_sum(hidden, weight, bias, targets, counts, workspace)
    if counts is not None:
        kept = counts.nonzero().squeeze(1)
        hidden, targets = hidden.index_select(0, kept), targets.index_select(0, kept)
    if len(weight) > SMALL_VOCABULARY:
        return cross_entropy_sum(hidden, weight, bias, targets, None, workspace)
    logits = functional.linear(hidden, weight, bias)
    return functional.cross_entropy(logits.to(_exact(logits.dtype)), targets, reduction="sum")


def cross_entropy_sum(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    counts: Tensor | None = None,
    workspace: LogitsBuffer | None = None,
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
    return _CrossEntropy.apply(*tensors, targets, counts, workspace or LogitsBuffer(), (first, second, third))  # type: ignore[no-any-return,no-untyped-call]
