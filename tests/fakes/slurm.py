"""A Slurm in memory, for tests: jobs that a test starts, ends, and looks into."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.slurm.commands import SlurmError
from terry.cluster.slurm.plan import Phase, SlurmJob


class FakeSlurm:
    """A SlurmCommands with a world of its own."""

    def __init__(self) -> None:
        self._jobs: dict[str, SlurmJob] = {}
        self._number = 100
        self.refusal = ""  #: what sbatch says instead of taking a job
        self.silence = ""  #: why squeue does not answer
        self.released: list[str] = []
        self.words: dict[str, str] = {}  #: job id -> last line of its output

    # SlurmCommands

    def jobs(self) -> tuple[SlurmJob, ...]:
        """See SlurmCommands."""
        if self.silence:
            raise SlurmError(self.silence)
        return tuple(self._jobs.values())

    def submit(self, group: SlurmGroup, node: str) -> str:
        """See SlurmCommands."""
        if self.refusal:
            raise SlurmError(self.refusal)
        self._number += 1
        words = {"state": "PENDING", "reason": "Resources", "settings": self.settings_of(group)}
        self.put(SlurmJob(id=str(self._number), node=node, phase=Phase.PENDING, **words))
        return str(self._number)

    def release(self, ids: Iterable[str]) -> None:
        """See SlurmCommands."""
        self.released += ids

    def cancel(self, ids: Iterable[str]) -> None:
        """See SlurmCommands."""
        for each in ids:
            self._jobs.pop(each, None)

    def last_words(self, job_id: str) -> str:
        """See SlurmCommands."""
        return self.words.get(job_id, "")

    def name_of(self, node: str) -> str:
        """See SlurmCommands."""
        return f"terry-fake-{node}"

    def settings_of(self, group: SlurmGroup) -> str:
        """See SlurmCommands."""
        return f"{group.partition}, {group.time}"

    # the world, for tests

    def put(self, job: SlurmJob) -> None:
        """A job, from wherever."""
        self._jobs[job.id] = job

    def start(self, node: str) -> None:
        """Slurm has found room for the node."""
        for job in [job for job in self._jobs.values() if job.node == node]:
            self.put(replace(job, phase=Phase.RUNNING, state="RUNNING", reason="None", host="c1"))

    def end(self, node: str) -> None:
        """The node's job is over."""
        self._jobs = {key: job for key, job in self._jobs.items() if job.node != node}
