"""Jobs in real forked processes, as the forkserver starts them, without an agent."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never

import msgspec

from terry.cluster.workspace import Run, Workspace
from terry.jobs import child
from terry.jobs.records import JobLine


def orders(workspace: Workspace, sweep: str, number: int = 1) -> dict[str, dict[str, Any]]:
    """An order for the first attempt of each job of a submission, by job id."""
    path = workspace.submission(sweep, number) / "jobs.jsonl"
    found: dict[str, dict[str, Any]] = {}
    offset = 0
    for line in path.read_bytes().splitlines(keepends=True):
        job = msgspec.json.decode(line, type=JobLine).job
        found[job.id] = {
            "epoch": 1,
            "job_id": job.id,
            "sweep": sweep,
            "attempt": 1,
            "entrypoint": job.entrypoint,
            "workspace": str(workspace.root),
            "spec_path": str(path.relative_to(workspace.root)),
            "spec_offset": offset,
            "spec_length": len(line) - 1,
            "device_id": "here:cpu",
            "share": 1.0,
            "threads": 1,
            "first_attempt": 1,
            "gpu_uuid": "",
            "memory_limit_bytes": None,
        }
        offset += len(line)
    return found


@dataclass
class Attempt:
    """A running attempt."""

    order: dict[str, Any]
    pid: int
    pipe: int
    said: list[dict[str, Any]] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The job's folder."""
        return Workspace(Path(self.order["workspace"])).run(self.order["job_id"])

    @property
    def folder(self) -> Path:
        """The attempt's folder."""
        return self.run.attempt(self.order["attempt"]).root

    def progress(self) -> Iterator[dict[str, Any]]:
        """What the process says, until it ends."""
        rest = b""
        while data := os.read(self.pipe, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.said.append(msgspec.json.decode(line))
                yield self.said[-1]

    def kill_at(self, step: int, number: int = signal.SIGKILL) -> None:
        """Send a signal once it says that it has done `step`."""
        for said in self.progress():
            if said.get("step", 0) >= step:
                os.kill(self.pid, number)
                return

    def wait(self) -> int:
        """Exit code, or minus the signal that ended it."""
        for _ in self.progress():
            continue
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def start(order: dict[str, Any], attempt: int = 1, **changes: Any) -> Attempt:
    """Fork a process for an attempt."""
    order = {**order, "attempt": attempt, **changes}
    folder = Workspace(Path(order["workspace"])).run(order["job_id"]).attempt(attempt)
    folder.root.mkdir(parents=True)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _child(order, folder.stdout, folder.stderr, write_end)
    os.close(write_end)
    return Attempt(order, pid, read_end)


def _child(order: dict[str, Any], stdout: Path, stderr: Path, progress: int) -> Never:
    code = 99
    try:
        os.setpgid(0, 0)
        for path, target in ((stdout, 1), (stderr, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), target)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        code = child.main(order, progress)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
