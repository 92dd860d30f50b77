"""For notebooks and scripts: a workspace as an object that does what the command line does, with the same values.

    from terry.cluster import Workspace

    lab = Workspace.open("terry-runs")
    sweep = lab.submit("cells.yaml", {"training.epochs": 3})
    lab.wait(sweep.name)
    lab.results(sweep.name)

Like the command line it never talks to the controller: it reads the workspace's files and puts requests into its inbox.
So it works with the controller up or down, and leaving the notebook ends nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from terry.cluster.client.reader import Reader
from terry.cluster.core.model import DeviceKind, JobState
from terry.cluster.errors import UserError
from terry.cluster.files.paths import Workspace as Paths
from terry.cluster.host.clock import now
from terry.logs.view.view import JobView

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import torch

    from terry.cluster.files.inbox import Message
    from terry.jobs.submitting.submission import PlannedJob, Submission
    from terry.jobs.trained.library import Trained

__all__ = ["Jobs", "Submitted", "Workspace"]

#: What makes a table: a polars or pandas DataFrame, or a list with a dict for each row.
Frame = Literal["polars", "pandas", "rows"]


class Jobs(list[JobView]):
    """Jobs in the order of their submission; looks like the table of `terry-cluster status` where it is displayed."""

    def __repr__(self) -> str:
        from terry.logs.text.status import job_lines

        return "\n".join(job_lines(self)) if self else "no jobs"

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return [job.id for job in self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What `submit` has put on disk; or would, where it was a dry run."""

    name: str  #: of the sweep
    jobs: tuple[PlannedJob, ...]  #: all jobs of the sweep as given, new or there already, in its order
    new: int  #: how many of them are new
    submission: int | None  #: number of the submission that has them; None: a dry run
    device: DeviceKind  #: what runs get that leave it open
    notices: tuple[str, ...]  #: what the author may want to know

    @property
    def ids(self) -> list[str]:
        """Ids of the jobs: selectors for `wait`, `jobs`, `results`."""
        return [job.id for job in self.jobs]


class Workspace:
    """A workspace: one folder with all that a cluster of runs knows.

    Methods that take selectors understand what the command line does: a job's id or its unique beginning, the name of
    a sweep or an ensemble, a glob (`"cells-*"`), `"state:failed"`. A mistake of the caller raises
    terry.cluster.errors.UserError, a ValueError, with the line that the command line would print.
    """

    def __init__(self, paths: Paths) -> None:
        self.paths = paths  #: every path of the workspace
        self._reader = Reader(paths)

    @classmethod
    def open(cls, folder: Path | str | None = None) -> Workspace:
        """The workspace in `folder`; without one TERRY_WORKSPACE, the nearest folder upwards with a terry.yaml, else
        ./terry-runs, as on the command line. Reads nothing and makes nothing."""
        return cls(Paths.find(None if folder is None else str(folder), os.environ, Path.cwd()))

    @property
    def root(self) -> Path:
        """Its folder."""
        return self.paths.root

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    # asking for something

    def submit(
        self,
        sweep: Path | str | Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        *,
        dry_run: bool = False,
        hold: bool = False,
        priority: int | None = None,
        extend: bool = False,
    ) -> Submitted:
        """Submit a sweep and see to it that a controller runs; again: add only what is new.

        sweep: a sweep file, or its contents as a dict; relative paths in a dict start in the current folder.
        settings: hold for every run, like `training.epochs=3` on the command line: {"training.epochs": 3}.
        dry_run: say what it would be; nothing is written. hold, priority, extend: as of `terry-cluster submit`.
        Once it returns, nothing that dies loses the sweep. Raises UserError (with file and line), OSError.
        """
        from terry.cluster.cli.submit import default_kind, owner
        from terry.jobs.submitting.submission import SubmitOptions, prepare_submission

        source = Path(sweep).expanduser() if isinstance(sweep, (str, Path)) else sweep
        options = SubmitOptions(hold=hold, priority=priority, extend=extend, kind=default_kind(self.paths))
        overrides = [_override(key, value) for key, value in (settings or {}).items()]
        planned = prepare_submission(self.paths, source, overrides, options, now(), owner())
        return _submitted(planned, None if dry_run else self._publish(planned))

    def _publish(self, planned: Submission) -> int:
        from terry.cluster.cli.submit import ensure_controller
        from terry.cluster.client.setup import make_workspace
        from terry.jobs.submitting.submission import publish

        make_workspace(self.paths)
        number = publish(self.paths, planned)
        ensure_controller(self.paths, planned)
        return number

    def cancel(self, *selectors: str) -> list[str]:
        """Ask that jobs end for good. Returns the ids of those it was asked for: not of what has ended already."""
        from terry.cluster.files.inbox import Cancel

        return self._ask(selectors, lambda ids: Cancel(job_ids=ids), lambda state: not state.is_final)

    def resubmit(self, *selectors: str, from_scratch: bool = False) -> list[str]:
        """Ask that failed or cancelled jobs are tried again, from their last checkpoint unless `from_scratch`."""
        from terry.cluster.files.inbox import Resubmit

        able = {JobState.FAILED, JobState.CANCELLED}
        return self._ask(selectors, lambda ids: Resubmit(job_ids=ids, from_scratch=from_scratch), able.__contains__)

    def _ask(
        self,
        selectors: Sequence[str],
        message: Callable[[tuple[str, ...]], Message],
        fits: Callable[[JobState], bool],
    ) -> list[str]:
        from terry.cluster.files.inbox import send

        if not selectors:
            raise UserError("name the jobs that are meant: ids, a sweep, a glob, 'state:running'")
        ids = [record.job.id for record in self._reader.select(selectors) if fits(record.state)]
        if ids:
            send(self.paths, message(tuple(ids)))
        return ids

    # looking

    def jobs(self, *selectors: str) -> Jobs:
        """How jobs stand: the objects of `terry-cluster status --json`. No selector: all jobs."""
        from terry.cluster.cli.views import documents

        return Jobs(documents(self._reader, self._reader.select(selectors)))

    def wait(self, *selectors: str, timeout_s: float | None = None, tell: Callable[[str], None] | None = None) -> Jobs:
        """Wait until all these jobs have ended, well or not, and return them. No selector: all jobs.

        tell: called with a line for each thing that happens, for example `print`.
        Raises TimeoutError after `timeout_s` seconds; an interrupt of the notebook's kernel ends only the waiting.
        """
        from terry.cluster.cli.follow import Teller, until_news

        teller = Teller(tell or (lambda _: None))
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        wanted = {record.job.id for record in self._reader.select(selectors)}
        while True:
            stamp = self._reader.stamp()
            records = [record for job_id, record in self._reader.jobs().items() if job_id in wanted]
            teller.tell(records)
            if all(record.state.is_final for record in records):
                return self.jobs(*wanted) if wanted else Jobs()
            if tell is not None:
                teller.summary(self._reader, wanted)
            if not until_news(self._reader, stamp, deadline):
                left = sum(not record.state.is_final for record in records)
                raise TimeoutError(f"{left} of {len(records)} jobs have not ended after {timeout_s:g} s; they go on")

    def explain(self, job: str) -> str:
        """The story of one job as `terry-cluster explain` tells it: why each attempt ended, and what was done."""
        from terry.cluster.cli.views import tell
        from terry.logs.text.story import story_lines

        return "\n".join(story_lines(tell(self._reader, self._reader.select_one(job))))

    # what came out

    @overload
    def results(self, *selectors: str, frame: Literal["polars"] = "polars") -> pl.DataFrame: ...
    @overload
    def results(self, *selectors: str, frame: Literal["pandas"]) -> pd.DataFrame: ...
    @overload
    def results(self, *selectors: str, frame: Literal["rows"]) -> list[dict[str, Any]]: ...

    def results(self, *selectors: str, frame: Frame = "polars") -> Any:
        """A row for each run that has ended, the best first: settings in which runs differ, and final figures.

        The columns are those of `terry-cluster results --format csv`. No selector: all runs.
        frame: "polars" (installed with Terry), "pandas" (where you have it), or "rows": a list of dicts.
        """
        from terry.cluster.cli.results import result_rows
        from terry.logs.records.results import best_first, columns_of

        rows = [row.flat() for row in best_first(result_rows(self._reader, selectors))]
        return _table(rows, columns_of(rows), frame)

    @overload
    def metrics(self, *selectors: str, frame: Literal["polars"] = "polars") -> pl.DataFrame: ...
    @overload
    def metrics(self, *selectors: str, frame: Literal["pandas"]) -> pd.DataFrame: ...
    @overload
    def metrics(self, *selectors: str, frame: Literal["rows"]) -> list[dict[str, Any]]: ...

    def metrics(self, *selectors: str, frame: Frame = "polars") -> Any:
        """All that runs have measured so far, a row for each step that has something: loss curves in long form.

        Several attempts of a run read as one series. Columns: id, the settings in which runs differ, step, loss, ...
        """
        from terry.logs.records.metrics import read_series
        from terry.logs.records.results import typed

        rows: list[dict[str, Any]] = []
        for record in self._reader.select(selectors):
            series = read_series(self.paths.run(record.job.id), record.first_attempt) if record.attempts else []
            for row in series:
                labels = {f"setting.{key}" if key in row else key: typed(v) for key, v in record.job.labels.items()}
                rows.append({"id": record.job.id, **labels, **row})
        return _table(rows, list(dict.fromkeys(key for row in rows for key in row)), frame)

    def load(self, selector: str, device: torch.device | str = "cpu") -> Trained:
        """The trained model of a run, an ensemble or a sweep, to sample from and to evaluate: terry.models.load."""
        from terry.jobs.trained.library import load

        return load(self.root, selector, device)


def _override(key: str, value: Any) -> str:
    """`key=value` as on the command line; JSON is YAML."""
    from terry.jobs.sweeps.yaml_source import of_values

    document, _ = of_values({key: value}, Path(), "settings")
    return f"{key}={json.dumps(document.value[key])}"


def _submitted(planned: Submission, number: int | None) -> Submitted:
    return Submitted(
        name=planned.sweep,
        jobs=tuple(planned.jobs),
        new=planned.new,
        submission=number,
        device=planned.kind,
        notices=tuple(filter(None, (*planned.notices, planned.keeping))),
    )


def _table(rows: list[dict[str, Any]], columns: Iterable[str], frame: Frame) -> Any:
    """Rows as a table in which each column stands, whatever a row lacks."""
    if frame == "rows":
        return rows
    if frame not in ("polars", "pandas"):
        raise UserError(f"frame must be 'polars', 'pandas' or 'rows', not {frame!r}")
    values = {name: [row.get(name) for row in rows] for name in columns}
    if frame == "polars":
        import polars as pl

        return pl.DataFrame(values, strict=False)
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise UserError("pandas is not installed here: `pip install pandas`, or take frame='polars'") from None
    return pd.DataFrame(values)
