"""A controller on a fake pool, for tests."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from terry.cluster.controller.loop import Controller, ControllerHooks
from terry.cluster.core.model import AttemptEnd, EndReason, JobRecord
from terry.cluster.core.state_document import to_snapshot, validate
from terry.cluster.files import inbox
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from tests.fakes.pool import FakeClock, FakePool
from tests.helpers.queue_values import NoSync, job_line, make_cpu, write_submission

SUCCESS = AttemptEnd(reason=EndReason.SUCCESS)


class Bench:
    """A controller on a fake pool."""

    def __init__(self, folder: Path, pool: FakePool | None = None) -> None:
        self.workspace = WorkspacePaths(folder / "workspace")
        self.workspace.root.mkdir()
        self.clock = FakeClock()
        self.pool = pool or FakePool([make_cpu()])
        self.finished: list[JobRecord] = []
        self.calls = NoSync()
        self.controller = self.new_controller()

    def new_controller(self) -> Controller:
        hooks = ControllerHooks(finished=self.finished.append)
        self.controller = Controller(self.workspace, self.pool, self.clock, hooks=hooks, calls=self.calls)
        self.controller.recover()
        return self.controller

    def restart(self) -> None:
        self.controller.close()
        self.new_controller()

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.controller.turn(0)
            validate(self.controller.state)
            assert to_snapshot(read_state(self.workspace)) == to_snapshot(self.controller.state)
            self.clock.advance(1.0)

    def submit(self, *job_ids: str, sweep: str = "s", number: int = 1, **details: Any) -> None:
        write_submission(self.workspace, sweep, [job_line(job_id, **details) for job_id in job_ids], number)
        self.ask(inbox.Submit(sweep=sweep))

    def ask(self, message: inbox.Message) -> str:
        """Send, turn, and return what was done."""
        inbox.send(self.workspace, message, self.calls)
        self.turn()
        return self.controller.state.requests[message.request]

    def __getitem__(self, job_id: str) -> JobRecord:
        return self.controller.state.jobs[job_id]


class FullDisk(NoSync):
    full = False

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, data)
