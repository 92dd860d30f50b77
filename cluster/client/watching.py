"""The workspace as the source of what the dashboard shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from terry.cluster.client.reader import Reader
from terry.cluster.client.views import last_lines, story_of
from terry.cluster.core.model import JobRecord
from terry.cluster.files.paths import WorkspacePaths
from terry.logs.dashboard.feed import Wanted
from terry.logs.records.losses import LossHistory
from terry.logs.text.story import story_lines
from terry.logs.view.build import ViewBuilder, ViewInputs
from terry.logs.view.view import Detail, View

#: Lines of a job's output on its page.
_LOG_LINES = 200

#: Points of the curve on a job's page: more than a wide terminal has columns of dots.
_CURVE_POINTS = 1000


class WorkspaceSource:
    """Views of a workspace, with the curves of what is visible and the page of the job that is open."""

    def __init__(self, workspace: WorkspacePaths) -> None:
        self._reader = Reader(workspace)
        self._snapshots = ViewBuilder()
        self._histories: dict[str, LossHistory] = {}
        self._curve: tuple[str, LossHistory] | None = None  # of the job whose page is open

    def stamp(self) -> object:
        """Changes with the workspace."""
        return self._reader.stamp()

    def view(self, wanted: Wanted) -> View:
        """All there is to show."""
        jobs = self._reader.jobs()
        seen = [jobs[job_id] for job_id in (*wanted.visible, wanted.detail or "") if job_id in jobs]
        self._reader.look_at(seen)
        known = replace(self._reader.read(), losses=self._losses(seen))
        view = self._snapshots.view(known)
        if wanted.detail is None or wanted.detail not in known.jobs:
            return view
        return replace(view, detail=self._detail(known.jobs[wanted.detail], known))

    def _losses(self, records: Collection[JobRecord]) -> Mapping[str, tuple[float, ...]]:
        found = {}
        for record in records:
            if record.attempts:
                job_id = record.job.id
                if job_id not in self._histories:
                    self._histories[job_id] = LossHistory(self._reader.workspace.run(job_id))
                found[job_id] = self._histories[job_id].update(record.attempt, record.first_attempt)
        return found

    def _detail(self, record: JobRecord, known: ViewInputs) -> Detail:
        """The page of one job."""
        run = self._reader.workspace.run(record.job.id)
        if self._curve is None or self._curve[0] != record.job.id:
            self._curve = record.job.id, LossHistory(run, _CURVE_POINTS, first_bytes=None)
        curve = self._curve[1]
        losses = curve.update(record.attempt, record.first_attempt)
        attempts = run.attempts()
        log = last_lines(attempts[-1][1].stdout, _LOG_LINES) if attempts else []
        return Detail(
            job_id=record.job.id,
            steps=curve.steps,
            losses=losses,
            restarts=curve.restarts,
            log=tuple(log),
            story=tuple(story_lines(story_of(self._reader, record, known))),
        )
