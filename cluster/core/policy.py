"""What the scheduler decides by: weights, limits, patience. Values only; terry.cluster.config.policy reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from terry.cluster.core.model import DeviceKind

#: Half of what was used so long ago (seconds) is forgotten: a day.
HALF_LIFE_S = 86_400.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much may be in use at once; None: as much as there is."""

    jobs: int | None = None
    gpus: float | None = None  #: sum of shares
    cpus: float | None = None  #: cores

    def of(self, kind: DeviceKind) -> float | None:
        """The limit on a kind of device."""
        return self.gpus if kind is DeviceKind.GPU else self.cpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """When a running job has to make room for one of higher priority. It writes a checkpoint and goes on later."""

    difference: int = 1  #: its priority is lower by so much at least
    after_s: float = 60.0  #: the other one has waited so long
    at_most: int = 3  #: so often a job makes room; then it is left in peace


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All of `policy:` in terry.yaml. In tables of names, the name itself counts, else the first glob that fits."""

    placements_per_turn: int = 1000  #: so that a turn of the loop stays short however much is free
    half_life_s: float = HALF_LIFE_S  #: of what was used, when shares are compared
    user_weights: Mapping[str, float] = field(default_factory=dict)  #: twice the weight, twice the share; default 1
    sweep_weights: Mapping[str, float] = field(default_factory=dict)  #: among the sweeps of one user
    user_limits: Mapping[str, Limit] = field(default_factory=dict)
    sweep_limits: Mapping[str, Limit] = field(default_factory=dict)
    node_limits: Mapping[str, Limit] = field(default_factory=dict)  #: only `jobs`
    aging_s: float = 86_400.0  #: a job that waits gains one level of priority for each so long
    backfill: bool = True  #: a job that is known to end in time may use room that is kept for a larger one
    longest_first: bool = True  #: within a sweep, once durations are known
    preemption: Preemption | None = None  #: None: whatever runs runs on


def lookup(table: Mapping[str, T], name: str) -> T | None:
    """What a table says of a name: the name itself, else the first glob that fits."""
    if not table:
        return None
    if name in table:
        return table[name]
    return next((value for pattern, value in table.items() if fnmatchcase(name, pattern)), None)
