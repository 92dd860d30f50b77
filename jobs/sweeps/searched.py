"""What `sweep.search` chooses from: the distributions, at each point of the grid. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from terry.cluster.config.yaml_file import Problem
from terry.jobs.sweeps import axes
from terry.jobs.sweeps.axes import Point, Setting, values_of
from terry.jobs.sweeps.distributions import Distribution, ends
from terry.jobs.sweeps.search import SearchConfig, check_method
from terry.jobs.sweeps.spec import SweepConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search chooses from."""

    settings: SearchConfig
    space: list[Distribution]
    fixed: list[Point]  #: the grid's points: each has a search of its own

    @property
    def varied(self) -> list[str]:
        """Dotted keys that differ from trial to trial, or from study to study."""
        fixed = dict.fromkeys(key for point in self.fixed for key, _ in values_of(point))
        return [*fixed, *(each.key for each in self.space)]

    def point(self, fixed: Point, settings: Mapping[str, Any]) -> Point:
        """The point of a trial."""
        place = ("sweep", "random", "distributions")
        return (*fixed, *(Setting(key, value, (*place, key)) for key, value in settings.items()))

    def ends(self) -> list[Point]:
        """Points at the ends of each distribution: if these are possible, so is what lies between."""
        return [self.point(fixed, each) for fixed in self.fixed for each in ends(self.space, dict(values_of(fixed)))]


#: Parts of a sweep file that know their runs beforehand, and what to do instead.
_BESIDE = {
    "seeds": "a trial is one run. Submit the best ones with several seeds afterwards",
    "ensembles": "their members are not known yet. Submit them afterwards",
}


def read(sweep: SweepConfig, search: SearchConfig, *, refused_beside: Collection[str]) -> Searched:
    """What is searched. Raises Problem, its path relative to `sweep`.

    refused_beside: what the file has that does not go with a search.
    """
    for name in sorted(refused_beside):
        raise Problem(f"does not go with `{name}:`: {_BESIDE[name]}", ("search",))
    found = Searched(settings=search, space=axes.space(sweep), fixed=axes.fixed_points(sweep))
    check_method(search, found.space)
    return found
