"""Successive halving: runs of a sweep that do worse than others at the same point end early (ASHA).

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (arXiv 1810.05934), in the form that stops runs
instead of pausing them. Rung k stands at `after` x `factor`^(k-1) epochs (or steps). A run that comes to a rung puts
its figure there, the lowest loss so far, in a file of its own. Whenever it has a new figure it is judged by those at
the highest rung that it has passed: of n runs there the best n / factor, rounded up, go on. So the first at a rung goes
on, and is ended later when enough others turn out to be better.

Nobody is asked and nobody waits: a run decides by the files that are there. What it decides it writes down before it
acts, so that an attempt after a crash, which comes to the same step with the same figure, does the same again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from terry.cluster.files import durable
from terry.jobs.sweeps.rungs import passed
from terry.jobs.sweeps.spec import HalvingConfig, HalvingUnit


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A run's file at a rung."""

    figure: float | None  #: less is better; None: not finite, worse than all others
    step: int  #: where it was taken: the first figure at or after the rung
    attempt: int  #: that wrote it


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

    @property
    def stops(self) -> bool:
        """Whether the run ends here."""
        return self.place > self.go_on

    def __str__(self) -> str:
        figure = "no finite loss" if self.figure is None else f"loss {self.figure:.4g}"
        best = "only the best goes on" if self.go_on == 1 else f"the best {self.go_on} go on"
        return (
            f"{self.unit} {self.at:g}: {figure} at rung {self.rung} is place {self.place} of {self.runs} so far, {best}"
        )


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has decided: halving.json in its folder."""

    first_attempt: int  #: of the series that it holds for
    through: int = 0  #: up to this step it went on whenever it was judged
    stop: HalvingVerdict | None = None  #: it ends here


def judge(
    rule: HalvingConfig, *, step: int, at: float, rung: int, own: float | None, figures: Iterable[float | None]
) -> HalvingVerdict:
    """The verdict over the run with figure `own`, which is one of `figures`: all at the rung. Pure."""
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
    )


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
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        self.rule = rule
        self._folder, self._file = folder, decided
        self._job_id, self._attempt, self._before_writing = job_id, attempt, before_writing
        self._decided = self._read(first_attempt)
        self._known: dict[tuple[int, str], float | None] = {}  # a figure at a rung never changes: each is read once

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
        own = self._known[rung, self._job_id]
        found = judge(self.rule, step=step, at=at, rung=rung, own=own, figures=self._figures(rung))
        self._decide(found)
        return found if found.stops else None

    def _decide(self, found: HalvingVerdict) -> None:
        """On disk first, then acted on."""
        changed = {"stop": found} if found.stops else {"through": found.step}
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
            there = Mark(figure=figure, step=step, attempt=self._attempt)
            durable.make_folder(path.parent)
            durable.write_json(path, there)
        self._known[rung, self._job_id] = there.figure

    def _figures(self, rung: int) -> list[float | None]:
        """Figures of all runs at a rung, the own one among them."""
        for path in self._rung(rung).glob("[!.]*.json"):
            if (rung, path.stem) not in self._known and (mark := _mark(path)) is not None:
                self._known[rung, path.stem] = mark.figure
        return [figure for (number, _), figure in self._known.items() if number == rung]

    def _rung(self, number: int) -> Path:
        return self._folder / f"{number:04d}"

    def _read(self, first_attempt: int) -> Decided:
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=Decided)
        except (FileNotFoundError, msgspec.MsgspecError):
            found = None
        return found if found and found.first_attempt >= first_attempt else Decided(first_attempt=first_attempt)


def _mark(path: Path) -> Mark | None:
    """None where there is no file, or something else of that name."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
