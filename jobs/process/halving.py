"""Successive halving: runs of a sweep that do worse than others at the same point end early (ASHA).

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (arXiv 1810.05934), in the form that stops runs
instead of pausing them. Rung k stands at `after` x `factor`^(k-1) epochs (or steps). A run that comes to a rung puts
its figure there, the lowest loss so far, in a file of its own. Whenever it has a new figure it is judged by those at
the highest rung that it has passed: of n runs there the best n / factor, rounded up, go on. So the first at a rung goes
on, and is ended later when enough others turn out to be better.

Where the sweep file has `seeds:`, what is judged is a configuration: the figure that counts is the mean of its seeds,
taken once all of them have left theirs at a rung; until then its runs go on. What one of them decides holds for all:
a run that ends says so in a file of its own (`stops/`), where its siblings find it.

Nobody is asked and nobody waits: a run decides by the files that are there. What it decides it writes down before it
acts, so that an attempt after a crash, which comes to the same step with the same figure, does the same again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from terry.cluster.files import durable
from terry.jobs.sweeps.rungs import passed
from terry.jobs.sweeps.spec import UNIDENTIFYING, HalvingConfig, HalvingUnit, RunConfig


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A run's file at a rung."""

    figure: float | None  #: less is better; None: not finite, worse than all others
    step: int  #: where it was taken: the first figure at or after the rung
    attempt: int  #: that wrote it
    configuration: str = ""  #: runs that differ in their seed alone have one; empty: the run is judged by itself


class HalvingVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A run beside the others at a rung."""

    step: int  #: where it was judged
    at: float  #: the same in the rule's unit
    unit: HalvingUnit
    rung: int  #: from 1
    figure: float | None  #: the run's own there
    place: int  #: from 1, the best; equal figures share one
    runs: int  #: that have been there so far
    go_on: int  #: of these
    seeds: int = 1  #: more: figures are means of so many runs, and what is counted are configurations

    @property
    def stops(self) -> bool:
        """Whether the run ends here."""
        return self.place > self.go_on

    def __str__(self) -> str:
        figure = "no finite loss" if self.figure is None else f"loss {self.figure:.4g}"
        figure = f"its configuration's {self.seeds} seeds have a mean {figure}" if self.seeds > 1 else figure
        place = f"place {self.place} of {self.runs}" + (" configurations" if self.seeds > 1 else "")
        best = "only the best goes on" if self.go_on == 1 else f"the best {self.go_on} go on"
        return (
            f"{self.unit} {self.at:g}: {figure} at rung {self.rung}, {place} so far, {best}"
            if self.seeds > 1
            else f"{self.unit} {self.at:g}: {figure} at rung {self.rung} is {place} so far, {best}"
        )


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """What a run that ends says to the other seeds of its configuration."""

    attempt: int
    verdict: HalvingVerdict


class Siblings(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of a configuration, which are judged together."""

    configuration: str  #: its name, safe as a file's
    seeds: int  #: so many there are


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has decided: halving.json in its folder."""

    first_attempt: int  #: of the series that it holds for
    through: int = 0  #: up to this step it went on whenever it was judged
    stop: HalvingVerdict | None = None  #: it ends here


def judge(
    rule: HalvingConfig,
    *,
    step: int,
    at: float,
    rung: int,
    own: float | None,
    figures: Iterable[float | None],
    seeds: int = 1,
) -> HalvingVerdict:
    """The verdict over the run with figure `own`, which is one of `figures`: all at the rung. Pure.

    seeds: of how many runs each figure is the mean.
    """
    known = [_rank(figure) for figure in figures]
    return HalvingVerdict(
        step=step,
        at=at,
        unit=rule.unit,
        rung=rung,
        figure=own,
        place=1 + sum(other < _rank(own) for other in known),
        runs=len(known),
        go_on=math.ceil(len(known) / rule.factor),
        seeds=seeds,
    )


def mean(figures: Sequence[float | None]) -> float | None:
    """Of the seeds of a configuration; None where one of them is not finite, for it is worse than all others then."""
    finite = [figure for figure in figures if figure is not None]
    return math.fsum(finite) / len(finite) if len(finite) == len(figures) and finite else None


def configuration_of(config: RunConfig) -> str:
    """A name that runs have in common which differ in their seed alone."""
    from terry.jobs.sweeps.seeds import OURS, THEIRS
    from terry.jobs.sweeps.sweep import digest, pruned

    settings = pruned(msgspec.to_builtins(config), msgspec.to_builtins(RunConfig()))
    for key in UNIDENTIFYING:
        settings.pop(key, None)
    for section, name in (OURS.split("."), THEIRS.split(".")):
        settings.get(section, {}).pop(name, None)
    return digest({key: value for key, value in settings.items() if value != {}})[:16]


def _rank(figure: float | None) -> float:
    return math.inf if figure is None else figure


def group_of(rule: HalvingConfig, entrypoint: str, data: str) -> str:
    """Name of the folder of runs that can be compared: same rule, same code, same data. data: a safe name, or empty."""
    text = f"{rule.after!r} {rule.factor!r} {rule.unit} {entrypoint}"
    return f"{data or 'runs'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class Halving:
    """One run's part in it. `folder`: the group's rungs; `decided`: the run's own file.

    `before_writing` raises where this attempt may not write any more.
    """

    def __init__(
        self,
        rule: HalvingConfig,
        folder: Path,
        decided: Path,
        *,
        job_id: str,
        attempt: int,
        first_attempt: int,
        siblings: Siblings | None = None,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self.rule, self._siblings = rule, siblings
        self._folder, self._file = folder, decided
        self._job_id, self._attempt, self._before_writing = job_id, attempt, before_writing
        self._decided = self._read(first_attempt)
        self._known: dict[tuple[int, str], Mark] = {}  # a figure at a rung never changes: each is read once

    def verdict(self, step: int, at: float, figure: float) -> HalvingVerdict | None:
        """The verdict that ends the run at `step`; None where it goes on. Raises OSError.

        figure: the best so far, less is better. Asked again at a step where it was judged, the answer is the same.
        """
        decided = self._decided
        if decided.stop is not None and step >= decided.stop.step:
            return decided.stop
        rung = passed(self.rule, at)
        if rung == 0 or step <= decided.through:
            return None
        self._before_writing()
        for number in range(1, rung + 1):
            self._leave_mark(number, step, figure if math.isfinite(figure) else None)
        found = self._told(step) if self._siblings else None
        found = found or self._judged(step, at, rung)
        self._decide(step, found)
        return found if found is not None and found.stops else None

    def _judged(self, step: int, at: float, rung: int) -> HalvingVerdict | None:
        """By all that are at the highest rung; of a configuration, at the highest where all its seeds are."""
        if self._siblings is None:
            marks = self._marks(rung)
            own, figures = marks[self._job_id].figure, [mark.figure for mark in marks.values()]
            return judge(self.rule, step=step, at=at, rung=rung, own=own, figures=figures)
        for number in range(rung, 0, -1):
            means = self._means(number, self._siblings.seeds)
            if self._siblings.configuration in means:
                own = means[self._siblings.configuration]
                return judge(
                    self.rule,
                    step=step, at=at, rung=number, own=own, figures=means.values(), seeds=self._siblings.seeds,
                )  # fmt: skip
        return None

    def _means(self, rung: int, seeds: int) -> dict[str, float | None]:
        """By configuration: those of which all seeds have come."""
        figures: dict[str, list[float | None]] = {}
        for job, mark in self._marks(rung).items():
            figures.setdefault(mark.configuration or job, []).append(mark.figure)
        return {name: mean(found) for name, found in figures.items() if len(found) >= seeds}

    def _told(self, step: int) -> HalvingVerdict | None:
        """What another seed of the configuration has ended by; taken as said at the step where it is heard."""
        assert self._siblings is not None
        for path in sorted((self._folder / "stops" / self._siblings.configuration).glob("[!.]*.json")):
            try:
                stop = msgspec.json.decode(durable.read_bytes(path), type=Stop)
            except (FileNotFoundError, msgspec.MsgspecError):
                continue
            mark = self._marks(stop.verdict.rung).get(path.stem)
            own = path.stem == self._job_id and stop.attempt < self._decided.first_attempt
            if mark is not None and mark.attempt <= stop.attempt and not own:  # else it has begun anew since
                return msgspec.structs.replace(stop.verdict, step=step)
        return None

    def _decide(self, step: int, found: HalvingVerdict | None) -> None:
        """On disk first, then acted on. found: None where others are waited for, and the run goes on."""
        if found is not None and found.stops and self._siblings is not None:
            place = self._folder / "stops" / self._siblings.configuration
            durable.make_folder(place)
            durable.write_json(place / f"{self._job_id}.json", Stop(attempt=self._attempt, verdict=found))
        changed = {"stop": found} if found is not None and found.stops else {"through": step}
        decided = msgspec.structs.replace(self._decided, **changed)
        durable.write_json(self._file, decided)
        self._decided = decided

    def _leave_mark(self, rung: int, step: int, figure: float | None) -> None:
        """The first figure at a rung stays, but for one of a series of attempts that does not count any more."""
        if (rung, self._job_id) in self._known:
            return
        path = self._rung(rung) / f"{self._job_id}.json"
        there = _mark(path)
        if there is None or there.attempt < self._decided.first_attempt:
            name = self._siblings.configuration if self._siblings else ""
            there = Mark(figure=figure, step=step, attempt=self._attempt, configuration=name)
            durable.make_folder(path.parent)
            durable.write_json(path, there)
        self._known[rung, self._job_id] = there

    def _marks(self, rung: int) -> dict[str, Mark]:
        """Of all runs at a rung, by job; the own one among them."""
        for path in self._rung(rung).glob("[!.]*.json"):
            if (rung, path.stem) not in self._known and (mark := _mark(path)) is not None:
                self._known[rung, path.stem] = mark
        return {job: mark for (number, job), mark in self._known.items() if number == rung}

    def _rung(self, number: int) -> Path:
        return self._folder / f"{number:04d}"

    def _read(self, first_attempt: int) -> Decided:
        try:
            found = msgspec.json.decode(durable.read_bytes(self._file), type=Decided)
        except (FileNotFoundError, msgspec.MsgspecError):
            found = None
        return found if found and found.first_attempt >= first_attempt else Decided(first_attempt=first_attempt)


def _mark(path: Path) -> Mark | None:
    """None where there is no file, or something else of that name."""
    try:
        return msgspec.json.decode(durable.read_bytes(path), type=Mark)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
