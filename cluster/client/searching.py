"""`python -m terry.cluster.client.searching WORKSPACE`: asks the searches of a workspace what to try next.

A process beside the keeper, with no memory of its own: what was chosen stands in submissions, what came of it in the
queue and in results, and the next question is a function of both. It may be killed at any time; the keeper starts
another one. It ends by itself once no search is open.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from terry.cluster.client.reader import Reader
from terry.cluster.core.model import JobRecord, JobState
from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.clock import now
from terry.cluster.host.locks import Lock
from terry.logs.records.results import read_result, result_row
from terry.logs.records.values import as_float, unpack

if TYPE_CHECKING:
    from terry.jobs.search.trial import Trial
    from terry.jobs.submitting.records import TrialRecord
    from terry.jobs.submitting.trials import Study

_log = logging.getLogger("terry.cluster.client.searching")

#: How often the workspace is looked at, and how long a search that cannot go on is left alone (seconds).
_LOOK_S, _PAUSE_S = 0.1, 10.0


class SearchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a search stands, for people: cluster/searches/SWEEP.json. Only its driver writes it."""

    problem: str = ""  #: why nothing more is asked for
    at: datetime


def status_of(workspace: WorkspacePaths, sweep: str) -> SearchStatus | None:
    """What its driver has said last."""
    try:
        return msgspec.json.decode(workspace.search_status(sweep).read_bytes(), type=SearchStatus)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def open_searches(workspace: WorkspacePaths) -> list[str]:
    """Sweeps whose search has trials to come."""
    from terry.jobs.submitting.records import newest_search

    moment = now()
    found = ((name, newest_search(workspace, name)) for name in workspace.searched_sweeps())
    return [name for name, search in found if search is not None and search.is_open(moment)]


class Outcomes:
    """What came of trials, read from the queue and from results. A result is read once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ended: dict[str, tuple[JobRecord, Trial]] = {}

    def trials(self, study: Study) -> list[Trial]:
        """The study's trials as they stand."""
        jobs = self._reader.jobs()
        heir = self._reader.heir  # a mended run stands for the one that failed
        return [self._trial(study, r, heir(r.job) if r.job in jobs else None) for r in study.records]

    def _trial(self, study: Study, chosen: TrialRecord, record: JobRecord | None) -> Trial:
        from terry.jobs.search.trial import Outcome, Trial

        key = f"{chosen.job} {study.name} {chosen.number}"
        if key in self._ended and self._ended[key][0] is record:
            return self._ended[key][1]
        settings = {name: unpack(value) for name, value in chosen.settings.items()}
        plain = Trial(
            number=chosen.number,
            settings=settings,
            outcome=Outcome.waiting,
            job=chosen.job,
            generation=chosen.generation,
        )
        if record is None or not record.state.is_final:
            runs = record is not None and record.state.holds_device
            return replace(plain, outcome=Outcome.running if runs else Outcome.waiting)
        found = self._ending(plain, study, record)
        self._ended[key] = record, found
        return found

    def _ending(self, trial: Trial, study: Study, record: JobRecord) -> Trial:
        """What came of one that has ended. A figure that is missing or not finite is a failure."""
        from terry.jobs.search.trial import Outcome

        settings, run = study.searched.settings, self._reader.workspace.run(record.job.id)
        figures = result_row(record, read_result(run)).figures if record.state is JobState.COMPLETED else {}
        values = [as_float(figures.get(name)) for name in settings.objectives]
        limits = [(as_float(figures.get(name)), most) for name, most in settings.constraints.items()]
        known = [value for value in (*values, *(figure for figure, _ in limits)) if value is not None]
        if len(known) < len(values) + len(limits) or not all(math.isfinite(value) for value in known):
            return replace(trial, outcome=Outcome.failed)
        stopped = run.halving.is_file() and _was_halved(run.halving)
        return replace(
            trial,
            outcome=Outcome.stopped if stopped else Outcome.done,
            values=tuple(value for value in values if value is not None),
            constraints=tuple(figure - most for figure, most in limits if figure is not None),
            step=int(as_float(figures.get("steps")) or 0),
        )


def _was_halved(path: Path) -> bool:
    from terry.jobs.process.halving import Decided

    try:
        return msgspec.json.decode(path.read_bytes(), type=Decided).stop is not None
    except (OSError, msgspec.MsgspecError):
        return False


@dataclass(slots=True)
class Driver:
    """Asks for trials as results come in."""

    workspace: WorkspacePaths
    reader: Reader
    _outcomes: Outcomes = field(init=False)
    _paused: dict[str, float] = field(default_factory=dict)  #: sweep -> monotonic time until which it is left alone

    def __post_init__(self) -> None:
        self._outcomes = Outcomes(self.reader)

    def turn(self) -> list[str]:
        """One look at every open search; returns their names. What is asked for is on disk when it returns."""
        found = open_searches(self.workspace)
        for sweep in found:
            if self._paused.get(sweep, 0.0) > time.monotonic():
                continue
            try:
                self._say(sweep, self._ask(sweep))
            except (UserError, OSError, msgspec.MsgspecError) as error:
                self._paused[sweep] = time.monotonic() + _PAUSE_S
                self._say(sweep, str(error))
        return found

    def _ask(self, sweep: str) -> str:
        """Ask for what is due; returns why nothing more will be asked for, else nothing."""
        from terry.jobs.search.question import due, is_hopeless
        from terry.jobs.submitting.submission import close_search, next_trials, publish

        hopeless: list[str] = []
        going_on: list[str] = []

        def choose(study: Study) -> list[Any]:
            search, trials = study.searched.settings, self._outcomes.trials(study)
            if is_hopeless(trials):
                hopeless.append(study.name)
                return []
            if len(trials) < search.trials:
                going_on.append(study.name)
            return study.ask(trials, due(search, trials))

        submission = next_trials(self.workspace, sweep, choose, now())
        if submission is not None and submission.is_news:
            publish(self.workspace, submission)
            _log.info("%s: %s more asked for", sweep, len(submission.search.trials) if submission.search else 0)
        if hopeless and not going_on:  # what is left will never be asked for: who waits must not wait for ever
            close_search(self.workspace, sweep, now())
            where = f" of {', '.join(hopeless)}" if any(hopeless) else ""
            return (
                f"its first trials{where} have all failed, so the search was ended. Mend the cause, `resubmit` them "
                "where they are the same runs still, and submit the file again"
            )
        return ""

    def _say(self, sweep: str, problem: str) -> None:
        before = status_of(self.workspace, sweep)
        if (before.problem if before else "") == problem:
            return
        if problem:
            _log.warning("%s: %s", sweep, problem)
        path = self.workspace.search_status(sweep)
        durable.make_folder(path.parent)
        durable.write_json(path, SearchStatus(problem=problem, at=now()))


def trials_of(reader: Reader, sweep: str) -> list[tuple[Study, list[Trial]]]:
    """The trials of a sweep's search, a list for each point of its grid. UserError where it has no search."""
    from terry.jobs.submitting.submission import next_trials

    found: list[Study] = []

    def look(study: Study) -> list[Any]:
        found.append(study)
        return []

    if next_trials(reader.workspace, sweep, look, now(), closed_too=True) is None:
        raise UserError(f"the sweep {sweep!r} has no search: its file has no `sweep.search`")
    outcomes = Outcomes(reader)
    return [(study, outcomes.trials(study)) for study in found]


def importance_rows(reader: Reader, sweep: str) -> list[dict[str, Any]]:
    """How much each setting explains of the first objective, for each study. UserError where too little is known."""
    from terry.jobs.search.samplers import importances
    from terry.jobs.search.trial import Outcome

    rows: list[dict[str, Any]] = []
    for study, trials in trials_of(reader, sweep):
        search = study.searched.settings
        done = sum(trial.outcome is Outcome.done for trial in trials)
        about = {"study": study.name, "objective": search.objectives[0], "trials": done}
        found = importances(search, study.searched.space, trials)
        rows += [{**about, "setting": key, "share": share} for key, share in found.items()]
    return rows


def _parent_is_gone(parent: int) -> bool:
    return os.getppid() != parent


def main(arguments: Sequence[str]) -> int:
    """Drive the workspace's searches until none is open, or whoever started this is gone."""
    from terry.cluster.lifecycle.searches import lock_of

    workspace, parent = WorkspacePaths(Path(arguments[1])), os.getppid()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    lock = Lock.try_take(lock_of(workspace))
    if lock is None:
        return 0
    reader = Reader(workspace)
    driver = Driver(workspace, reader)
    stamp = reader.queue_stamp()  # before the look: what happens meanwhile is looked at again
    while driver.turn():
        until = time.monotonic() + 5.0
        while reader.queue_stamp() == stamp and time.monotonic() < until:
            if _parent_is_gone(parent):
                return 0
            time.sleep(_LOOK_S)
        stamp = reader.queue_stamp()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
