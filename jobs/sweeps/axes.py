"""`sweep:` to points: which settings each run takes beyond the base. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terry.cluster.config.typed import flatten
from terry.cluster.config.yaml_file import Problem, Where
from terry.cluster.errors import nearest
from terry.jobs.sweeps.spec import RandomConfig, SweepConfig

#: More runs than this in one file are taken for a mistake.
LIMIT = 200_000


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a run and its value at a point."""

    key: str  #: dotted, relative to `run:`
    value: Any
    where: Where  #: of the value in the sweep file


#: What one run takes beyond the base, in the file's order.
Point = tuple[Setting, ...]


def points(sweep: SweepConfig) -> Iterator[Point]:
    """The product of grid, zip, list and random, in the file's order: the last grid key varies fastest.

    Raises Problem, its path relative to `sweep`, for an empty axis, a key in two parts, and too many points.
    """
    parts = [*_grid(sweep.grid), *_zip(sweep.zip), *_list(sweep.list), *_random(sweep.random)]
    _check_disjoint(parts)
    total = math.prod(len(part) for part in parts)
    if total > LIMIT:
        raise Problem(f"{total:,} runs are more than one sweep may have ({LIMIT:,})", ())
    for combination in itertools.product(*parts):
        yield tuple(itertools.chain.from_iterable(combination))


def _grid(grid: dict[str, list[Any]]) -> list[list[Point]]:
    return [
        [(Setting(key, value, ("sweep", "grid", key, i)),) for i, value in enumerate(values)]
        for key, values in grid.items()
    ]


def _zip(columns: dict[str, list[Any]]) -> list[list[Point]]:
    if not columns:
        return []
    first = next(iter(columns))
    for key, values in columns.items():
        if len(values) != len(columns[first]):
            raise Problem(
                f"{len(values)} values, but {first!r} has {len(columns[first])}: they are taken together, so all lists "
                "must be equally long",
                ("zip", key),
            )
    return [
        [
            tuple(Setting(key, values[i], ("sweep", "zip", key, i)) for key, values in columns.items())
            for i in range(len(columns[first]))
        ]
    ]


def _list(entries: list[dict[str, Any]]) -> list[list[Point]]:
    if not entries:
        return []
    return [
        [
            tuple(Setting(key, value, ("sweep", "list", i, key)) for key, value in entry.items())
            for i, entry in enumerate(entries)
        ]
    ]


def _check_disjoint(parts: Sequence[Sequence[Point]]) -> None:
    """No setting in two parts: which one counts would be anyone's guess."""
    owner: dict[str, int] = {}
    for number, part in enumerate(parts):
        # What a mapping sets, it sets by each of its keys: `optimizer: [{name: sgd}]` goes with `optimizer.lr: [...]`.
        for setting, key in {k: (s, k) for point in part for s in point for k in keys_of(s)}.values():
            for other, owned_by in owner.items():
                same = key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")
                if same and owned_by != number:
                    place = tuple(str(part) for part in setting.where[1:3])
                    raise Problem(f"{key!r} is varied twice, here and as {other!r} elsewhere; keep one of them", place)
            owner.setdefault(key, number)


def keys_of(setting: Setting) -> list[str]:
    """The dotted keys that a setting sets: one, or those of its mapping."""
    if isinstance(setting.value, Mapping) and setting.value:
        return list(flatten(setting.value, f"{setting.key}."))
    return [setting.key]


def _rounded(value: float) -> float:
    """Six digits: readable, and the same on nodes whose exp() differs in its last bit."""
    return float(f"{value:.6g}")


def _uniform(low: float, high: float, u: float) -> float:
    return _rounded(low + (high - low) * u)


def _log_uniform(low: float, high: float, u: float) -> float:
    return _rounded(low * (high / low) ** u)


def _integer(low: float, high: float, u: float) -> float:
    return int(low) + math.floor((high + 1 - low) * u)


def _log_integer(low: float, high: float, u: float) -> float:
    return min(int(high), math.floor(_log_uniform(low, high + 1, u)))


_RANGES: dict[str, Callable[[float, float, float], float]] = {
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "integer": _integer,
    "log_integer": _log_integer,
}


def _random(config: RandomConfig | None) -> list[list[Point]]:
    if config is None:
        return []
    if not config.distributions:
        raise Problem("needs `distributions`, such as {optimizer.lr: {log_uniform: [1e-4, 1e-2]}}", ("random",))
    draws = {key: _draw_function(key, kind) for key, kind in config.distributions.items()}
    return [
        [
            tuple(
                # A generator of its own for each draw: a larger count, or another key, leaves all others as they were.
                Setting(
                    key,
                    draw(random.Random(f"{config.seed}/{key}/{i}").random()),
                    ("sweep", "random", "distributions", key),
                )
                for key, draw in draws.items()
            )
            for i in range(config.count)
        ]
    ]


def _draw_function(key: str, distribution: dict[str, Any]) -> Callable[[float], Any]:
    place = ("random", "distributions", key)
    names = [*_RANGES, "choice"]
    if len(distribution) != 1:
        raise Problem(f"must be one of {', '.join(names)} with its values, such as {{uniform: [0, 1]}}", place)
    ((name, values),) = distribution.items()
    if name == "choice":
        if not isinstance(values, list) or not values:
            raise Problem("choice needs a list of at least one value", place)
        return lambda u: values[int(u * len(values))]
    if name not in _RANGES:
        raise Problem(f"unknown distribution {name!r}{nearest(name, names)}", place)
    low, high = _bounds(name, values, place)
    return lambda u: _RANGES[name](low, high, u)


def _bounds(name: str, values: Any, place: tuple[str, ...]) -> tuple[float, float]:
    numbers = isinstance(values, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if not numbers or len(values) != 2 or not values[0] < values[1]:
        raise Problem(f"{name} needs [low, high] with low < high, not {values!r}", place)
    if name.startswith("log") and values[0] <= 0:
        raise Problem(f"{name} needs a low above 0, not {values[0]}", place)
    if name.endswith("integer") and not all(isinstance(v, int) for v in values):
        raise Problem(f"{name} needs whole numbers, not {values!r}", place)
    return values[0], values[1]
