"""Provisional token ids, given while text is read, in bounded memory.

The vocabulary is known only at the end, so tokens are written down by provisional ids. When the table of words grows
too large it is written to disk in order and emptied; a word that comes back gets another id, and the sorted runs tell
in the end which ids are one word. Counts stay exact, and the text is tokenised once.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from terry.data_prep.config import Tokenizer
from terry.data_prep.pieces import Pieces, codes
from terry.data_prep.tokens import MARKS, PATTERNS

#: Words held in memory; about 100 MB.
CAPACITY: Final = 500_000

#: A token and the provisional ids that mean it, in the order of the tokens.
Group = tuple[str, list[int]]


class Lexicon(Protocol):
    """What gives provisional ids. Ids 0 to 3 are the special tokens."""

    @property
    def size(self) -> int:
        """One more than the highest id given."""

    def encode(self, texts: list[str]) -> NDArray[np.uint32]:
        """Provisional ids of all tokens of some marked texts, one after another."""

    def hashes(self) -> NDArray[np.uint64]:
        """A 64-bit hash of each id's token, equal where tokens are equal, the same within one process."""

    def groups(self) -> Iterable[Group]:
        """All tokens seen, in order, each once, without the special ones."""

    def ordered(self) -> tuple[list[str], NDArray[np.uint32]] | None:
        """The same as two columns, where each token has one id; None where one may have several."""

    def names(self, ids: Collection[int]) -> dict[int, str]:
        """The tokens of some ids."""


class _Ids(dict[str, int]):
    """A table of words that gives each new one the next number."""

    def __init__(self, first: int) -> None:
        super().__init__((mark, i) for i, mark in enumerate(MARKS))
        self.next = first

    def __missing__(self, word: str) -> int:
        number = self[word] = self.next
        self.next += 1
        return number


class WordLexicon:
    """Ids for words."""

    def __init__(
        self, tokenizer: Tokenizer, folder: Path, *, lowercase: bool, hashing: bool = False, capacity: int = CAPACITY
    ) -> None:
        self._tokenizer, self._folder, self._lowercase, self._capacity = tokenizer, folder, lowercase, capacity
        self._hashing, self._hashes = hashing, [np.arange(len(MARKS), dtype=np.uint64)]
        self._runs: list[Path] = []
        self._words = _Ids(len(MARKS))
        self._sorted: tuple[list[str], NDArray[np.uint32]] = [], np.zeros(0, dtype=np.uint32)
        self._pieces = Pieces()
        self._forget()

    @property
    def size(self) -> int:
        """One more than the highest id given."""
        return self._words.next

    def encode(self, texts: list[str]) -> NDArray[np.uint32]:
        """Provisional ids of all tokens. No token reaches over a blank, so that only what stands between blanks is
        tokenised, and each such piece once while it is remembered.
        """
        pieces = pl.Series([self._spaced(text) for text in texts], dtype=pl.String).str.split(" ").explode()
        if self._pieces.full:
            self._forget()
        numbers, fresh = self._pieces.numbers(pieces)
        self._learn(fresh)
        return _expanded(numbers, self._starts, self._lengths, self._items)

    def _forget(self) -> None:
        self._pieces.clear()
        self._starts, self._lengths, self._items = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint32)

    def _learn(self, fresh: pl.Series) -> None:
        """Tokenise pieces that were not met before, and remember the ids of their tokens."""
        if fresh.is_empty():
            return
        tokens = fresh.str.extract_all(PATTERNS[self._tokenizer])
        lengths = tokens.list.len().to_numpy().astype(np.int64)
        self._starts = np.concatenate([self._starts, len(self._items) + np.cumsum(lengths) - lengths])
        self._lengths = np.concatenate([self._lengths, lengths])
        self._items = np.concatenate([self._items, self._of_tokens(tokens.explode())])

    def _spaced(self, text: str) -> str:
        """The text with blanks around marks and for line breaks, which tokens do not reach over either.

        Texts stay apart: one character of another alphabet makes the whole of a string slower to handle.
        """
        text = (text.lower() if self._lowercase else text).replace("\n", " ")
        for mark in MARKS:
            if mark in text:
                text = text.replace(mark, f" {mark} ")
        return text

    def _of_tokens(self, tokens: pl.Series) -> NDArray[np.uint32]:
        """Ids of some tokens; nulls, which stand for pieces without any, left out."""
        tokens = tokens.drop_nulls()
        if tokens.is_empty():
            return np.empty(0, dtype=np.uint32)
        distinct = tokens.unique(maintain_order=True)
        return self._ids(distinct)[codes(tokens, distinct)]

    def _ids(self, distinct: pl.Series) -> NDArray[np.uint32]:
        words, before = self._words, self._words.next
        tokens = distinct.to_list()
        out = np.fromiter(map(words.__getitem__, tokens), dtype=np.uint32, count=len(tokens))
        if self._hashing:
            fresh = np.flatnonzero(out >= before)  # in the order of their numbers, as `distinct` has each word once
            self._hashes.append(distinct.gather(fresh).hash(seed=1).to_numpy())
        if len(words) > self._capacity:
            self._spill()
        return out

    def _spill(self) -> None:
        """Write the words down but for the first ones met, which are frequent and would only come back."""
        path = self._folder / f"words-{len(self._runs)}"
        words, stay = self._words, max(self._capacity // 4, len(MARKS))
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{token} {ids[0]}\n" for token, ids in self._in_memory() if ids[0] >= stay)
        self._runs.append(path)
        self._words, self._sorted = _Ids(words.next), ([], np.zeros(0, dtype=np.uint32))
        self._words.update(item for item in words.items() if item[1] < stay)

    def _in_order(self) -> tuple[list[str], NDArray[np.uint32]]:
        """The words in memory, in order, and their ids; the marks are not among them, though they would come first."""
        words = self._words
        if len(self._sorted[0]) != len(words) - len(MARKS):
            ids = np.fromiter(words.values(), dtype=np.uint32, count=len(words))
            tokens = pl.Series(list(words), dtype=pl.String).filter(ids >= len(MARKS))
            order = tokens.arg_sort()  # by their bytes in UTF-8, which is the order of their code points
            self._sorted = tokens.gather(order).to_list(), ids[ids >= len(MARKS)][order.to_numpy()]
        return self._sorted

    def _in_memory(self) -> Iterator[Group]:
        tokens, ids = self._in_order()
        return ((token, [i]) for token, i in zip(tokens, ids.tolist(), strict=True))

    def hashes(self) -> NDArray[np.uint64]:
        """A 64-bit hash of each id's token."""
        assert self._hashing, "hashes were not asked for"
        self._hashes = [np.concatenate(self._hashes)]
        return self._hashes[0]

    def groups(self) -> Iterator[Group]:
        """All tokens seen, in order; the runs on disk are merged with what is in memory."""
        if not self._runs:
            yield from self._in_memory()
            return
        merged = heapq.merge(*map(_read_run, self._runs), self._in_memory(), key=itemgetter(0))
        for token, same in groupby(merged, key=itemgetter(0)):
            yield token, [i for _, ids in same for i in ids]

    def ordered(self) -> tuple[list[str], NDArray[np.uint32]] | None:
        """All tokens and their ids, in the order of the tokens, unless some were written to disk."""
        if self._runs:
            return None
        return self._in_order()

    def names(self, ids: Collection[int]) -> dict[int, str]:
        """The tokens of some ids; without merging, so quicker than `groups`."""
        every = chain(self._words.items(), ((token, same[0]) for run in self._runs for token, same in _read_run(run)))
        return {i: token for token, i in every if i in ids}


def _read_run(path: Path) -> Iterator[Group]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            token, _, number = line.rpartition(" ")
            yield token, [int(number)]


def _expanded(
    numbers: NDArray[np.uint32], starts: NDArray[np.int64], lengths: NDArray[np.int64], items: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """The items of each number one after another; those of number i are `lengths[i]` of `items` from `starts[i]`."""
    each = lengths[numbers]
    ends = np.cumsum(each)
    places = np.repeat(starts[numbers] - (ends - each), each) + np.arange(each.sum())
    out: NDArray[np.uint32] = items[places]
    return out


class CharacterLexicon:
    """Ids for characters: their code points. The marks are the code points 0 to 3, so they are in place already."""

    size = 0x110000

    def __init__(self, *, lowercase: bool) -> None:
        self._lowercase = lowercase
        self._seen = np.zeros(self.size, dtype=bool)

    def encode(self, texts: list[str]) -> NDArray[np.uint32]:
        """Code points of all texts."""
        text = "".join(texts)
        text = text.lower() if self._lowercase else text
        points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint32, copy=False)
        self._seen[points] = True
        return points

    def hashes(self) -> NDArray[np.uint64]:
        """The code points themselves."""
        return np.arange(self.size, dtype=np.uint64)

    def groups(self) -> Iterator[Group]:
        """All characters seen, by code point."""
        return ((chr(i), [int(i)]) for i in np.flatnonzero(self._seen) if i >= len(MARKS))

    def ordered(self) -> tuple[list[str], NDArray[np.uint32]]:
        """All characters seen, by code point."""
        points = np.flatnonzero(self._seen).astype(np.uint32)
        points = points[points >= len(MARKS)]
        return list(map(chr, points.tolist())), points

    def names(self, ids: Collection[int]) -> dict[int, str]:
        """The characters themselves."""
        return {i: chr(i) for i in ids}
