"""Does a model write, or recite? The longest run of a text's tokens that stands in the training text word for word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Runs are followed up to this length.
LONGEST = 200

_BASE = np.uint64(0x9E3779B97F4A7C15)


def longest_copied_runs(
    samples: Sequence[Sequence[int]], training: NDArray[np.integer], longest: int = LONGEST
) -> list[int]:
    """For each sample the length of its longest run of tokens that stands in `training`; at most `longest`.

    samples, training: token ids; leave boundary tokens in where a run should not be found across them. For each length
    all windows of samples and text get a 64-bit polynomial hash (Karp and Rabin 1987), each made of the one before in
    one operation; a false match has a chance of about text x windows / 2^64. Ends with the first length at which
    nothing is found any more, so the cost is that of reading the text as often as the longest run has tokens.
    """
    found = [0] * len(samples)
    text = _mixed(training)
    pieces = [_mixed(np.asarray(sample, dtype=np.int64)) for sample in samples]
    hashes, windows = np.zeros(len(text) + 1, np.uint64), [np.zeros(len(p) + 1, np.uint64) for p in pieces]
    alive = [i for i, piece in enumerate(pieces) if len(piece)]
    for length in range(1, min(longest, len(text)) + 1):
        alive = [i for i in alive if len(pieces[i]) >= length]
        if not alive:
            break
        hashes = _longer(hashes, text, length)
        for i in alive:
            windows[i] = _longer(windows[i], pieces[i], length)
        there = _members(np.concatenate([windows[i] for i in alive]), hashes)
        ends = np.cumsum([len(windows[i]) for i in alive])
        hits = [bool(part.any()) for part in np.split(there, ends[:-1])]
        alive = [i for i, hit in zip(alive, hits, strict=True) if hit]
        for i in alive:
            found[i] = length
    return found


def _mixed(ids: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Ids as numbers that fill 64 bits."""
    values = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(29))


def _longer(hashes: NDArray[np.uint64], values: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Hashes of all windows of `length`, made of those of `length - 1`."""
    count = len(values) - length + 1
    return hashes[:count] * _BASE + values[length - 1 :]


def _members(wanted: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """For each of the few wanted numbers whether it is among the many: the few are sorted, not the many."""
    few = np.unique(wanted)
    place = np.minimum(np.searchsorted(few, among), len(few) - 1)
    present = np.zeros(len(few), np.bool_)
    present[place[few[place] == among]] = True
    result: NDArray[np.bool_] = present[np.searchsorted(few, wanted)]
    return result
