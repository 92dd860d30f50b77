"""Runs that differ in their seed alone, as one configuration. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from terry.logs.records.results import ResultRow, typed
from terry.logs.statistics.comparison import ComparisonVerdict, Difference, compare_all
from terry.logs.statistics.summary import Summary, summarise

#: The figures by which runs are ranked, the first that a run has: that of its best weights, then of its last.
LOSSES = ("best_loss", "valid_loss", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Runs of one sweep that differ in their seed alone."""

    sweep: str
    labels: dict[str, str]  #: the settings in which it differs from others; no seed
    runs: tuple[ResultRow, ...]

    @property
    def name(self) -> str:
        """Its settings, as people read them; a sweep's only configuration has the sweep's name."""
        return " ".join(f"{key}={value}" for key, value in self.labels.items()) or self.sweep

    def scores(self, figure: str) -> dict[str, float]:
        """The figure by seed; runs without a finite one are left out. Two runs of one seed keep their ids as names."""
        found: dict[str, float] = {}
        for run in self.runs:
            value = score(run, figure)
            if value is not None and math.isfinite(value):
                found[_seed(run) if _seed(run) and _seed(run) not in found else run.id] = value
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A configuration in its place."""

    configuration: Configuration
    summary: Summary
    beside_first: Difference | None  #: None of the first itself

    def flat(self, figure: str) -> dict[str, Any]:
        """One mapping, as CSV, JSON and Parquet have it; settings called like a column get the prefix `setting.`."""
        last = dataclasses.asdict(self.summary) | {"figure": figure, "may_be_first": self.may_be_first}
        beside = self.beside_first
        last |= {"p": beside and beside.p_corrected, "seeds_needed": beside and beside.seeds_needed}
        taken = {"sweep", *last}
        labels = self.configuration.labels.items()
        settings = {(f"setting.{key}" if key in taken else key): typed(text) for key, text in labels}
        return {"sweep": self.configuration.sweep} | settings | last

    @property
    def may_be_first(self) -> bool:
        """True where the seeds that are there do not show it to be worse than the first."""
        return self.beside_first is None or self.beside_first.verdict in (
            ComparisonVerdict.UNDECIDED,
            ComparisonVerdict.UNKNOWN,
        )


def is_seed(label: str) -> bool:
    """True of the name of a setting that is a seed: `seed`, `training.seed`, `parameters.seed`."""
    return label.rpartition(".")[2] == "seed"


def by_configuration(rows: Iterable[ResultRow]) -> list[Configuration]:
    """Rows that differ in their seed alone, together; in the order of their first rows."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[ResultRow]] = {}
    for row in rows:
        rest = tuple((key, value) for key, value in row.labels.items() if not is_seed(key))
        groups.setdefault((row.sweep, rest), []).append(row)
    return [Configuration(sweep=s, labels=dict(rest), runs=tuple(runs)) for (s, rest), runs in groups.items()]


def has_seeds(configurations: Sequence[Configuration]) -> bool:
    """True where at least one was run with several seeds."""
    return any(len(configuration.runs) > 1 for configuration in configurations)


def score(row: ResultRow, figure: str) -> float | None:
    """A figure of a run as a number; None where it has none, or one beyond what a float holds."""
    value = row.figures.get(figure)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def figure_of(rows: Sequence[ResultRow]) -> str | None:
    """The loss that all runs with any have, the most telling first; None where no run has one."""
    measured = [row for row in rows if any(score(row, name) is not None for name in LOSSES)]
    return next((n for n in LOSSES if measured and all(score(row, n) is not None for row in measured)), None)


def rank(
    configurations: Sequence[Configuration],
    figure: str,
    *,
    lower_is_better: bool = True,
    summarise_with: Callable[[list[float | None]], Summary] | None = None,
) -> list[Ranked]:
    """The best mean first; each beside the first, corrected for as many comparisons as there are others."""
    summarised = summarise_with or (lambda values: summarise(values, lower_is_better=lower_is_better))
    summaries = {id(c): summarised([score(run, figure) for run in c.runs]) for c in configurations}

    def place(configuration: Configuration) -> tuple[bool, float]:
        mean = summaries[id(configuration)].mean
        return (mean is None, 0.0 if mean is None else mean if lower_is_better else -mean)

    ordered = sorted(configurations, key=place)
    if not ordered:
        return []
    first, others = ordered[0], ordered[1:]
    differences = compare_all(first.scores(figure), [(c.name, c.scores(figure)) for c in others], first.name)
    return [
        Ranked(configuration=c, summary=summaries[id(c)], beside_first=difference)
        for c, difference in zip(ordered, [None, *differences], strict=True)
    ]


def _seed(row: ResultRow) -> str:
    return next((value for key, value in row.labels.items() if is_seed(key)), "")
