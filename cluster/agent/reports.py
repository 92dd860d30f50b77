"""The outbox of an agent: what the controller is told of a device and its attempts, until it has acknowledged it."""

from __future__ import annotations

import threading
import time
from collections import deque

import msgspec

from terry.cluster.agent.attempt import AgentJob
from terry.cluster.agent.gate import DeviceGate
from terry.cluster.core.model import Device, DeviceUse, Progress
from terry.cluster.ports import Ended, LaunchOrder, Refused, Report, Started

#: A start, and progress, are told so late at most (seconds), and what follows goes with it, in one answer; an end is
#: told at once. With many agents these answers are most of what the controller has to do.
START_S, PROGRESS_S = 0.05, 0.5

#: Job id and number of the attempt.
AttemptKey = tuple[str, int]


class AgentReply(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent answers to `hello` and `poll`."""

    device: Device
    epoch: int
    running: tuple[AttemptKey, ...]  #: attempts that it has accepted and whose end is not yet reported
    reports: tuple[tuple[int, Report], ...]  #: numbered; offered again until acknowledged
    progress: tuple[Progress, ...]
    use: DeviceUse | None = None  #: how busy the device is
    blocked: str = ""  #: why it takes no jobs just now


class StaleOrder(RuntimeError):
    """A controller of an older epoch asked: it is not obeyed."""


class ReportOutbox:
    """Asked from any thread; what it tells of comes from the agent's permanent one."""

    def __init__(self, device: Device, gate: DeviceGate) -> None:
        self._device = device
        self._gate = gate
        self._changed = threading.Condition()
        self._epoch, self._holder = 0, ""
        self._jobs: dict[AttemptKey, AgentJob] = {}
        self._reports: deque[tuple[int, Report]] = deque()
        self._counter = 0

    # asked by the controller

    def hello(self, epoch: int, holder: str = "") -> AgentReply:
        """The controller of `epoch` takes over; older ones are refused from now on, and others of the same number."""
        with self._changed:
            if epoch == self._epoch and self._holder and holder and holder != self._holder:
                raise StaleOrder(f"another controller of epoch {epoch} has taken this agent")
            self._check_epoch(epoch)
            self._holder = holder
            self._changed.notify_all()  # polls of an older controller end
            return self._reply()

    def poll(self, epoch: int, incarnation: str, acknowledged: int, seen: int, timeout_s: float) -> AgentReply:
        """Wait for a report after number `seen`, or new progress, and then a moment for more.

        Reports up to number `acknowledged` stand in the journal and are forgotten. The numbers belong to the
        incarnation `life` of the agent: another one answers at once, and forgets nothing.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._check_epoch(epoch)
            if incarnation != self._device.agent:
                return self._reply()
            while self._reports and self._reports[0][0] <= acknowledged:
                self._reports.popleft()
            started = moved = False
            while self._epoch == epoch and not self._ends_since(seen):
                if not started and self._reports and self._reports[-1][0] > seen:
                    started, deadline = True, min(deadline, time.monotonic() + START_S)
                fresh = [job for job in self._jobs.values() if job.take_fresh()]
                if not moved and fresh:
                    moved, deadline = True, min(deadline, time.monotonic() + PROGRESS_S)
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            return self._reply()

    def accept(self, order: LaunchOrder, job: AgentJob) -> bool:
        """Take on the job of an order. False where its attempt is known, so that it is not carried out twice."""
        key = (order.job_id, order.attempt)
        with self._changed:
            self._check_epoch(order.epoch)
            if key in self._jobs or any(_names(report, key) for _, report in self._reports):
                return False
            self._jobs[key] = job
            return True

    def check_epoch(self, epoch: int) -> None:
        """Raises StaleOrder where a newer controller has taken this agent."""
        with self._changed:
            self._check_epoch(epoch)

    def _check_epoch(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise StaleOrder(f"epoch {epoch} is over, the controller of epoch {self._epoch} has taken this agent")
        self._epoch = epoch

    def _ends_since(self, seen: int) -> bool:
        """Whether anything is reported after number `seen` that the controller has to act on: an end frees a place."""
        return any(number > seen and not isinstance(report, Started) for number, report in self._reports)

    def _reply(self) -> AgentReply:
        return AgentReply(
            device=self._device,
            epoch=self._epoch,
            running=tuple(self._jobs),
            reports=tuple(self._reports),
            progress=tuple(job.progress for job in self._jobs.values()),
            use=self._gate.use,
            blocked=self._gate.reason,
        )

    # told by the agent

    @property
    def jobs(self) -> list[AgentJob]:
        """Those that were accepted and whose end was not reported."""
        return list(self._jobs.values())

    def job(self, key: AttemptKey) -> AgentJob | None:
        """The job of an attempt, where it is one of them."""
        return self._jobs.get(key)

    def report(self, report: Report, ends: AgentJob | None = None) -> None:
        """Tell of something; `ends`: and that this job is not here any more. With the last one the device is free."""
        with self._changed:
            if ends is not None:
                del self._jobs[ends.key]
                if not self._jobs:
                    self._gate.release()
            self._counter += 1
            self._reports.append((self._counter, report))
            self._changed.notify_all()

    def moved(self) -> None:
        """A job has told of its progress."""
        with self._changed:
            self._changed.notify_all()


def _names(report: Report, key: AttemptKey) -> bool:
    return isinstance(report, Started | Refused | Ended) and (report.job_id, report.attempt) == key
