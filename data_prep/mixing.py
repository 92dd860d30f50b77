"""Random orders and choices that stay the same for ever.

They come from a fixed mixing function, not from a library's generator, whose stream may change with its version.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit numbers one to one (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shuffled(count: int, seed: int, stream: int) -> NDArray[np.int64]:
    """A random order of `count` things, the same for ever for one (seed, stream)."""
    base = mix(mix(np.array([seed % 2**64], dtype=np.uint64)) + np.uint64(stream + 1))
    keys = mix(base + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return np.argsort(keys, kind="stable")
