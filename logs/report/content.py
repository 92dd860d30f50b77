"""Everything that a report shows, as plain values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from terry.logs.records.curves import Curve
from terry.logs.records.results import ResultRow
from terry.logs.statistics.seeds import Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What went wrong with a run, and what was done about it."""

    run: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleFigures:
    """An ensemble beside its members."""

    name: str
    size: int
    perplexity: float | None
    mean_member: float | None
    best_member: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Texts that a model wrote."""

    model: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to get a row again: a sweep file of its own, and the command."""

    name: str
    command: str
    sweep_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One page."""

    title: str
    workspace: str
    made_at: datetime
    version: str  #: of terry-cluster
    figure: str  #: by which configurations are ranked
    ranked: tuple[Ranked, ...]
    rows: tuple[ResultRow, ...]  #: of all runs, the best first
    states: dict[str, int]  #: how many jobs ended, or are, in which state
    alike: dict[str, str] = field(default_factory=dict)  #: settings that do not differ
    curves: dict[str, tuple[Curve, ...]] = field(default_factory=dict)  #: by configuration
    incidents: tuple[Incident, ...] = ()
    ensembles: tuple[EnsembleFigures, ...] = ()
    samples: tuple[Sample, ...] = ()
    made_of: dict[str, tuple[str, ...]] = field(default_factory=dict)  #: hashes and versions; several where runs differ
    recipes: tuple[Recipe, ...] = ()
