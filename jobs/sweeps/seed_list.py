"""The value of `seeds:`: how many, or which. Pure."""

from __future__ import annotations

from typing import Any

from terry.cluster.config.typed import is_open, leaf, show
from terry.cluster.config.yaml_file import Problem, Where

#: More of one configuration than this is a mistake.
_SEEDS = 10_000


def read_seeds(value: Any, path: Where) -> list[int]:
    """Seeds: how many, which are counted from 1, or which. Raises Problem."""
    if isinstance(value, list):
        found = [leaf(each, int, (*path, i)) for i, each in enumerate(value)]
        if not found:
            raise Problem("an empty list means no runs at all; name at least one, or leave the key out", path)
        for i, seed in enumerate(found):
            if is_open(seed) or not 0 <= seed < 2**63:
                raise Problem(f"must be a whole number from 0 to 2^63 - 1, not {show(seed)}", (*path, i))
            if seed in found[:i]:
                raise Problem(f"{seed} stands twice: the same run again is no evidence", (*path, i))
        return found
    try:
        count = leaf(value, int, path)
    except Problem:
        count = None
    if not isinstance(count, int) or not 1 <= count <= _SEEDS:
        text = f"must say how many (1 to {_SEEDS:,}), as in `seeds: 5`, or which, as in `seeds: [1, 2, 3]`"
        raise Problem(f"{text}, not {show(value)}", path)
    return list(range(1, count + 1))
