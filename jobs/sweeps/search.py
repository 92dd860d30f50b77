"""`sweep.search`: runs that are chosen one after another, by what came of those before. Its settings, typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from terry.cluster.config.typed import Duration
from terry.cluster.config.yaml_file import Problem
from terry.jobs.sweeps.distributions import CHOICE, Distribution


class SearchMethod(StrEnum):
    """How the next point is chosen."""

    tpe = "tpe"
    gp = "gp"
    cmaes = "cmaes"
    qmc = "qmc"
    random = "random"


class Direction(StrEnum):
    """Which figures are better."""

    minimize = "minimize"
    maximize = "maximize"


#: Those that learn from several figures at once.
SEVERAL_OBJECTIVES = frozenset({SearchMethod.tpe, SearchMethod.gp})
#: Those that look at `constraints`.
CONSTRAINED = frozenset({SearchMethod.tpe, SearchMethod.gp})
#: Those that begin with points at random.
LEARN_FROM_RANDOM = frozenset({SearchMethod.tpe, SearchMethod.gp})


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """`sweep.search`: the next runs are chosen by what came of the earlier ones."""

    method: SearchMethod = SearchMethod.tpe  #: how
    trials: int = 50  #: runs in all, for each point of the grid
    #: so many at once; left out: as many as are given a device, and one that waits
    parallel: int | None = None
    objective: str | list[str] = "valid_loss"  #: figure of a result that counts; a list: several at once
    direction: Direction | list[Direction] = Direction.minimize  #: of each figure
    constraints: dict[str, float] = field(default_factory=dict)  #: figure: the most that it may be
    seed: int = 1  #: the same seed, and the same results, give the same points
    warm_up: int | None = None  #: so many results of points at random before it learns; left out: 10
    timeout: Duration | None = None  #: no new runs after so long since the search was submitted

    def __post_init__(self) -> None:
        for name in ("trials", "parallel", "warm_up"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.warm_up is not None and self.method not in LEARN_FROM_RANDOM:
            raise ValueError(f"warm_up does nothing with method {self.method}; tpe and gp begin with points at random")
        self._check_objectives()

    def _check_objectives(self) -> None:
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError("objective must name one figure, or several different ones")
        if isinstance(self.direction, list) and len(self.direction) != len(self.objectives):
            raise ValueError(f"direction must be one word, or one for each of the {len(self.objectives)} objectives")
        if len(self.objectives) > 1 and self.method not in SEVERAL_OBJECTIVES:
            raise ValueError(f"objective must be one figure with method {self.method}; tpe and gp take several")
        if self.constraints and self.method not in CONSTRAINED:
            raise ValueError(f"constraints do nothing with method {self.method}; tpe and gp keep them")

    @property
    def at_random(self) -> int:
        """Results before it learns."""
        return 10 if self.warm_up is None else self.warm_up

    @property
    def objectives(self) -> list[str]:
        """Figures that count."""
        return [self.objective] if isinstance(self.objective, str) else list(self.objective)

    @property
    def directions(self) -> list[Direction]:
        """Of each objective."""
        return list(self.direction) if isinstance(self.direction, list) else [self.direction] * len(self.objectives)


def check_method(search: SearchConfig, space: Sequence[Distribution]) -> None:
    """Whether the method can search this space. Raises Problem, its path relative to `sweep`."""
    if search.method is not SearchMethod.cmaes:
        return
    for each in space:
        if each.kind == CHOICE or each.when:
            what = "a choice" if each.kind == CHOICE else "drawn only sometimes"
            text = f"cmaes searches plain numbers, and {each.key} is {what}; tpe searches all of them"
            raise Problem(text, ("search", "method"))
    if len(space) < 2:
        raise Problem("cmaes needs two numbers or more; tpe searches a single one too", ("search", "method"))
