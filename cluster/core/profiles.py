"""What was learnt from finished jobs of a sweep: how long they took and how much memory they needed, by their settings.

The model is one of main effects on a logarithmic scale: a job takes the mean of all, times a factor for each of its
settings (hidden_size=512: 3.1, optimizer=sgd: 0.8). That fits grids, costs the same for each job, and is never trusted
beyond the range that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

#: A setting with more different values than this tells jobs apart (a seed), it does not explain them.
MOST_VALUES = 64
#: Ranks are so far apart: what takes nearly as long goes in order of submission.
RANK_STEP = math.log(1.25)
#: Rank where nothing is known, or all jobs took alike. The unknown goes first, so that something is learnt.
ALIKE = 10_000
#: Stands in the place of a setting's values where they were too many. No setting is called so.
_MANY = "\0"


class Cell(msgspec.Struct):
    """Logarithms of what was measured at one value of a setting."""

    count: int = 0
    total: float = 0.0


class Effects(msgspec.Struct):
    """Main effects of the settings on one quantity."""

    count: int = 0
    total: float = 0.0
    low: float = 0.0  #: logarithm
    high: float = 0.0
    cells: dict[str, dict[str, Cell]] = {}  #: setting -> value -> what was seen

    def add(self, labels: Mapping[str, str], measured: float) -> None:
        """Learn from one finished job. `measured` is above 0."""
        value = math.log(measured)
        self.low = value if not self.count else min(self.low, value)
        self.high = value if not self.count else max(self.high, value)
        self.count += 1
        self.total += value
        for name, setting in labels.items():
            cells = self.cells.get(name)
            if cells is None:
                cells = self.cells[name] = {}
            self._learn(cells, str(setting), value)

    def expect(self, labels: Mapping[str, str]) -> float | None:
        """What a job of these settings will need; None before anything is known."""
        if not self.count:
            return None
        mean = self.total / self.count
        guess = mean
        for name, setting in labels.items():
            cell = self.cells.get(name, {}).get(str(setting))
            if cell is not None:
                guess += cell.total / cell.count - mean
        return math.exp(min(self.high, max(self.low, guess)))

    @property
    def is_flat(self) -> bool:
        """True where nothing is known, or all that was measured was nearly the same."""
        return self.high - self.low < RANK_STEP

    @staticmethod
    def _learn(cells: dict[str, Cell], setting: str, value: float) -> None:
        if _MANY in cells:
            return
        cell = cells.get(setting)
        if cell is None:
            if len(cells) >= MOST_VALUES:
                cells.clear()
                cells[_MANY] = Cell()
                return
            cell = cells[setting] = Cell()
        cell.count += 1
        cell.total += value


class Profile(msgspec.Struct):
    """What is known of one kind of jobs of one sweep."""

    seconds: Effects = msgspec.field(default_factory=Effects)
    memory: Effects = msgspec.field(default_factory=Effects)  #: bytes of a GPU's memory
    ranked: Effects = msgspec.field(default_factory=Effects)  #: `seconds` when the waiting jobs were last put in order

    def learn_seconds(self, labels: Mapping[str, str], seconds: float) -> bool:
        """True where the waiting jobs should be put in order again: after 4, 16, 64 ... jobs, unless all took alike."""
        self.seconds.add(labels, max(seconds, 1e-3))
        count = self.seconds.count
        if count & (count - 1) or count.bit_length() % 2 == 0 or count == 1:
            return False
        before, self.ranked = self.ranked, msgspec.json.decode(msgspec.json.encode(self.seconds), type=Effects)
        return not (before.is_flat and self.ranked.is_flat)

    def rank(self, labels: Mapping[str, str]) -> int:
        """The higher, the longer a job takes and the earlier it should start (Graham 1969: longest first)."""
        expected = None if self.ranked.is_flat else self.ranked.expect(labels)
        return ALIKE if expected is None else round(math.log(expected) / RANK_STEP)
