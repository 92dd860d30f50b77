"""Texts drawn from a model or an ensemble: many at once, each from random numbers of its own.

Every attempt at a text has a counter-based generator (Philox, Salmon et al. 2011) keyed by seed and number of the
attempt, and takes one number a step. States and probabilities are computed in float64, so that rounding, which differs
between devices, libraries and batch sizes, practically never (about 1e-13 a token) decides which token comes next: a
seed gives the same texts everywhere, whatever the batch. The compiled kernels take float32 for the scores where the
number drawn is not near to a boundary between two tokens (terry.models.kernels.text_steps).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from terry.models.ensemble import Ensemble
from terry.models.errors import ConfigError
from terry.models.kernels.laid_out import library_for
from terry.models.kernels.text_steps import LaidOutEnsemble, NativeSteps
from terry.models.sampling_settings import SamplingSettings
from terry.models.text_steps import TextSteps, TorchSteps

#: Random numbers of an attempt that are made at once.
_AHEAD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What makes a text: how it begins, what ends it, how long it may be."""

    #: tokens that are fed first; the last of them is followed by the first token drawn
    prompt: tuple[int, ...]
    #: how many of the last tokens of the prompt belong to the text
    given: int = 0
    #: tokens of which each ends it
    ends: frozenset[int]
    #: tokens that never come
    banned: frozenset[int] = frozenset()
    #: tokens that count as words; None: all
    words: frozenset[int] | None = None
    #: shorter ones are tried again
    min_words: int = 0
    #: longer ones are tried again
    max_words: int = 100
    #: and so are those of more tokens
    max_tokens: int = 1000

    def __post_init__(self) -> None:
        if not self.prompt or not self.ends:
            raise ConfigError("a text needs a token to begin with and one that ends it")
        if not 0 <= self.min_words <= self.max_words or self.max_words < 1:
            raise ConfigError(
                f"a text of at least {self.min_words} and at most {self.max_words} words cannot be: "
                "the minimum must be from 0 to the maximum"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A finished text."""

    #: number of the attempt that made it, from 0
    attempt: int
    #: its tokens, those given included, the one that ended it too
    ids: tuple[int, ...]
    #: log probability under the model itself (no temperature, nothing left out) of what was drawn, nats
    log_probability: float
    #: tokens drawn, the end included
    drawn: int


@dataclass(slots=True)
class Tally:
    """Attempts so far."""

    #: begun and ended
    attempts: int = 0
    #: texts among them
    texts: int = 0
    #: too short
    short: int = 0
    #: too long
    long: int = 0


@dataclass(slots=True)
class _Row:
    """An attempt under way."""

    attempt: int
    numbers: _Numbers
    ids: list[int]
    words: int
    log_probability: float = 0.0
    drawn: int = 0
    seen: set[int] = field(default_factory=set)


class _Numbers:
    """Uniform numbers from 0 to below 1 of one attempt: the same for ever for one (seed, attempt).

    Made of the raw 64-bit output, which NumPy promises never to change.
    """

    def __init__(self, seed: int, attempt: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed, attempt], dtype=np.uint64))
        self._ready: list[float] = []

    def next(self) -> float:
        """The next one, of 53 random bits."""
        if not self._ready:
            raw: NDArray[np.uint64] = self._bits.random_raw(_AHEAD)
            self._ready = ((raw >> np.uint64(11)) * 2.0**-53).tolist()[::-1]
        return self._ready.pop()


class Sampler:
    """Draws texts from an ensemble. Lays out its members' weights, or makes float64 copies of them, once."""

    def __init__(self, ensemble: Ensemble) -> None:
        library = library_for(ensemble)
        if library is not None:
            self._members: LaidOutEnsemble | Ensemble = LaidOutEnsemble(ensemble, library)
        else:
            members = [copy.deepcopy(member).double() for member in ensemble.members]
            self._members = Ensemble(members, average=ensemble.average, weights=ensemble.weights)
        self.tally = Tally()

    @torch.no_grad()
    def draw(
        self,
        shape: Shape,
        count: int,
        *,
        settings: SamplingSettings | None = None,
        seed: int = 1,
        batch_size: int = 256,
        max_attempts: int | None = None,
    ) -> Iterator[Text]:
        """Up to `count` texts in the order of their attempts, each as soon as those before it are done.

        An attempt is begun only if all that are under way would not be enough, so the texts and the number of attempts
        (`tally`) are those of trying one after another, whatever `batch_size`. Ends early after `max_attempts`.
        Raises ConfigError.
        """
        if count < 1 or batch_size < 1:
            raise ConfigError(f"count and batch size must be at least 1, not {count} and {batch_size}")
        if not 0 <= seed < 2**64:
            raise ConfigError(f"the random seed must be from 0 to 2^64 - 1, not {seed}")
        self.tally = Tally()
        return _Drawing(self._steps(shape, settings or SamplingSettings()), shape, seed, self.tally).run(
            count, batch_size, max_attempts or 100 + 20 * count
        )

    def _steps(self, shape: Shape, settings: SamplingSettings) -> TextSteps:
        banned = sorted(shape.banned)
        if isinstance(self._members, LaidOutEnsemble):
            return NativeSteps(self._members, settings, banned, shape.prompt)
        return TorchSteps(self._members, settings, banned, shape.prompt)


class _Drawing:
    """One call of `draw`."""

    def __init__(self, steps: TextSteps, shape: Shape, seed: int, tally: Tally) -> None:
        self._steps, self._shape, self._seed, self._tally = steps, shape, seed, tally
        self._rows: list[_Row] = []
        self._given = shape.prompt[len(shape.prompt) - shape.given :]
        self._given_words = sum(self._is_word(token) for token in self._given)
        self._begun = 0

    @torch.no_grad()
    def run(self, count: int, batch_size: int, max_attempts: int) -> Iterator[Text]:
        """The texts."""
        done: dict[int, Text | None] = {}
        following = 0
        while True:
            while len(self._rows) < batch_size and self._wanted(count) and self._begun < max_attempts:
                self._begin(min(batch_size - len(self._rows), self._wanted(count), max_attempts - self._begun))
            if not self._rows:
                return
            for row, text in self._step():
                done[row.attempt] = text
            while following in done:
                text = done.pop(following)
                following += 1
                if text is not None:
                    yield text

    def _wanted(self, count: int) -> int:
        """Texts that would be missing if all attempts under way succeeded."""
        return count - self._tally.texts - len(self._rows)

    def _begin(self, count: int) -> None:
        """Begin `count` more attempts."""
        for _ in range(count):
            row = _Row(self._begun, _Numbers(self._seed, self._begun), list(self._given), self._given_words)
            row.seen.update(self._given)
            self._rows.append(row)
            self._begun += 1
        self._steps.begin(count)

    def _step(self) -> list[tuple[_Row, Text | None]]:
        """Draw a token for each row. Returns those that ended; None for what was no text."""
        last = [row.ids[-1] if row.ids else self._shape.prompt[-1] for row in self._rows]
        numbers = [row.numbers.next() for row in self._rows]
        chosen, gained = self._steps.draw(last, numbers, [row.seen for row in self._rows])
        ended: list[tuple[_Row, Text | None]] = []
        going = []
        for i, (row, token, gain) in enumerate(zip(self._rows, chosen, gained, strict=True)):
            row.ids.append(token)
            row.log_probability += gain
            row.drawn += 1
            if token in self._shape.ends:
                ended.append((row, self._finish(row)))
            elif self._is_too_long(row, token):
                self._tally.attempts += 1
                self._tally.long += 1
                ended.append((row, None))
            else:
                going.append(i)
        if ended:
            self._keep(going)
        return ended

    def _finish(self, row: _Row) -> Text | None:
        self._tally.attempts += 1
        if row.words < self._shape.min_words:
            self._tally.short += 1
            return None
        self._tally.texts += 1
        return Text(attempt=row.attempt, ids=tuple(row.ids), log_probability=row.log_probability, drawn=row.drawn)

    def _is_too_long(self, row: _Row, token: int) -> bool:
        row.words += self._is_word(token)
        row.seen.add(token)
        return row.words > self._shape.max_words or row.drawn >= self._shape.max_tokens

    def _is_word(self, token: int) -> bool:
        return self._shape.words is None or token in self._shape.words

    def _keep(self, going: list[int]) -> None:
        """Drop the rows that ended."""
        self._rows = [self._rows[i] for i in going]
        self._steps.keep(going)
