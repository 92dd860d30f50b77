"""A trial of a search: the settings that were chosen for a run, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from terry.jobs.sweeps.distributions import Distribution
from terry.jobs.sweeps.search import SearchConfig


class Outcome(StrEnum):
    """How a trial stands."""

    waiting = "waiting"  #: not on a device yet
    running = "running"
    done = "done"
    stopped = "stopped"  #: by halving, before its end
    failed = "failed"  #: it failed, was cancelled, or has no finite figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial."""

    number: int  #: from 0, in the order in which they were asked for
    settings: Mapping[str, Any]  #: of the distributions that apply
    outcome: Outcome
    job: str = ""
    values: tuple[float, ...] = ()  #: of each objective, once it is done
    constraints: tuple[float, ...] = ()  #: of each: above 0 is too much
    step: int = 0  #: where it was stopped
    generation: int | None = None  #: of CMA-ES

    @property
    def is_open(self) -> bool:
        """True where nothing is known of it yet."""
        return self.outcome in (Outcome.waiting, Outcome.running)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What is tried next."""

    number: int
    settings: dict[str, Any] = field(default_factory=dict)
    generation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a method: what trial `number` should try."""

    search: SearchConfig
    space: Sequence[Distribution]  #: what is searched
    beside: Mapping[str, Any]  #: the run's other varied settings
    trials: Sequence[Trial]  #: those so far, open ones too
    number: int

    @property
    def seed(self) -> int:
        """Of the trial's own generator: 32 bits."""
        return int.from_bytes(hashlib.sha256(f"{self.search.seed}/{self.number}".encode()).digest()[:4])
