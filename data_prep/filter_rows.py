"""Second pass: which examples stay, and which split each belongs to. Decided from lengths and hashes, not from text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from terry.data_prep.collect_tokens import Collected
from terry.data_prep.config import Choose, DatasetConfig, Deduplicate, SplitBy, Unit
from terry.data_prep.mixing import mix

#: Examples looked at together.
CHUNK: Final = 1 << 18
#: With fewer stories, hashing them into splits would leave splits empty.
FEWEST_STORIES: Final = 20

_TRAIN, _VALID, _TEST = 1, 2, 3
_Bools = NDArray[np.bool_]
_Ints = NDArray[np.int64]


@dataclass(slots=True, kw_only=True)
class Selection:
    """What was decided. The working folder then has kept.lengths.u32 and kept.codes.u8, one entry per example.

    A code is 0 for an example that is left out, else 1, 2, 3 for train, valid, test.
    """

    #: what was assigned as a whole; never `auto`
    by: SplitBy
    #: examples left out, by reason
    dropped: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("too_short", "too_long", "duplicate_story", "duplicate_example", "beyond_max_examples"), 0
        )
    )
    #: examples in train, valid, test
    examples: list[int] = field(default_factory=lambda: [0, 0, 0])
    #: tokens in train, valid, test, boundary tokens included
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0])


def filter_rows(collected: Collected, config: DatasetConfig) -> Selection:
    """Decide for every example; see `Selection` for what is written."""
    roles = np.frombuffer(collected.story_roles, dtype=np.uint8)
    hashes = np.frombuffer(collected.story_hashes, dtype=np.uint64)
    by = config.split.by
    if by is SplitBy.auto:
        by = SplitBy.story if int((roles == 0).sum()) >= FEWEST_STORIES else SplitBy.order
    selection = Selection(by=by)
    _Keeper(collected, config, selection, roles, hashes).run()
    _assign(collected, config, selection, roles, hashes)
    return selection


def read_chunks(folder: Path, *files: tuple[str, type[np.generic]], count: int = CHUNK) -> Iterator[list[_Ints]]:
    """Several arrays of one entry per example, a piece of each at a time, as int64."""
    handles = [(folder / name).open("rb") for name, _ in files]
    try:
        while True:
            parts = [
                np.fromfile(handle, dtype=kind, count=count).astype(np.int64)
                for handle, (_, kind) in zip(handles, files, strict=True)
            ]
            if not len(parts[0]):
                return
            yield parts
    finally:
        for handle in handles:
            handle.close()


def first_of_each(values: NDArray[np.uint64]) -> _Bools:
    """True where a value stands for the first time."""
    first = np.zeros(len(values), dtype=np.bool_)
    first[np.unique(values, return_index=True)[1]] = True
    return first


class _Keeper:
    """Decides which examples stay; writes keep.u8."""

    def __init__(
        self,
        collected: Collected,
        config: DatasetConfig,
        selection: Selection,
        roles: NDArray[np.uint8],
        hashes: NDArray[np.uint64],
    ) -> None:
        self._collected, self._config, self._dropped = collected, config, selection.dropped
        self._main, self._hashes = roles == 0, hashes
        self._new_story = first_of_each(hashes) if config.deduplicate is Deduplicate.story else None
        self._new_example = (
            first_of_each(np.fromfile(collected.folder / "hashes.u64", dtype=np.uint64))
            if config.deduplicate is Deduplicate.example
            else None
        )

    def run(self) -> None:
        limit = self._limit()
        with (self._collected.folder / "keep.u8").open("wb") as file:
            for keep, keys, main in self._wanted(count=True):
                if limit is not None:
                    chosen = limit.chosen(keys, keep & main)
                    self._dropped["beyond_max_examples"] += int((keep & main & ~chosen).sum())
                    keep &= ~main | chosen
                file.write(keep.astype(np.uint8).tobytes())

    def _limit(self) -> _Limit | None:
        wanted = self._config.max_examples
        if not wanted:
            return None
        if self._config.choose is Choose.first:
            return _Limit(threshold=0, below=0, ties=wanted)
        best = np.empty(0, dtype=np.uint64)
        for keep, keys, main in self._wanted(count=False):
            best = np.concatenate([best, keys[keep & main]])
            if len(best) > wanted:
                best = np.partition(best, wanted - 1)[:wanted]
        if len(best) < wanted:
            return None
        return _Limit(threshold=int(best.max()), below=1, ties=int((best == best.max()).sum()))

    def _wanted(self, *, count: bool) -> Iterator[tuple[_Bools, NDArray[np.uint64], _Bools]]:
        """For each piece: which examples pass length and repetition, a random key of each, which may be limited."""
        config, dropped = self._config, self._dropped if count else dict.fromkeys(self._dropped, 0)
        done = 0
        within = _Counter()
        for lengths, stories in read_chunks(
            self._collected.folder, ("lengths.u32", np.uint32), ("stories.u32", np.uint32)
        ):
            keep = np.ones(len(lengths), dtype=np.bool_)
            _drop(keep, lengths - 1 < config.fewest_tokens, dropped, "too_short")
            if config.max_tokens:
                _drop(keep, lengths - 1 > config.max_tokens, dropped, "too_long")
            if self._new_story is not None:
                _drop(keep, ~self._new_story[stories], dropped, "duplicate_story")
            if self._new_example is not None:
                _drop(keep, ~self._new_example[done : done + len(keep)], dropped, "duplicate_example")
            done += len(keep)
            keys = self._keys(stories, within) if config.choose is Choose.random else np.zeros(len(keep), np.uint64)
            yield keep, keys, self._main[stories]

    def _keys(self, stories: _Ints, within: _Counter) -> NDArray[np.uint64]:
        """A random key of each example that depends on the seed, its story's text and its place there."""
        seed = mix(np.array([self._config.seed % 2**64], dtype=np.uint64))
        return mix(mix(self._hashes[stories] ^ seed) + within.places(stories).astype(np.uint64))


@dataclass(slots=True)
class _Limit:
    """Keeps keys below the threshold (if `below`) and the first `ties` of those that equal it."""

    threshold: int
    below: int
    ties: int

    def chosen(self, keys: NDArray[np.uint64], wanted: _Bools) -> _Bools:
        threshold = np.uint64(self.threshold)
        less = (keys < threshold) if self.below else np.zeros(len(keys), dtype=np.bool_)
        equal = (keys == threshold) & wanted
        equal &= np.cumsum(equal) <= self.ties
        self.ties -= int(equal.sum())
        chosen: _Bools = (less & wanted) | equal
        return chosen


@dataclass(slots=True)
class _Counter:
    """Numbers the examples of each story from 0, over pieces."""

    story: int = -1
    next: int = 0

    def places(self, stories: _Ints) -> _Ints:
        index = np.arange(len(stories))
        begins = np.diff(stories, prepend=self.story) != 0
        places = index - np.maximum.accumulate(np.where(begins, index, 0))
        if not begins[0]:
            first = int(np.argmax(begins)) if begins.any() else len(stories)
            places[:first] += self.next
        self.story, self.next = int(stories[-1]), int(places[-1]) + 1
        return places


def _drop(keep: _Bools, bad: _Bools, dropped: dict[str, int], reason: str) -> None:
    dropped[reason] += int((keep & bad).sum())
    keep &= ~bad


def _assign(
    collected: Collected,
    config: DatasetConfig,
    selection: Selection,
    roles: NDArray[np.uint8],
    hashes: NDArray[np.uint64],
) -> None:
    """Write the final lengths and codes."""
    order = _Order.of(collected, config, roles) if selection.by is SplitBy.order else None
    story_codes = np.empty(len(roles), dtype=np.uint8)
    for begin in range(0, len(roles), CHUNK):
        part = slice(begin, begin + CHUNK)
        story_codes[part] = np.where(roles[part] > 0, roles[part], _by_hash(hashes[part], config))
    folder = collected.folder
    columns = (("lengths.u32", np.uint32), ("stories.u32", np.uint32), ("keep.u8", np.uint8))
    with (folder / "kept.lengths.u32").open("wb") as length_file, (folder / "kept.codes.u8").open("wb") as code_file:
        for lengths, stories, keep in read_chunks(folder, *columns):
            codes = story_codes[stories] * keep
            if order is not None:
                lengths, codes = order.assign(lengths, codes, (roles[stories] == 0) & (keep > 0))
            for split in (_TRAIN, _VALID, _TEST):
                selection.examples[split - 1] += int((codes == split).sum())
                selection.tokens[split - 1] += int(lengths[codes == split].sum())
            length_file.write(lengths.astype(np.uint32).tobytes())
            code_file.write(codes.astype(np.uint8).tobytes())


def _by_hash(hashes: NDArray[np.uint64], config: DatasetConfig) -> _Ints:
    """Train, valid or test by seed and text alone, so a story stays where it is when others are added."""
    seed = mix(np.array([config.seed % 2**64 ^ 0x5EED], dtype=np.uint64))
    share = (mix(hashes ^ seed) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.where(share < config.split.train, _TRAIN, np.where(share < 1 - config.split.test, _VALID, _TEST))


@dataclass(slots=True)
class _Order:
    """Assigns by place: what comes first is train. A story that is an example is cut where a split begins."""

    cuts: tuple[int, int]
    divisible: bool
    done: int = 0

    @classmethod
    def of(cls, collected: Collected, config: DatasetConfig, roles: NDArray[np.uint8]) -> _Order:
        total = 0
        columns = (("lengths.u32", np.uint32), ("stories.u32", np.uint32), ("keep.u8", np.uint8))
        for lengths, stories, keep in read_chunks(collected.folder, *columns):
            total += int(lengths[(roles[stories] == 0) & (keep > 0)].sum())
        train = max(round(config.split.train * total), 1)
        return cls((train, total - round(config.split.test * total)), config.unit is Unit.story)

    def assign(self, lengths: _Ints, codes: _Ints, mine: _Bools) -> tuple[_Ints, _Ints]:
        """Lengths and codes with `mine` decided by place; examples that straddle a cut are cut if that is allowed."""
        for cut in self.cuts if self.divisible else ():
            lengths, codes, mine = self._cut(cut, lengths, codes, mine)
        starts, ends = self._places(lengths, mine)
        by_place = np.where(starts < self.cuts[0], _TRAIN, np.where(starts < self.cuts[1], _VALID, _TEST))
        self.done = int(ends[-1])
        return lengths, np.where(mine, by_place, codes)

    def _places(self, lengths: _Ints, mine: _Bools) -> tuple[_Ints, _Ints]:
        counted = np.where(mine, lengths, 0)
        ends = self.done + np.cumsum(counted)
        return ends - counted, ends

    def _cut(self, cut: int, lengths: _Ints, codes: _Ints, mine: _Bools) -> tuple[_Ints, _Ints, _Bools]:
        starts, ends = self._places(lengths, mine)
        for i in np.flatnonzero((starts < cut) & (cut < ends)):
            rest = int(ends[i]) - cut
            lengths = np.insert(lengths, i + 1, rest)
            lengths[i] -= rest
            return lengths, np.insert(codes, i + 1, codes[i]), np.insert(mine, i + 1, values=True)
        return lengths, codes, mine
