"""Trials of a search as runs of its sweep: those that are recorded, and those that are asked for next.

A sweep with `sweep.search` grows by submissions like any other. Each holds the trials that were chosen, and is on disk
before one of them runs; what is chosen next is worked out from all submissions and results, by whoever looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from terry.jobs.search.question import ask, due
from terry.jobs.search.trial import Suggestion, Trial
from terry.jobs.submitting.records import JobLine, KnownJobs, TrialRecord
from terry.jobs.sweeps.axes import Point, values_of
from terry.jobs.sweeps.distributions import drawn
from terry.jobs.sweeps.query import look_up
from terry.jobs.sweeps.searched import Searched
from terry.jobs.sweeps.sweep import PlannedRun, Sweep
from terry.logs.records.values import pack, unpack


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The search at one point of the grid."""

    searched: Searched
    fixed: Point
    records: list[TrialRecord]  #: of runs that the sweep's file still describes

    @property
    def name(self) -> str:
        """The grid's point in words; empty where there is no grid."""
        return name_of(self.fixed)

    def point(self, settings: Mapping[str, Any]) -> Point:
        """The point of a trial."""
        return self.searched.point(self.fixed, settings)

    def ask(self, trials: Sequence[Trial], count: int) -> list[Suggestion]:
        """What is tried next."""
        searched = self.searched
        return ask(searched.settings, searched.space, dict(values_of(self.fixed)), trials, count)


#: What a study tries next.
Chooser = Callable[[Study], list[Suggestion]]


def first_trials(study: Study) -> list[Suggestion]:
    """For whoever submits: as many as are asked for while nothing is known, and none where trials are recorded."""
    return [] if study.records else study.ask([], due(study.searched.settings, []))


def name_of(fixed: Point) -> str:
    """A point of the grid in words."""
    return " ".join(f"{key}={value}" for key, value in values_of(fixed))


def words(expanded: Sweep) -> list[str]:
    """For people: what is searched."""
    if expanded.search is None:
        return []
    search, studies = expanded.search.settings, len(expanded.search.fixed)
    each = f" at each of {studies} points of the grid" if studies > 1 else ""
    figures = " and ".join(search.objectives)
    return [f"search: {search.trials} trials by {search.method}{each}, each chosen by the {figures} of those before it"]


@dataclass(slots=True, kw_only=True)
class Chosen:
    """Trials that a submission adds."""

    new: list[TrialRecord] = field(default_factory=list)  #: their runs may have no id yet
    known: int = 0  #: trials that are recorded already

    def records(self, ids: dict[str, str]) -> tuple[TrialRecord, ...]:
        """As submission.json has them. ids: of runs, by identity."""
        return tuple(msgspec.structs.replace(record, job=ids[record.identity]) for record in self.new)


def choose(expanded: Sweep, known: KnownJobs, chooser: Chooser) -> Chosen:
    """Let `chooser` say what each study tries next. The sweep's runs are then all trials, those that are known first.

    Runs that somebody has submitted by hand, and that the search might have chosen, become trials, too.
    """
    searched = expanded.search
    assert searched is not None
    runs: dict[str, PlannedRun] = {}
    chosen = Chosen()
    by_hand = _by_hand(known)
    for fixed in searched.fixed:
        study = Study(searched=searched, fixed=fixed, records=[])
        for record in (r for r in known.trials if r.study == study.name):
            run = run_of(expanded, study, record)
            if run is not None and run.identity == record.identity:  # else its file, or its code, has changed since
                study.records.append(record)
                runs[run.identity] = run
        chosen.known += len(study.records)
        adopted = _adopted(expanded, study, by_hand)
        study.records.extend(adopted)
        asked = [_record(study, one, expanded.expander.run(study.point(one.settings))) for one in chooser(study)]
        chosen.new += [*adopted, *asked]
        for record in (*adopted, *asked):
            runs[record.identity] = expanded.expander.run(study.point(_settings(record)))
    expanded.runs = list(runs.values())
    return chosen


def _record(study: Study, chosen: Suggestion, run: PlannedRun, job: str = "") -> TrialRecord:
    return TrialRecord(
        number=chosen.number,
        study=study.name,
        settings={key: pack(value, key) for key, value in chosen.settings.items()},
        job=job,
        identity=run.identity,
        generation=chosen.generation,
    )


def _settings(record: TrialRecord) -> dict[str, Any]:
    return {key: unpack(value) for key, value in record.settings.items()}


def run_of(expanded: Sweep, study: Study, record: TrialRecord) -> PlannedRun | None:
    """The run of a recorded trial by today's file; None where the file does not search that any more."""
    settings = _settings(record)
    axes = {each.key: each for each in study.searched.space}
    if not all(key in axes and axes[key].holds(value) for key, value in settings.items()):
        return None
    return expanded.expander.run(study.point(settings))


def _by_hand(known: KnownJobs) -> list[JobLine]:
    """Trainings of the sweep that no trial has asked for."""
    tried = {record.identity for record in known.trials}
    if all(known.by_identity[identity].kind != "train" for identity in known.by_identity.keys() - tried):
        return []
    return [line for line in known.lines() if line.job.kind == "train" and line.job.identity not in tried]


def _adopted(expanded: Sweep, study: Study, by_hand: list[JobLine]) -> list[TrialRecord]:
    """Those that are points of this study."""
    found: list[TrialRecord] = []
    number = max((record.number for record in study.records), default=-1)
    for line in by_hand:
        settings = _chosen_of(study, unpack(line.config))
        run = None if settings is None else expanded.expander.run(study.point(settings))
        if settings is not None and run is not None and run.identity == line.job.identity:
            number += 1
            found.append(_record(study, Suggestion(number=number, settings=settings), run, line.job.id))
    return found


def _chosen_of(study: Study, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the search would have chosen for such a run; None where it could not."""
    space, beside = study.searched.space, dict(values_of(study.fixed))
    settings = drawn(space, beside, lambda each: look_up(config, each.key.split(".")))
    return settings if all(each.holds(settings[each.key]) for each in space if each.key in settings) else None
