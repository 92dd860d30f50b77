"""Texts under way by the compiled kernels: states in float64, scores in float32 where that decides which token comes.

What is drawn is what float64 probabilities give: where rounding might decide otherwise, they are computed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from terry.models.averages import Average
from terry.models.ensemble import Ensemble
from terry.models.kernels.draws import BLOCK, Pick, Rows, blocks_of
from terry.models.kernels.laid_out import DrawnModel
from terry.models.kernels.library import Library
from terry.models.kernels.operations import Operations, padded
from terry.models.sampling_settings import SamplingSettings
from terry.models.text_steps import ExactDraw


class LaidOutEnsemble:
    """Members whose weights are laid out, once for all texts."""

    def __init__(self, ensemble: Ensemble, library: Library) -> None:
        self.ensemble, self.library = ensemble, library
        self.members = [DrawnModel(member, library) for member in ensemble.members]


class _Memory:
    """Arrays for up to `most` rows, and the lists of operations over them."""

    def __init__(self, laid: LaidOutEnsemble, most: int, pick: SamplingSettings | None, allowed: Tensor | None) -> None:
        self.most = most
        self._count = torch.zeros(1, dtype=torch.int64)
        self._ids = torch.zeros(most, dtype=torch.int64)
        numbers, log_p = torch.zeros(most, dtype=torch.float64), torch.zeros(most, dtype=torch.float64)
        tokens, certain = (torch.zeros(most, dtype=torch.int64) for _ in range(2))
        self.count, self.ids, self.numbers = self._count.numpy(), self._ids.numpy(), numbers.numpy()
        self.tokens, self.log_p, self.certain = tokens.numpy(), log_p.numpy(), certain.numpy()
        states = [member.states(most) for member in laid.members]
        self.states = [[[part.numpy() for part in layer] for layer in member] for member in states]
        rows, vocabulary = Rows(self._count, most), laid.ensemble.vocabulary_size
        self.step = Operations(laid.library)
        self.step.check_ids(self._ids, most, vocabulary)
        for member, state in zip(laid.members, states, strict=True):
            member.read(self.step, rows, self._ids, state)
        if pick is not None:
            Pick(
                rows=rows, members=[member.output for member in laid.members],
                hidden=[state[-1][0] for state in states],
                shares=torch.tensor(laid.ensemble.weights, dtype=torch.float64), allowed=allowed,
                warmth=1 / pick.temperature, numbers=numbers, tokens=tokens, log_p=log_p, certain=certain,
            ).add(self.step)  # fmt: skip

    @property
    def parts(self) -> list[np.ndarray]:
        """Every part of every layer of every member."""
        return [part for member in self.states for layer in member for part in layer]


class _Scores:
    """Float64 scores of some rows."""

    def __init__(self, laid: LaidOutEnsemble, most: int) -> None:
        tokens = laid.ensemble.vocabulary_size
        self._count = torch.zeros(1, dtype=torch.int64)
        self._out = torch.zeros(most, padded(tokens), dtype=torch.float64)
        self._tokens = tokens
        self._made: list[tuple[Tensor, Operations]] = []
        for member in laid.members:
            output, operations = member.output, Operations(laid.library)
            hidden = torch.zeros(most, padded(output.units), dtype=torch.float64)
            Rows(self._count, most).scores(
                operations, hidden, output.weight, member.exact_bias, self._out, tokens=tokens, units=output.units
            )
            self._made.append((hidden, operations))

    def take(self, i: int, hidden: np.ndarray, rows: Sequence[int] | slice, out: Tensor) -> None:
        """Those of member i to out (rows, tokens)."""
        count = len(out)
        place, operations = self._made[i]
        place.numpy()[:count] = hidden[rows]
        self._count[0] = count
        operations.run(torch.get_num_threads())
        out.copy_(self._out[:count, : self._tokens])


class NativeSteps:
    """See TextSteps."""

    def __init__(
        self, laid: LaidOutEnsemble, settings: SamplingSettings, banned: Sequence[int], prompt: Sequence[int]
    ) -> None:
        self._laid, self._rows = laid, 0
        ensemble = laid.ensemble
        self._exact = ExactDraw(ensemble, settings, banned, torch.zeros(0, dtype=torch.float64))
        self._pick = settings if _is_plain(ensemble, settings) else None
        self._allowed = None
        if banned or settings.temperature != 1:
            self._allowed = torch.zeros(blocks_of(ensemble.vocabulary_size) * BLOCK)
            self._allowed[: ensemble.vocabulary_size] = 1
            self._allowed[list(banned)] = 0
        self._scores: _Scores | None = None
        begun = _Memory(laid, 1, None, None)
        begun.count[0] = 1
        for token in prompt[:-1]:
            begun.ids[0] = token
            begun.step.run(torch.get_num_threads())
        self._start = [part[0] for part in begun.parts]
        self._memory = _Memory(laid, 1, self._pick, self._allowed)

    def begin(self, count: int) -> None:
        """See TextSteps."""
        rows = self._rows + count
        if rows > self._memory.most:
            larger = _Memory(self._laid, rows, self._pick, self._allowed)
            for old, new in zip(self._memory.parts, larger.parts, strict=True):
                new[: self._rows] = old[: self._rows]
            self._memory = larger
        for part, start in zip(self._memory.parts, self._start, strict=True):
            part[self._rows : rows] = start
        self._rows = rows

    def keep(self, going: Sequence[int]) -> None:
        """See TextSteps."""
        for part in self._memory.parts if going else ():
            part[: len(going)] = part[going]
        self._rows = len(going)

    def draw(
        self, last: Sequence[int], numbers: Sequence[float], seen: Sequence[Collection[int]]
    ) -> tuple[list[int], list[float]]:
        """See TextSteps. Raises IndexError for a token outside of the vocabulary."""
        memory, rows = self._memory, self._rows
        memory.count[0] = rows
        memory.ids[:rows] = last
        memory.numbers[:rows] = numbers
        memory.step.run(torch.get_num_threads())
        if self._pick is None:
            return self._exactly(range(rows), numbers, seen)
        chosen, gained = memory.tokens[:rows].tolist(), memory.log_p[:rows].tolist()
        if not memory.certain[:rows].all():
            again = np.flatnonzero(memory.certain[:rows] == 0).tolist()
            tokens, log_p = self._exactly(again, [numbers[i] for i in again], [seen[i] for i in again])
            for i, token, gain in zip(again, tokens, log_p, strict=True):
                chosen[i], gained[i] = token, gain
        return chosen, gained

    def _exactly(
        self, rows: Sequence[int], numbers: Sequence[float], seen: Sequence[Collection[int]]
    ) -> tuple[list[int], list[float]]:
        """The same for some rows by float64 probabilities."""
        chosen: list[int] = []
        gained: list[float] = []
        most = min(self._exact.chunk, self._memory.most)
        if self._scores is None:
            self._scores = _Scores(self._laid, self._exact.chunk)
        for begin in range(0, len(rows), most):
            part = slice(begin, begin + most)
            these = list(rows[part])

            def scores(i: int, out: Tensor, these: list[int] = these) -> None:
                assert self._scores is not None
                self._scores.take(i, self._memory.states[i][-1][0], these, out)

            tokens, log_p = self._exact(len(these), scores, numbers[part], seen[part])
            chosen += tokens
            gained += log_p
        return chosen, gained


def _is_plain(ensemble: Ensemble, settings: SamplingSettings) -> bool:
    """Whether sums of exponentials are all that a draw needs."""
    one = len(ensemble.members) == 1
    bent = settings.repetition_penalty != 1 or settings.top_k is not None or settings.top_p is not None
    return not bent and (one or (ensemble.average is Average.arithmetic and settings.temperature == 1))
