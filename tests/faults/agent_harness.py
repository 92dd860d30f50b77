"""An agent with Terry's own jobs in it, without Ray: a real forkserver, real processes, real trainings, one device."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.agent.agent import DeviceAgent
from terry.cluster.agent.forkserver_link import JobProcesses
from terry.cluster.agent.gate import DeviceGate
from terry.cluster.agent.gpu import GpuDriver
from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.agent.marks import AGENT_VARIABLE
from terry.cluster.agent.reports import AgentReply
from terry.cluster.core.model import AttemptEnd, Device, DeviceKind
from terry.cluster.files.paths import Run, WorkspacePaths
from terry.cluster.host.processes import kill_all, with_environment
from terry.cluster.ports import Ended, LaunchOrder, Refused, Report, Started

HELPERS = Path(__file__).parents[1] / "helpers"

#: Terry's own child, with what our jobs need, and without.
RUNTIME = JobRuntime(
    entry="terry.jobs.process.child:main",
    preload="terry.jobs.process.preload:MODULES",
    environment={"PYTHONPATH": str(HELPERS), "OMP_NUM_THREADS": "1"},
    grace_s=5.0,
)
LIGHT = JobRuntime(entry="terry.jobs.process.child:main", environment=RUNTIME.environment, grace_s=5.0)


class AgentHarness:
    """A running agent of one device, and what it has reported."""

    def __init__(
        self,
        root: Path,
        gpu: GpuDriver | None = None,
        runtime: JobRuntime = RUNTIME,
        lock: Path | None = None,
        device: Device | None = None,
    ) -> None:
        self.workspace = WorkspacePaths(root)
        self.workspace.queue.mkdir(parents=True, exist_ok=True)
        self.gpu = gpu
        self.mark = f"{self.workspace.id}/here"
        self.device = device or Device(id="here:cpu", node="here", node_id="n", kind=DeviceKind.CPU, capacity=2.0)
        environment = {k: v for k, v in os.environ.items() if k != AGENT_VARIABLE}
        log = Path(f"{root}.agent.log")
        processes = JobProcesses(runtime=runtime, environment=environment, log=log, mark=self.mark)
        self.agent = DeviceAgent(self.device, processes, DeviceGate(self.device, self.mark, gpu, lock))
        self.incarnation = self.agent.hello(1).device.agent
        self.seen = 0
        self.reports: list[Report] = []
        self.thread = threading.Thread(target=self.agent.run)
        self.thread.start()

    def close(self) -> None:
        """End it with all that is its own."""
        self.agent.close()
        self.thread.join(30.0)
        assert not kill_all(lambda: with_environment(AGENT_VARIABLE, self.mark), timeout_s=10.0)

    def run(self, job: str = "s-1") -> Run:
        """The job's folder."""
        return self.workspace.run(job)

    def launch(self, entrypoint: str, job: str = "s-1", attempt: int = 1, **more: Any) -> None:
        """Start an attempt of a job with an entry point of tests/helpers."""
        self.agent.launch(self.order(entrypoint, job, attempt, **more))

    def order(
        self, entrypoint: str, job: str = "s-1", attempt: int = 1, *, write: bool = True, **more: Any
    ) -> LaunchOrder:
        """The order for it. `write`: also the job's line, which it needs."""
        line = _line(job, entrypoint, more.pop("parameters", {}))
        path = self.workspace.root / f"{job}.jsonl"
        if write:
            path.write_bytes(line)
        return LaunchOrder(
            epoch=1,
            job_id=job,
            sweep="s",
            attempt=attempt,
            entrypoint=entrypoint,
            workspace=str(self.workspace.root),
            spec_path=path.name,
            spec_offset=0,
            spec_length=len(line) - 1,
            device_id=self.device.id,
            **{"share": 1.0, "threads": 1, **more},
        )

    def poll(self) -> AgentReply:
        """Hear what is new."""
        reply = self.agent.poll(1, self.incarnation, 0, self.seen, 0.2)
        self.reports += [report for number, report in reply.reports if number > self.seen]
        self.seen = max([self.seen, *(number for number, _ in reply.reports)])
        return reply

    def until(self, fits: Callable[[Report], bool], timeout_s: float = 90.0) -> Report:
        """The first report that fits."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for report in self.reports:
                if fits(report):
                    return report
            self.poll()
        raise AssertionError(f"not reported: {self.reports}\n{self.output()}")

    def until_step(self, job: str = "s-1", step: int = 1) -> None:
        """Until the job has told of this step."""
        deadline = time.monotonic() + 90.0
        while time.monotonic() < deadline:
            if any(p.job_id == job and p.step >= step for p in self.poll().progress):
                return
        raise AssertionError(f"no progress\n{self.output()}")

    def until_phase(self, phase: str, job: str = "s-1") -> None:
        """Until the job is told to be in this phase."""
        deadline = time.monotonic() + 90.0
        while time.monotonic() < deadline:
            if any(p.job_id == job and p.phase == phase for p in self.poll().progress):
                return
        raise AssertionError(f"never in the phase {phase!r}")

    def output(self) -> str:
        """What the jobs have printed, for a failed test."""
        return "\n".join(p.read_text(errors="replace") for p in self.workspace.runs.glob("*/attempts/*/stderr.log"))

    def call_it_hung_after(self, seconds: float, job: str = "s-1") -> None:
        """Shorten a job's `hang_after` now that it is at work: on a busy machine it may take long to begin."""
        found = self.agent._outbox.job((job, 1))
        assert found is not None
        found.order = replace(found.order, hang_after_s=seconds)

    def pid(self, job: str = "s-1") -> int:
        """Pid of the job's process."""
        report = self.until(lambda r: isinstance(r, Started) and r.job_id == job)
        assert isinstance(report, Started)
        return report.pid

    def ended(self, job: str = "s-1", attempt: int = 1) -> AttemptEnd:
        """How the attempt ended."""
        report = self.until(lambda r: isinstance(r, Ended) and (r.job_id, r.attempt) == (job, attempt))
        assert isinstance(report, Ended)
        return report.end

    def refusal(self, job: str = "s-1") -> Refused:
        """That the attempt was not started."""
        report = self.until(lambda r: isinstance(r, Refused) and r.job_id == job)
        assert isinstance(report, Refused)
        return report

    def refused(self, job: str = "s-1") -> str:
        """Why the attempt was not started."""
        return self.refusal(job).message


def _line(job: str, entrypoint: str, parameters: dict[str, Any]) -> bytes:
    about = {
        "id": job,
        "sweep": "s",
        "kind": "train",
        "identity": "0" * 64,
        "entrypoint": entrypoint,
        "resources": {"cpus": 1.0},
        "submitted_at": datetime.now(UTC),
        "owner": "",
        "priority": 0,
        "held": False,
        "depends_on": (),
        "retry": {},
        "labels": {},
    }
    config = {"entrypoint": entrypoint, "parameters": parameters, "checkpoint": {"every": 0.05}}
    return msgspec.json.encode({"job": about, "config": config}) + b"\n"


def main() -> None:
    """`python -m tests.faults.agent_harness FOLDER ENTRYPOINT`: one job; prints how it ended, as JSON."""
    harness = AgentHarness(Path(sys.argv[1]), runtime=LIGHT)
    harness.launch(sys.argv[2])
    print(json.dumps(msgspec.to_builtins(harness.ended())), flush=True)
    harness.close()


if __name__ == "__main__":
    main()
