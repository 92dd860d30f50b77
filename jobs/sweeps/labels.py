"""Short names for the settings in which the runs of a sweep differ: `cell=gru optimizer=adam`. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

#: Last parts of a key that say nothing by themselves: the section's name is used.
_SPEECHLESS = frozenset({"name"})


def labels(
    configs: Sequence[Mapping[str, Any]], varied: Sequence[str], always: Sequence[str] = ()
) -> list[dict[str, str]]:
    """For each run the varied settings that tell it from the others.

    varied: dotted keys, most telling first. A key that tells no more than those before it (the learning rate that goes
    with each optimizer) is left out.
    always: keys that are kept all the same, as a search's are: not all of its runs are known yet.
    """
    columns: dict[str, list[str]] = {}
    rows: list[tuple[str, ...]] = [()] * len(configs)
    distinct = 1
    for key in dict.fromkeys(varied):
        column = [_text(_at(config, key)) for config in configs]
        finer = [(*row, value) for row, value in zip(rows, column, strict=True)]
        count = len(set(finer))
        if count > distinct or key in always:
            columns[key], rows, distinct = column, finer, count
    names = _short(list(columns))
    return [dict(zip(names, row, strict=True)) for row in rows]


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _short(keys: list[str]) -> list[str]:
    short = [
        parts[-2] if parts[-1] in _SPEECHLESS and len(parts) > 1 else parts[-1]
        for parts in (k.split(".") for k in keys)
    ]
    twice = {name for name, count in Counter(short).items() if count > 1}
    return [key if name in twice else name for key, name in zip(keys, short, strict=True)]
