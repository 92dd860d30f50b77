"""Jobs in real processes of a real forkserver, without an agent.

Not forked from pytest itself: other tests have started threads there (polars has a pool), and what a fork copies of
their locks stays locked for ever.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.agent.forkserver_client import Exited, Forked, ForkserverClient, Ready
from terry.cluster.agent.job_runtime import TERRY_JOBS
from terry.cluster.files import durable
from terry.cluster.files.paths import Run, WorkspacePaths
from terry.jobs.submitting.records import JobLine


def orders(workspace: WorkspacePaths, sweep: str, number: int = 1) -> dict[str, dict[str, Any]]:
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
            "gpu_memory_bytes": 0,
        }
        offset += len(line)
    return found


@dataclass
class Attempt:
    """A running attempt."""

    order: dict[str, Any]
    pid: int
    pipe: int
    order_id: int  #: its number at the forkserver
    said: list[dict[str, Any]] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The job's folder."""
        return WorkspacePaths(Path(self.order["workspace"])).run(self.order["job_id"])

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
        return self.leave()

    def leave(self) -> int:
        """The same, without listening to what it says."""
        status = _server().status(self.order_id)
        os.close(self.pipe)
        return os.waitstatus_to_exitcode(status)


class _Server:
    """One forkserver for the whole test session."""

    def __init__(self) -> None:
        log = Path(tempfile.mkdtemp(prefix="terry-test-")) / "forkserver.log"
        self._client = ForkserverClient(TERRY_JOBS, os.environ, log)
        atexit.register(self._client.close)
        self._orders = 0
        self._forked: dict[int, Forked] = {}
        self._exited: dict[int, Exited] = {}

    def start(self, order: dict[str, Any], stdout: Path, stderr: Path) -> Forked:
        """Have a process forked."""
        self._orders += 1
        self._client.order(self._orders, order, {}, stdout, stderr)
        while self._orders not in self._forked:
            self._receive()
        return self._forked.pop(self._orders)

    def status(self, number: int) -> int:
        """Wait status of an order's process, once it has ended."""
        while number not in self._exited:
            self._receive()
        return self._exited.pop(number).status

    def _receive(self) -> None:
        select.select([self._client], [], [])
        match self._client.receive():
            case Forked() as message:
                self._forked[message.id] = message
            case Exited() as message:
                self._exited[message.id] = message
            case Ready() | None:
                return


@cache
def _server() -> _Server:
    return _Server()


def start(order: dict[str, Any], attempt: int = 1, **changes: Any) -> Attempt:
    """Fork a process for an attempt."""
    order = {**order, "attempt": attempt, **changes}
    folder = WorkspacePaths(Path(order["workspace"])).run(order["job_id"]).attempt(attempt)
    assert not folder.root.exists()
    durable.make_folder(folder.root)  # as an agent does it
    forked = _server().start(order, folder.stdout, folder.stderr)
    return Attempt(order, forked.pid, forked.progress, forked.id)
