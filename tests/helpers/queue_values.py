"""Values of the queue for tests, with defaults for all that a test does not care about."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from terry.cluster.core import events as e
from terry.cluster.core.events import Command, Event, Follow
from terry.cluster.core.model import (
    Allocation,
    AttemptEnd,
    Device,
    DeviceKind,
    EndReason,
    Job,
    JobRecord,
    Resources,
    RetryPolicy,
    SpecRef,
)
from terry.cluster.core.state_document import validate
from terry.cluster.core.state_machine import State, apply, follow
from terry.cluster.files.durable import Calls
from terry.cluster.files.paths import WorkspacePaths

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class NoSync(Calls):
    """Without waiting for the disk: for tests that write much and lose nothing."""

    def fsync(self, descriptor: int) -> None:
        assert descriptor >= 0


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def make_job(job_id: str, depends_on: Iterable[str] = (), **changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": job_id,
        "sweep": job_id.rpartition("-")[0] or job_id,
        "kind": "train",
        "identity": "0" * 64,
        "entrypoint": "lab:wait",
        "resources": Resources(cpus=1),
        "spec": SpecRef(path="sweeps/s/submission-0001/jobs.jsonl", offset=0, length=1),
        "submitted_at": T0,
        "owner": "ann",
        "depends_on": tuple(depends_on),
        "retry": RetryPolicy(),
    }
    return Job(**{**values, **changes})


def make_cpu(name: str = "here", cores: float = 2.0, incarnation: int = 1) -> Device:
    return Device(id=f"{name}:cpu", node=name, node_id=f"{name}@{incarnation}", kind=DeviceKind.CPU, capacity=cores)


def make_gpu(name: str = "quattro", index: int = 0, model: str = "NVIDIA H100") -> Device:
    return Device(
        id=f"{name}:{index}",
        node=name,
        node_id=f"{name}@1",
        kind=DeviceKind.GPU,
        capacity=1.0,
        model=model,
        uuid=f"GPU-{name}-{index}",
        host_cores=16,
    )


class Queue:
    """A state that is validated after each event, and a clock that moves on by a second with each."""

    def __init__(self, *devices: Device) -> None:
        self.state = State()
        self.events: list[Event] = []
        self.now = T0
        for device in devices:
            self.do(e.DeviceSeen(time=self.now, device=device))

    def do(self, event: Event) -> list[Command]:
        """Apply an event and all that follows from it; return the commands for the world."""
        commands = self.apply_one(event)
        found = [c for c in commands if not isinstance(c, Follow)]
        for following in [c.event for c in commands if isinstance(c, Follow)]:
            for applied, more in follow(self.state, following):
                self._check(applied)
                found += more
        return found

    def apply_one(self, event: Event) -> list[Command]:
        commands = list(apply(self.state, event))
        self._check(event)
        return commands

    def _check(self, applied: Event) -> None:
        self.events.append(applied)
        validate(self.state)
        self.now += timedelta(seconds=1)

    def submit(self, job_id: str, depends_on: Iterable[str] = (), **changes: Any) -> JobRecord:
        self.do(e.Submitted(time=self.now, job=make_job(job_id, depends_on, **changes)))
        return self.state.jobs[job_id]

    def place(self, job_id: str, device: str = "here:cpu", share: float = 1.0) -> list[Command]:
        grant = Allocation(device=device, node=device.partition(":")[0], share=share)
        attempt = self.state.jobs[job_id].attempt + 1
        return self.do(e.Placed(time=self.now, job_id=job_id, attempt=attempt, allocation=grant))

    def start(self, job_id: str, device: str = "here:cpu", share: float = 1.0) -> JobRecord:
        self.place(job_id, device, share)
        attempt = self.state.jobs[job_id].attempt
        self.do(e.AttemptStarted(time=self.now, job_id=job_id, attempt=attempt, pid=100 + attempt))
        return self.state.jobs[job_id]

    def end(self, job_id: str, reason: EndReason = EndReason.SUCCESS, **evidence: Any) -> JobRecord:
        end = AttemptEnd(reason=reason, **evidence)
        attempt = self.state.jobs[job_id].attempt
        self.do(e.AttemptEnded(time=self.now, job_id=job_id, attempt=attempt, end=end))
        return self.state.jobs[job_id]

    def __getitem__(self, job_id: str) -> JobRecord:
        return self.state.jobs[job_id]


def job_line(job_id: str, depends_on: Iterable[str] = (), **changes: Any) -> str:
    """A line of jobs.jsonl."""
    job = {
        "id": job_id,
        "sweep": job_id.rpartition("-")[0],
        "kind": "train",
        "identity": "0" * 64,
        "entrypoint": "lab:wait",
        "resources": {"cpus": 1},
        "submitted_at": "2026-01-01T00:00:00Z",
        "depends_on": list(depends_on),
        **changes,
    }
    return json.dumps({"job": job, "config": {"lr": 0.1}})


def write_submission(workspace: WorkspacePaths, sweep: str, lines: Iterable[str], number: int = 1) -> Path:
    folder = workspace.submission(sweep, number)
    folder.mkdir(parents=True)
    (folder / "jobs.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder
