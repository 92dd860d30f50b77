"""What brings texts under way on by a token: the members' states, and a draw from the mean of their predictions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor

from terry.models.averages import Average
from terry.models.cross_entropy import LogitsBuffer
from terry.models.ensemble import Ensemble, EnsembleState
from terry.models.next_token import TokenSampler
from terry.models.sampling_settings import SamplingSettings

#: Probabilities that are computed at once: 128 rows of 8,000. Of more, each pass would find the last one's result gone
#: from the cache; of fewer, the output weights would have to be read too often.
_AT_ONCE = 128 * 8_000


class TextSteps(Protocol):
    """States of the texts under way, one a row."""

    def begin(self, count: int) -> None:
        """Put rows that have read all of the prompt but its last token behind the others."""

    def keep(self, going: Sequence[int]) -> None:
        """Keep only these rows, in this order, which is that of before."""

    def draw(
        self, last: Sequence[int], numbers: Sequence[float], seen: Sequence[Collection[int]]
    ) -> tuple[list[int], list[float]]:
        """The next token of each row and its log probability under the model itself.

        last: the token that each row reads first. numbers: from 0 to below 1. seen: the tokens that each row has.
        """


class ExactDraw:
    """The next tokens by float64 probabilities, in chunks of rows. `like`: where, and on which device."""

    def __init__(self, ensemble: Ensemble, settings: SamplingSettings, banned: Sequence[int], like: Tensor) -> None:
        self._average, self._weights = ensemble.average, ensemble.weights
        self._vocabulary, self._like = ensemble.vocabulary_size, like
        self._space = LogitsBuffer(), LogitsBuffer(), LogitsBuffer()
        self._sampler = TokenSampler(settings, banned, like.device)
        self.chunk = max(1, _AT_ONCE // ensemble.vocabulary_size)  #: rows at once

    def __call__(
        self, rows: int, scores: Callable[[int, Tensor], None], numbers: Sequence[float],
        seen: Sequence[Collection[int]],
    ) -> tuple[list[int], list[float]]:  # fmt: skip
        """For up to `chunk` rows. scores: puts a member's, by its number, into (rows, vocabulary)."""
        p = self._probabilities(rows, scores)
        drawn = torch.tensor(numbers, dtype=torch.float64, device=p.device)
        chosen = self._sampler.draw(p, drawn, seen)
        return chosen.tolist(), p.gather(1, chosen.unsqueeze(1)).squeeze(1).log().tolist()

    def _probabilities(self, rows: int, scores: Callable[[int, Tensor], None]) -> Tensor:
        """Mean probabilities of the next token, (rows, vocabulary) float64, in memory that the next call uses again."""
        arithmetic = self._average is Average.arithmetic
        given, mine, total = (space.take(rows, self._vocabulary, self._like) for space in self._space)
        for i, share in enumerate(self._weights):
            scores(i, given)
            (torch.softmax if arithmetic else torch.log_softmax)(given, 1, out=mine)
            if share == 1:
                total = mine
            elif i == 0:
                torch.mul(mine, share, out=total)
            else:
                total.add_(mine, alpha=share)
        return total if arithmetic else torch.softmax(total, 1, out=given)


class TorchSteps:
    """By torch, from members whose weights are float64."""

    def __init__(
        self, ensemble: Ensemble, settings: SamplingSettings, banned: Sequence[int], prompt: Sequence[int]
    ) -> None:
        self._ensemble = ensemble
        self._exact = ExactDraw(ensemble, settings, banned, ensemble.members[0].output_bias)
        self._state: EnsembleState = ensemble.initial_state(0)
        self._start: EnsembleState = ensemble.initial_state(1)
        for token in prompt[:-1]:
            _, self._start = self._read([token], self._start)

    def begin(self, count: int) -> None:
        """See TextSteps."""
        self._state = tuple(
            tuple(
                tuple(torch.cat((old, new.expand(count, -1))) for old, new in zip(parts, fresh, strict=True))
                for parts, fresh in zip(member, start, strict=True)
            )
            for member, start in zip(self._state, self._start, strict=True)
        )

    def keep(self, going: Sequence[int]) -> None:
        """See TextSteps."""
        index = torch.tensor(going, dtype=torch.int64, device=self._ensemble.device)
        self._state = tuple(
            tuple(tuple(part.index_select(0, index) for part in parts) for parts in member) for member in self._state
        )

    def draw(
        self, last: Sequence[int], numbers: Sequence[float], seen: Sequence[Collection[int]]
    ) -> tuple[list[int], list[float]]:
        """See TextSteps."""
        hidden, self._state = self._read(last, self._state)
        chosen: list[int] = []
        gained: list[float] = []
        for begin in range(0, len(last), self._exact.chunk):
            part = slice(begin, begin + self._exact.chunk)
            mine = [member[part] for member in hidden]

            def scores(i: int, out: Tensor, mine: list[Tensor] = mine) -> None:
                self._ensemble.members[i].logits(mine[i], out=out)

            tokens, log_p = self._exact(len(mine[0]), scores, numbers[part], seen[part])
            chosen += tokens
            gained += log_p
        return chosen, gained

    def _read(self, tokens: Sequence[int], state: EnsembleState) -> tuple[list[Tensor], EnsembleState]:
        """The members' outputs after one more token a row, each (rows, its size), and the state afterwards."""
        inputs = torch.tensor(tokens, dtype=torch.int64, device=self._ensemble.device).unsqueeze(1)
        read = [member(inputs, before) for member, before in zip(self._ensemble.members, state, strict=True)]
        return [hidden.squeeze(1) for hidden, _ in read], tuple(after for _, after in read)
