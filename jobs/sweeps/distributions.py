"""`sweep.random.distributions`: what each setting is drawn from, and when it is drawn at all. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terry.cluster.config.yaml_file import Problem
from terry.cluster.errors import nearest

#: The distribution that takes one of a list.
CHOICE = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What one setting is drawn from."""

    key: str  #: dotted, relative to `run:`
    kind: str  #: choice, uniform, log_uniform, integer, log_integer
    values: tuple[Any, ...]  #: of a choice: all of them; else low and high
    when: Mapping[str, tuple[Any, ...]]  #: setting -> values with which it is drawn; none: always

    @property
    def is_log(self) -> bool:
        """True where it is even on a logarithmic scale."""
        return self.kind.startswith("log")

    @property
    def is_whole(self) -> bool:
        """True for whole numbers."""
        return self.kind.endswith("integer")

    def draw(self, u: float) -> Any:
        """The value at `u` of [0, 1)."""
        if self.kind == CHOICE:
            return self.values[int(u * len(self.values))]
        return _RANGES[self.kind](self.values[0], self.values[1], u)

    def holds(self, value: Any) -> bool:
        """Whether it may draw this value."""
        if self.kind == CHOICE:
            return any(type(value) is type(each) and value == each for each in self.values)
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.is_whole and value != int(value)):
            return False
        return bool(self.values[0] <= value <= self.values[1])

    def applies(self, settings: Mapping[str, Any]) -> bool:
        """Whether it is drawn beside these settings."""
        return all(key in settings and settings[key] in values for key, values in self.when.items())


def read(distributions: Mapping[str, Mapping[str, Any]]) -> list[Distribution]:
    """The file's distributions, in its order. Raises Problem, its path relative to `sweep`."""
    return [_distribution(key, given) for key, given in distributions.items()]


def check_conditions(found: Sequence[Distribution], others: Mapping[str, Sequence[Any]]) -> None:
    """Each `when` looks at a setting that is varied, at values that it can have. Raises Problem.

    others: settings that the rest of `sweep:` varies, with their values.
    """
    known = dict(others)
    for each in found:
        place = ("random", "distributions", each.key, "when")
        for key, values in each.when.items():
            if key not in known:
                where = "a choice that stands before it, or a setting of the grid"
                raise Problem(f"looks at {key!r}, which is not {where}{nearest(key, list(known))}", place)
            for value in values:
                if value not in known[key]:
                    raise Problem(f"{key} is never {value!r} here; its values: {known[key]!r}", place)
        if each.kind == CHOICE and not each.when:
            known[each.key] = list(each.values)


def at_random(seed: int, number: int, found: Sequence[Distribution], others: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of one point. A generator of its own for each draw: another key, or more points, change none of them.

    others: the point's settings of the rest of `sweep:`.
    """

    def draw(each: Distribution) -> Any:
        return each.draw(random.Random(f"{seed}/{each.key}/{number}").random())

    return drawn(found, others, draw)


def drawn(
    found: Sequence[Distribution], others: Mapping[str, Any], draw: Callable[[Distribution], Any]
) -> dict[str, Any]:
    """Settings of one point in the file's order, without those whose `when` does not hold."""
    settings: dict[str, Any] = {}
    for each in found:
        if each.applies({**others, **settings}):
            settings[each.key] = draw(each)
    return settings


def ends(found: Sequence[Distribution], others: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points that between them have both ends of each range, and each choice beside both ends of all ranges."""
    points: list[dict[str, Any]] = []
    choices = [(each.key, value) for each in found if each.kind == CHOICE for value in each.values]
    for end in (0, -1):
        for key, value in choices or [("", None)]:
            point = _end(found, others, end, {key: value})
            if point not in points:
                points.append(point)
    return points


def _end(
    found: Sequence[Distribution], others: Mapping[str, Any], end: int, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    return drawn(found, others, lambda each: chosen.get(each.key, each.values[end]))


def rounded(value: float) -> float:
    """Six digits: readable, and the same on nodes whose exp() differs in its last bit."""
    return float(f"{value:.6g}")


def _uniform(low: float, high: float, u: float) -> float:
    return rounded(low + (high - low) * u)


def _log_uniform(low: float, high: float, u: float) -> float:
    return rounded(low * (high / low) ** u)


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


def _distribution(key: str, given: Mapping[str, Any]) -> Distribution:
    place = ("random", "distributions", key)
    names = [*_RANGES, CHOICE]
    kinds = {name: values for name, values in given.items() if name != "when"}
    if len(kinds) != 1:
        raise Problem(f"must be one of {', '.join(names)} with its values, such as {{uniform: [0, 1]}}", place)
    ((name, values),) = kinds.items()
    when = {wanted: tuple(v) if isinstance(v, list) else (v,) for wanted, v in (given.get("when") or {}).items()}
    if name == CHOICE:
        if not isinstance(values, list) or not values:
            raise Problem("choice needs a list of at least one value", place)
        return Distribution(key=key, kind=name, values=tuple(values), when=when)
    if name not in _RANGES:
        raise Problem(f"unknown distribution {name!r}{nearest(name, names)}", place)
    return Distribution(key=key, kind=name, values=_bounds(name, values, place), when=when)


def _bounds(name: str, values: Any, place: tuple[str, ...]) -> tuple[float, float]:
    numbers = isinstance(values, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if not numbers or len(values) != 2 or not values[0] < values[1]:
        raise Problem(f"{name} needs [low, high] with low < high, not {values!r}", place)
    if name.startswith("log") and values[0] <= 0:
        raise Problem(f"{name} needs a low above 0, not {values[0]}", place)
    if name.endswith("integer") and not all(isinstance(v, int) for v in values):
        raise Problem(f"{name} needs whole numbers, not {values!r}", place)
    return values[0], values[1]
