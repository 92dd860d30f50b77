"""Runs as trackers take them, read from the workspace's files; and one after the other into a tracker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from terry.cluster.client.following import until_news
from terry.cluster.client.reader import Reader
from terry.cluster.client.results import NO_RUNS, config_of, made_of, result_row_of
from terry.cluster.core.model import JobRecord
from terry.cluster.errors import UserError
from terry.logs.records.metrics import read_series
from terry.logs.trackers.content import Exported, TrackedRun, Tracker, export

#: The trackers, and what `--to` says after each.
TRACKERS = {"mlflow": "URI", "wandb": "FOLDER"}


def open_tracker(kind: str, place: str) -> Tracker:
    """Raises UserError where its library is missing, or the place is none."""
    if kind == "mlflow":
        from terry.logs.trackers.mlflow import Mlflow

        return Mlflow(place)
    if kind == "wandb":
        from terry.logs.trackers.wandb import Wandb

        return Wandb(place)
    raise UserError(f"unknown tracker {kind!r}; they are: {', '.join(TRACKERS)}")


def export_model(reader: Reader, selectors: Sequence[str], folder: Path) -> tuple[str, bool]:
    """A trained model as a folder that opens elsewhere. Returns the run's id; False where it is there already."""
    from terry.data_prep.dataset import Dataset
    from terry.jobs.trained.members import open_run
    from terry.jobs.trained.model_folder import write_model_folder

    records = _runs(reader, selectors)
    if len(records) != 1:
        raise UserError(f"--to folder takes one run, and that means {len(records)}: name the one that is handed on")
    job = records[0].job.id
    run = open_run(reader.workspace, job)
    assert run is not None
    figures = result_row_of(reader, records[0]).figures
    return job, write_model_folder(run, folder, figures, Dataset.open(run.dataset).boundary)


def export_runs(
    reader: Reader,
    selectors: Sequence[str],
    tracker: Tracker,
    *,
    follow: bool = False,
    notify: Callable[[str, int, int], None] | None = None,
) -> Exported:
    """Write each selected run that has ended; follow: and each other one when it has.

    notify: told of each run that is done: its id, which one it is, and of how many. Raises UserError where none has
    ended, and nothing is waited for.
    """
    done, seen = Exported(), {r.job.id for r in _runs(reader, selectors)}
    if not seen:
        raise UserError("that means no run; data sets, evaluations and samples are not exported")
    written: dict[str, JobRecord] = {}
    while True:
        stamp = reader.stamp()
        records = [r for r in _runs(reader, selectors) if follow or r.job.id in seen]
        for record in records:
            if record.state.is_final and written.get(record.job.id) is not record:
                export(tracked_run(reader, record), tracker, done)
                written[record.job.id] = record
                if notify is not None:
                    notify(record.job.id, len(written), len(records))
        if not follow or all(r.state.is_final and r.job.id in written for r in _runs(reader, selectors)):
            break
        until_news(reader, stamp, None)
    if not written:
        raise UserError("none of these runs has ended yet; `--follow` waits, and writes each when it has")
    return done


def _runs(reader: Reader, selectors: Sequence[str]) -> list[JobRecord]:
    return [r for r in reader.select_jobs(selectors) if r.job.kind not in NO_RUNS and r.job.kind != "sample"]


def tracked_run(reader: Reader, record: JobRecord) -> TrackedRun:
    """A run that has ended, with one curve whatever crashed in between."""
    from terry.cluster.config.typed import flatten

    job, run, row = record.job, reader.workspace.run(record.job.id), result_row_of(reader, record)
    began = next((a.started_at or a.placed_at for a in record.attempts), job.submitted_at)
    ended = record.finished_at or record.changed_at or began
    labels = {f"setting.{key}": value for key, value in job.labels.items()}
    return TrackedRun(
        key=hashlib.sha256(f"{job.id} {job.identity} {job.submitted_at.isoformat()}".encode()).hexdigest()[:20],
        name=job.id,
        sweep=job.sweep,
        state=str(record.state),
        settings={key: value for key, value in flatten(config_of(reader, record)).items() if value is not None},
        tags={**labels, **dict(_tags(record)), **{k: str(v) for k, v in made_of(run).items()}},
        figures=row.figures,
        curve=tuple(read_series(run, record.first_attempt)),
        began=began.timestamp(),
        ended=ended.timestamp(),
    )


def _tags(record: JobRecord) -> Iterator[tuple[str, str]]:
    yield "attempts", str(record.attempt)
    yield "restarts", str(record.restarts)
    yield "owner", record.job.owner
    if record.attempts:
        yield "device", record.attempts[-1].device
    reason = next((a.end.reason for a in reversed(record.attempts) if a.end), None)
    if reason is not None:
        yield "end_reason", str(reason)
    if record.reason:
        yield "reason", record.reason
