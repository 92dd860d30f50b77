"""The order that starts a job's process, as its agent hands it over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.errors import UserError
from terry.cluster.files.paths import Run, WorkspacePaths
from terry.jobs.submitting.records import JobLine


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's process is told: the fields of ports.LaunchOrder that it needs, and its device."""

    job_id: str
    sweep: str
    attempt: int
    entrypoint: str
    workspace: str
    spec_path: str
    spec_offset: int
    spec_length: int
    threads: int = 1
    first_attempt: int = 1  #: checkpoints and metrics of earlier attempts do not count
    identity: str = ""  #: of the job; empty: an agent of an earlier version has not told
    result_from: int = 0  #: results of attempts before this one are not the end; 0: as `first_attempt`
    device_id: str = ""
    gpu_uuid: str = ""  #: empty: no GPU
    gpu_memory_bytes: int = 0  #: all of the GPU's memory; 0: unknown
    memory_share: float = 1.0  #: how much of it the job may use
    drawn_later: bool = False  #: its agent sees to the picture of its curve, once the device is idle
    pulse_fd: int = -1  #: memory shared with the agent, see terry.cluster.agent.pulse; -1: none

    @classmethod
    def of(cls, order: dict[str, Any]) -> Order:
        """From JSON as plain values. Raises ValueError."""
        return msgspec.convert(order, cls)

    @property
    def place(self) -> WorkspacePaths:
        """The workspace."""
        return WorkspacePaths(Path(self.workspace))

    @property
    def run(self) -> Run:
        """The job's folder."""
        return self.place.run(self.job_id)

    @property
    def device(self) -> str:
        """What torch calls the device: a job sees one GPU, which is then number 0, or none."""
        return "cuda:0" if self.gpu_uuid else "cpu"

    def line(self) -> JobLine:
        """The job's line of jobs.jsonl. Raises OSError, ValueError (UserError where it is that of another job)."""
        root = Path(self.workspace).resolve()
        path = (root / self.spec_path).resolve()
        if not path.is_relative_to(root):
            raise ValueError(f"{self.spec_path} is outside the workspace")
        with path.open("rb") as file:
            data = os.pread(file.fileno(), self.spec_length, self.spec_offset)
        line = msgspec.json.decode(data, type=JobLine)
        if line.job.id != self.job_id or (self.identity and line.job.identity != self.identity):
            raise UserError(f"{path}: the line of {self.job_id} is another one than the queue has: submit it anew")
        return line
