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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from terry.cluster.client.reader import Reader
from terry.cluster.core.model import DeviceKind
from terry.cluster.errors import UserError
from terry.cluster.files.origin import canonical
from terry.cluster.files.paths import WorkspacePaths
from terry.logs.view.view import JobView

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import torch

    from terry.cluster.core.model import JobRecord
    from terry.jobs.submitting.submission import PlannedJob, Submission
    from terry.jobs.trained.library import Trained

__all__ = ["Jobs", "SubmittedJobs", "Workspace"]

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
class SubmittedJobs:
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
    a sweep or an ensemble, a glob (`"cells-*"`), `"state:failed"`, `"tag:paper"`, `"loss<4.5"`. A mistake of the caller
    raises terry.cluster.errors.UserError, a ValueError, with the line that the command line would print.
    """

    def __init__(self, paths: WorkspacePaths) -> None:
        self.paths = paths  #: every path of the workspace
        self._reader = Reader(paths)

    @classmethod
    def open(cls, folder: Path | str | None = None) -> Workspace:
        """The workspace in `folder`; without one TERRY_WORKSPACE, the nearest folder upwards with a terry.yaml, else
        ./terry-runs, as on the command line. Reads nothing and makes nothing."""
        return cls(canonical(WorkspacePaths.find(None if folder is None else str(folder), os.environ, Path.cwd())))

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
    ) -> SubmittedJobs:
        """Submit a sweep and see to it that a controller runs; again: add only what is new.

        sweep: a sweep file, or its contents as a dict; relative paths in a dict start in the current folder.
        settings: hold for every run, like `training.epochs=3` on the command line: {"training.epochs": 3}.
        dry_run: say what it would be; nothing is written. hold, priority, extend: as of `terry-cluster submit`.
        Once it returns, nothing that dies loses the sweep. Raises UserError (with file and line), OSError.
        """
        from terry.cluster.client import submitting

        source = Path(sweep).expanduser() if isinstance(sweep, (str, Path)) else sweep
        overrides = [_override(key, value) for key, value in (settings or {}).items()]
        planned = submitting.plan(self.paths, source, overrides, hold=hold, priority=priority, extend=extend)
        if dry_run:
            return _submitted(planned, None)
        number = submitting.publish(self.paths, planned)
        submitting.ensure_controller(self.paths, planned)
        return _submitted(planned, number)

    def cancel(self, *selectors: str) -> list[str]:
        """Ask that jobs end for good. Returns the ids of those it was asked for: not of what has ended already."""
        return self._ask("cancel", selectors)

    def resubmit(self, *selectors: str, from_scratch: bool = False) -> list[str]:
        """Ask that failed or cancelled jobs are tried again, from their last checkpoint unless `from_scratch`.

        With `from_scratch` completed ones are made again, too, and those that were removed.
        """
        verb = "resubmit-from-scratch" if from_scratch else "resubmit"
        return self._ask(verb, selectors, from_scratch=from_scratch)

    def pause(self, *selectors: str) -> list[str]:
        """Ask that jobs are held; running ones write a checkpoint and free their device. Returns the ids."""
        return self._ask("pause", selectors)

    def resume(self, *selectors: str) -> list[str]:
        """Ask that held jobs go on, from their last checkpoint. Returns the ids."""
        return self._ask("resume", selectors)

    def change(self, *selectors: str, settings: Mapping[str, Any]) -> list[str]:
        """Ask that jobs have other terms: {"priority": 9, "resources.gpus": 0.5, "time_limit": "2h"}, as `change` does.

        Returns the ids of those it was asked for. Raises UserError for a setting that cannot be changed so.
        """
        from terry.cluster.client import keeping

        asked = [_override(key, value) for key, value in settings.items()]
        return keeping.change(self._reader, self._meant(selectors), asked).ids

    def extend(self, *selectors: str, settings: Mapping[str, Any], whatever_the_bits: bool = False) -> list[str]:
        """Let trainings that have ended go on for longer: {"training.epochs": 20}; see `terry-cluster extend`.

        Returns the ids of those that go on. Raises UserError where the bits would not be those of a run that was as
        long from the beginning (a cosine schedule, say), unless `whatever_the_bits`.
        """
        from terry.cluster.client import extending

        asked = [_override(key, value) for key, value in settings.items()]
        found = extending.plan(self._reader, self._meant(selectors), asked)
        if found.warnings and not whatever_the_bits:
            raise UserError(f"{next(iter(found.warnings))}; whatever_the_bits=True lets it go on all the same")
        if found.runs:
            extending.carry_out(self._reader, found)
        return found.ids

    def note(self, *selectors: str, text: str) -> list[str]:
        """Say in a line what jobs are about; an empty text takes the note away. Returns the ids."""
        from terry.cluster.client import keeping

        return keeping.mark(self._reader, self._meant(selectors), note=text).ids

    def tag(self, *selectors: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> list[str]:
        """Give jobs tags, and take tags away. Returns the ids."""
        from terry.cluster.client import keeping

        return keeping.mark(self._reader, self._meant(selectors), add_tags=tuple(add), drop_tags=tuple(remove)).ids

    def star(self, *selectors: str, starred: bool = True) -> list[str]:
        """Give jobs a star, or take it away. Returns the ids."""
        from terry.cluster.client import keeping

        return keeping.mark(self._reader, self._meant(selectors), starred=starred).ids

    def archive(self, *selectors: str, archived: bool = True) -> list[str]:
        """Put jobs that have ended out of sight, or bring them back. Returns the ids."""
        from terry.cluster.client import keeping

        return keeping.mark(self._reader, self._meant(selectors), archived=archived).ids

    def rm(self, *selectors: str) -> list[str]:
        """Remove jobs that have ended, with their files, without a question. Returns the ids; what is needed stays."""
        from terry.cluster.client import room

        removal = room.plan_rm(self._reader, self._meant(selectors))
        room.carry_out(self._reader, removal)
        return removal.ids

    def clean(
        self,
        *selectors: str,
        older_than_s: float,
        keep: Literal["best", "last", "results", "nothing"] = "best",
        dry_run: bool = True,
    ) -> dict[str, Any]:
        """What `terry-cluster clean` would remove: jobs, checkpoints by job, bytes. It goes unless `dry_run`."""
        from terry.cluster.client import room

        given = selectors if any(s.startswith("is:") for s in selectors) else (*selectors, "is:any")
        removal = room.plan_clean(self._reader, self._reader.select_jobs(given), older_than_s, room.Keep(keep))
        if not dry_run:
            room.carry_out(self._reader, removal)
        return {"jobs": removal.whole, "checkpoints": removal.checkpoints, "bytes": removal.size.bytes}

    def du(self, *selectors: str, frame: Frame = "polars") -> Any:
        """What jobs take up on the disk, the largest first: bytes and files. No selector: all, put away or not."""
        from terry.cluster.client import room

        rows = [
            {
                "id": each.id,
                "sweep": each.sweep,
                "state": str(each.state),
                "bytes": each.total.bytes,
                "checkpoint_bytes": each.checkpoints.bytes,
                "files": each.total.files,
            }
            for each in room.room_of(self._reader, self._reader.select_jobs(selectors or ("is:any",)))
        ]
        return _table(rows, ("id", "sweep", "state", "bytes", "checkpoint_bytes", "files"), frame)

    def _meant(self, selectors: Sequence[str]) -> list[JobRecord]:
        if not selectors:
            raise UserError("name the jobs that are meant: ids, a sweep, a glob, 'state:running'")
        return self._reader.select_jobs(selectors)

    def _ask(self, verb: str, selectors: Sequence[str], **options: bool) -> list[str]:
        from terry.cluster.client.asking import ask_jobs

        return list(ask_jobs(self._reader, verb, self._meant(selectors), **options).ids)

    # looking

    def jobs(self, *selectors: str) -> Jobs:
        """How jobs stand: the objects of `terry-cluster status --json`. No selector: all jobs."""
        from terry.cluster.client.views import documents

        return Jobs(documents(self._reader, self._reader.select_jobs(selectors)))

    def wait(
        self, *selectors: str, timeout_s: float | None = None, notify: Callable[[str], None] | None = None
    ) -> Jobs:
        """Wait until all these jobs have ended, well or not, and return them. No selector: all jobs.

        notify: called with a line for each thing that happens, for example `print`.
        Raises TimeoutError after `timeout_s` seconds; an interrupt of the notebook's kernel ends only the waiting.
        """
        from terry.cluster.client.awaited import Awaited, searches_named
        from terry.cluster.client.following import until_ended

        wanted = [record.job.id for record in self._reader.select_jobs(selectors)]
        awaited = Awaited(self._reader, wanted, searches_named(self._reader.workspace, selectors))
        records, ended = until_ended(self._reader, awaited, notify, timeout_s)
        if not ended:
            left = sum(not record.state.is_final for record in records)
            raise TimeoutError(f"{left} of {len(records)} jobs have not ended after {timeout_s:g} s; they go on")
        return self.jobs(*(record.job.id for record in records)) if records else Jobs()

    def explain(self, job: str) -> str:
        """The story of one job as `terry-cluster explain` tells it: why each attempt ended, and what was done."""
        from terry.cluster.client.views import story_of
        from terry.logs.text.story import story_lines

        return "\n".join(story_lines(story_of(self._reader, self._reader.select_job(job))))

    def compare(self, *selectors: str) -> dict[str, Any]:
        """Runs side by side: what `terry-cluster compare --each --json` prints: settings that differ, figures."""
        import msgspec

        from terry.cluster.client.results import compared
        from terry.logs.text.compare import compare

        found: dict[str, Any] = msgspec.to_builtins(compare(compared(self._reader, selectors)))
        return found

    def plot(self, *selectors: str, file: Path | str, by: str | None = None, smoothing: float = 0.0) -> Path:
        """Draw the loss curves of runs into a file: .png, .svg or .pdf. Returns its path.

        by: one colour for each value of this setting. smoothing: 0 to 0.99. Raises UserError where none has a curve.
        """
        from terry.cluster.client import results
        from terry.logs.plots import draw

        target = Path(file).expanduser().absolute()
        if target.suffix.lower() not in {".png", ".svg", ".pdf"}:
            raise UserError(f"{target} must end with .png, .svg or .pdf")
        records = [record for record in self._reader.select_jobs(selectors) if record.job.kind != "prepare"]
        curves = results.curves(self._reader, records)
        groups = results.groups(self._reader, records, by)
        draw(curves, target, title=" ".join(selectors), smoothing=smoothing, group_of=groups)
        return target

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
        from terry.cluster.client.results import result_rows
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
        for record in self._reader.select_jobs(selectors):
            series = read_series(self.paths.run(record.job.id), record.first_attempt) if record.attempts else []
            # Not by row: a measured `lr` that some rows lack must never stand in one column with the setting.
            names = {"id", "step", "lr", *(key for row in series for key in row)}
            for row in series:
                labels = {f"setting.{key}" if key in names else key: typed(v) for key, v in record.job.labels.items()}
                rows.append({"id": record.job.id, **labels, **row})
        return _table(rows, list(dict.fromkeys(key for row in rows for key in row)), frame)

    def load(self, selector: str, device: torch.device | str = "cpu") -> Trained:
        """The trained model of a run, an ensemble or a sweep, to sample from and to evaluate: terry.models.load."""
        from terry.jobs.trained.library import load

        return load(self.root, selector, device)


def _override(key: str, value: Any) -> str:
    """`key=value` as on the command line; JSON is YAML."""
    from terry.cluster.config.yaml_file import of_values

    document, _ = of_values({key: value}, Path(), "settings")
    return f"{key}={json.dumps(document.value[key])}"


def _submitted(planned: Submission, number: int | None) -> SubmittedJobs:
    return SubmittedJobs(
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
