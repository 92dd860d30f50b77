"""What is waited for: jobs by id, and all trials of searches that are named, also those still to be chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from terry.cluster.client.reader import Reader
from terry.cluster.core.model import JobRecord
from terry.cluster.files.paths import WorkspacePaths


def searches_named(workspace: WorkspacePaths, selectors: Iterable[str]) -> frozenset[str]:
    """Sweeps with a search that these selectors name as a whole; without selectors all of them."""
    given, known = list(selectors), frozenset(workspace.searched_sweeps())
    return known & frozenset(given) if given else known


class Awaited:
    """Jobs that somebody waits for. sweeps: with a search; of them also what is submitted later."""

    def __init__(self, reader: Reader, job_ids: Collection[str], sweeps: Collection[str] = ()) -> None:
        self._reader, self._named, self._sweeps = reader, frozenset(job_ids), frozenset(sweeps)
        self._others = self._of_searches() - self._named  # of an earlier form of the file, say

    @property
    def ids(self) -> frozenset[str]:
        """All of them, as far as they are known."""
        return self._named | (self._of_searches() - self._others)

    def have_ended(self) -> bool:
        """True once all have ended, and no search has more to come."""
        if self._is_searching():  # asked first: its last trial must be among the jobs that are looked at
            return False
        return all(record.state.is_final for record in self.records())

    def records(self) -> list[JobRecord]:
        """How they stand. In place of a job that was submitted again, mended, the one that stands for it."""
        ids, reader = self.ids, self._reader
        heirs = (reader.heir(job_id) for job_id in reader.jobs() if job_id in ids)
        return list({heir.job.id: heir for heir in heirs}.values())

    def problems(self) -> list[str]:
        """Why searches ask for nothing more, in words."""
        from terry.cluster.client.searching import status_of

        found = ((sweep, status_of(self._reader.workspace, sweep)) for sweep in sorted(self._sweeps))
        return [f"{sweep}: {status.problem}" for sweep, status in found if status is not None and status.problem]

    def _of_searches(self) -> frozenset[str]:
        if not self._sweeps:
            return frozenset()
        return frozenset(job_id for job_id, record in self._reader.jobs().items() if record.job.sweep in self._sweeps)

    def _is_searching(self) -> bool:
        if not self._sweeps:
            return False
        from terry.cluster.client.searching import open_searches

        return not self._sweeps.isdisjoint(open_searches(self._reader.workspace))
