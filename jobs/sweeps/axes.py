"""`sweep:` to points: which settings each run takes beyond the base. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terry.cluster.config.typed import flatten
from terry.cluster.config.yaml_file import Problem, Where
from terry.jobs.sweeps import distributions
from terry.jobs.sweeps.distributions import Distribution
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
    parts, drawn = _fixed(sweep), space(sweep)
    count = 1 if sweep.random is None else sweep.random.points
    total = math.prod(len(part) for part in parts) * count
    if total > LIMIT:
        raise Problem(f"{total:,} runs are more than one sweep may have ({LIMIT:,})", ())
    for combination in itertools.product(*parts):
        point = tuple(itertools.chain.from_iterable(combination))
        for number in range(count):
            yield point if sweep.random is None else point + _random(sweep.random, drawn, point, number)


def fixed_points(sweep: SweepConfig) -> list[Point]:
    """The product of all parts but the distributions."""
    return [tuple(itertools.chain.from_iterable(combination)) for combination in itertools.product(*_fixed(sweep))]


def _fixed(sweep: SweepConfig) -> list[list[Point]]:
    parts = [*_grid(sweep.grid), *_zip(sweep.zip), *_list(sweep.list)]
    _check_disjoint(parts)
    return parts


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


def _random(config: RandomConfig, found: Sequence[Distribution], others: Point, number: int) -> Point:
    """Settings of the distributions at one point."""
    drawn = distributions.at_random(config.seed, number, found, dict(values_of(others)))
    return tuple(Setting(key, value, ("sweep", "random", "distributions", key)) for key, value in drawn.items())


def space(sweep: SweepConfig) -> list[Distribution]:
    """The distributions of the file, checked against the rest of `sweep:`. Raises Problem, its path relative to it."""
    if sweep.random is None:
        return []
    if not sweep.random.distributions:
        raise Problem("needs `distributions`, such as {optimizer.lr: {log_uniform: [1e-4, 1e-2]}}", ("random",))
    found = distributions.read(sweep.random.distributions)
    fixed: dict[str, list[Any]] = {}
    for part in _fixed(sweep):
        for point in part:
            for key, value in values_of(point):
                fixed.setdefault(key, []).append(value)
    distributions.check_conditions(found, fixed)
    for part in _fixed(sweep):
        _check_disjoint(
            [part, [tuple(Setting(d.key, d.values[0], ("sweep", "random", "distributions", d.key)) for d in found)]]
        )
    return found


def values_of(point: Point) -> list[tuple[str, Any]]:
    """Dotted keys of single settings, with their values."""
    pairs: list[tuple[str, Any]] = []
    for setting in point:
        whole = isinstance(setting.value, Mapping) and setting.value
        pairs += flatten(setting.value, f"{setting.key}.").items() if whole else [(setting.key, setting.value)]
    return pairs
