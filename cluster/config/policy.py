"""`policy:` of terry.yaml, read and checked.

policy:
  fair_share:
    half_life: 1 day             # half of what was used so long ago is forgotten
    users: {ann: 2}              # twice the share of everybody else
    sweeps: {"urgent-*": 4}      # among the sweeps of one user
  limits:                        # at once: jobs, gpus (shares count as such), cpus (cores)
    users: {bob: {gpus: 2}, "*": {gpus: 8, jobs: 100}}
    sweeps: {"*": {jobs: 50}}
    nodes: {quattro: {jobs: 8}}
  aging: 1 day                   # a job that waits gains one level of priority for each so long
  backfill: true                 # short jobs may use room that is kept for a larger one
  longest_first: true            # within a sweep, once durations are known
  preemption: {difference: 10, after: 5 min, at_most: 3}     # left out: whatever runs runs on
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from terry.cluster.config.typed import Count, CountFrom1, Duration, Pause, Reads, convert
from terry.cluster.config.yaml_file import Problem, Where
from terry.cluster.core.policy import HALF_LIFE_S, Limit, Policy, Preemption

_Weights = dict[str, Annotated[float, msgspec.Meta(gt=0)]]
_Share = Annotated[float, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _NodeLimit:
    jobs: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit(_NodeLimit):
    gpus: _Share | None = None
    cpus: _Share | None = None


def _limit(kind: type[_NodeLimit]) -> Reads:
    def read(value: Any, path: Where) -> Limit:
        found = msgspec.to_builtins(convert(value, kind, path))
        if all(given is None for given in found.values()):
            raise Problem(f"must say how many {', '.join(found)} may be in use at once", path)
        return Limit(**found)

    return Reads(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FairShare:
    half_life: Duration = HALF_LIFE_S
    users: _Weights = field(default_factory=dict)
    sweeps: _Weights = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    users: dict[str, Annotated[Limit, _limit(_Limit)]] = field(default_factory=dict)
    sweeps: dict[str, Annotated[Limit, _limit(_Limit)]] = field(default_factory=dict)
    nodes: dict[str, Annotated[Limit, _limit(_NodeLimit)]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preemption:
    difference: CountFrom1 = 1
    after: Pause = Preemption().after_s
    at_most: Count = Preemption().at_most


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """`policy:` as it stands in the file."""

    fair_share: _FairShare = field(default_factory=_FairShare)
    limits: _Limits = field(default_factory=_Limits)
    aging: Duration = 86_400.0
    backfill: bool = True
    longest_first: bool = True
    preemption: _Preemption | bool | None = None

    @property
    def policy(self) -> Policy:
        """What the scheduler decides by."""
        share, limits, asked = self.fair_share, self.limits, self.preemption
        made = (_Preemption() if asked is True else asked) or None
        return Policy(
            half_life_s=share.half_life,
            user_weights=share.users,
            sweep_weights=share.sweeps,
            user_limits=limits.users,
            sweep_limits=limits.sweeps,
            node_limits=limits.nodes,
            aging_s=self.aging,
            backfill=self.backfill,
            longest_first=self.longest_first,
            preemption=made and Preemption(difference=made.difference, after_s=made.after, at_most=made.at_most),
        )
