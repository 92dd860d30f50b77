"""From probabilities to the next token of each text: temperature, top-k, top-p, and a look into the cumulative sum.

Fresh memory for each step would cost more time than the arithmetic, so everything is done in place.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from terry.models.cross_entropy import LogitsBuffer
from terry.models.sampling_settings import SamplingSettings

#: The nucleus is first looked for among so many likeliest tokens.
_LIKELIEST = 256


class TokenSampler:
    """Chooses as it is told, never what is banned."""

    def __init__(self, settings: SamplingSettings, banned: Sequence[int], device: torch.device) -> None:
        self._settings = settings
        self._banned = torch.tensor(banned, dtype=torch.int64, device=device)
        self._bent, self._sums = LogitsBuffer(), LogitsBuffer()

    def draw(self, p: Tensor, numbers: Tensor, seen: Sequence[Collection[int]]) -> Tensor:
        """The next token of each row, (rows,) int64.

        p: probabilities (rows, vocabulary); those of tokens that cannot come are set to 0, the others stay. numbers:
        from 0 to below 1, one a row. seen: the tokens that each row has already.
        """
        settings = self._settings
        q = p
        if settings.temperature != 1 or settings.repetition_penalty != 1:
            q = self._bend(p, seen)
        if len(self._banned):
            q.index_fill_(1, self._banned, 0.0)
        if settings.top_k is not None and settings.top_k < q.shape[1]:
            least = q.topk(settings.top_k, 1).values[:, -1:]
            q.masked_fill_(q < least, 0.0)
        if settings.top_p is not None and settings.top_p < 1:
            q.masked_fill_(q < nucleus_bound(q, settings.top_p), 0.0)
        return pick(q, numbers, self._sums)

    def _bend(self, p: Tensor, seen: Sequence[Collection[int]]) -> Tensor:
        """After repetition penalty and temperature; scaled so that the largest is 1."""
        log_q = torch.log(p, out=self._bent.take(p.shape[0], p.shape[1], p))
        if self._settings.repetition_penalty != 1:
            rows = [i for i, tokens in enumerate(seen) for _ in tokens]
            columns = [token for tokens in seen for token in tokens]
            log_q[rows, columns] *= self._settings.repetition_penalty
        log_q.index_fill_(1, self._banned, -math.inf)
        # First the largest becomes 0: a temperature near 0 would make all of them minus infinity.
        return log_q.sub_(log_q.amax(1, keepdim=True)).div_(self._settings.temperature).exp_()


def pick(q: Tensor, numbers: Tensor, space: LogitsBuffer | None = None) -> Tensor:
    """The column at which each row's cumulative sum passes number x sum: q (rows, columns) >= 0, numbers in [0, 1).

    Columns of 0 are never picked. space: where the sums may stand.
    """
    sums = torch.cumsum(q, 1, out=(space or LogitsBuffer()).take(q.shape[0], q.shape[1], q))
    whole = sums[:, -1]
    wanted = torch.minimum(numbers * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(sums, wanted.unsqueeze(1), right=True).squeeze(1)


def nucleus_bound(q: Tensor, share: float) -> Tensor:
    """The least of the likeliest that together have at least `share`, (rows, 1); equally likely ones stay together."""
    wanted = share * q.sum(1, keepdim=True)
    count = min(_LIKELIEST, q.shape[1])
    while True:
        ordered = q.topk(count, 1).values
        short = ordered.cumsum(1) < wanted
        if count == q.shape[1] or not bool(short[:, -1].any()):
            return ordered.gather(1, short.sum(1, keepdim=True).clamp(max=count - 1))
        count = min(4 * count, q.shape[1])
