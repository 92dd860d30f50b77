"""Numbers for pieces of text: the same piece gets the same number, in this call and in later ones.

Text repeats itself, so that most of it can be looked up instead of tokenised. Polars hashes whole columns, NumPy looks
the hashes up in a table without a loop, and each answer is compared with the piece itself, so that two pieces whose
hashes meet are still told apart. A piece whose place in the table is taken stands in a dictionary.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: Pieces held in memory; about 50 MB.
CAPACITY: Final = 500_000
#: Places of the table, as a power of two.
_BITS: Final = 21
#: Pieces handled together: few enough for a processor's cache, and what the first ones teach helps the others.
_PART: Final = 1 << 16


class Pieces:
    """The numbers of the pieces seen, from 0 in the order of their coming, until they are `CAPACITY` or more."""

    def __init__(self, capacity: int = CAPACITY, bits: int = _BITS) -> None:
        self._capacity, self._shift = capacity, np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, dtype=np.uint32)  # one more than the piece's number; 0 where there is none
        self._displaced: dict[str, int] = {}
        self._known = pl.Series(dtype=pl.String)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def full(self) -> bool:
        """Whether it holds as many as it should; `clear` makes room, and all numbers are given anew."""
        return len(self._known) >= self._capacity

    def clear(self) -> None:
        """Forget all pieces."""
        self._table[:] = 0
        self._displaced = {}
        self._known = pl.Series(dtype=pl.String)

    def numbers(self, pieces: pl.Series) -> tuple[NDArray[np.uint32], pl.Series]:
        """The number of each piece, and the pieces met for the first time, in the order of their numbers."""
        before = len(self._known)
        parts = [self._of_part(pieces.slice(begin, _PART)) for begin in range(0, len(pieces), _PART)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32), self._known.slice(before)

    def _of_part(self, pieces: pl.Series) -> NDArray[np.uint32]:
        found = self._looked_up(pieces)
        missing = np.flatnonzero(found == 0)
        if len(missing):
            rest = pieces.gather(missing)
            distinct = rest.unique(maintain_order=True)
            found[missing] = self._numbered(distinct)[codes(rest, distinct)]
        return found - np.uint32(1)

    def _looked_up(self, pieces: pl.Series) -> NDArray[np.uint32]:
        """One more than the number of each piece; 0 where the table does not hold it."""
        found: NDArray[np.uint32] = self._table[self._places(pieces)]
        if len(self._known):
            there = self._known.gather(np.maximum(found, 1) - 1)
            found[~(there == pieces).to_numpy()] = 0
        return found

    def _places(self, pieces: pl.Series) -> NDArray[np.int64]:
        return (pieces.hash(seed=1).to_numpy() >> self._shift).astype(np.int64)

    def _numbered(self, distinct: pl.Series) -> NDArray[np.uint32]:
        """One more than the number of each of some pieces that are not in the table; new ones get the next numbers."""
        displaced = np.array([self._displaced.get(piece, 0) for piece in distinct.to_list()], dtype=np.uint32)
        new = np.flatnonzero(displaced == 0)
        fresh = distinct.gather(new)
        given = np.arange(len(self._known) + 1, len(self._known) + len(fresh) + 1, dtype=np.uint32)
        displaced[new] = given
        places = self._places(fresh)
        first = np.zeros(len(places), dtype=np.bool_)  # of those that share a place only the first can have it
        first[np.unique(places, return_index=True)[1]] = True
        first &= self._table[places] == 0
        self._table[places[first]] = given[first]
        late = np.flatnonzero(~first)
        self._displaced.update(zip(fresh.gather(late).to_list(), given[late].tolist(), strict=True))
        self._known = pl.concat([self._known, fresh], rechunk=True)
        return displaced


def codes(values: pl.Series, distinct: pl.Series) -> NDArray[np.uint32]:
    """The place of each value among the distinct ones."""
    found: NDArray[np.uint32] = values.cast(pl.Enum(distinct)).to_physical().to_numpy()
    return found
