"""The agent of one device: starts the processes of the jobs placed on it, watches them, and tells how they ended.

It knows nothing of Ray (terry.cluster.actors.agent hosts it in an actor). Three parts do the work: the link to the
forkserver, the gate of the device, and the outbox of reports. One permanent thread does everything that touches
processes; the methods that others call only leave a note for it, or read what the outbox has.
"""

from __future__ import annotations

import logging
import os
import selectors
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from terry.cluster.agent import mps
from terry.cluster.agent.attempt import AgentJob
from terry.cluster.agent.forkserver_link import ForkserverLink, JobProcesses, Listeners
from terry.cluster.agent.gate import DeviceGate
from terry.cluster.agent.marks import end_marked
from terry.cluster.agent.reports import AgentReply, AttemptKey, ReportOutbox
from terry.cluster.away.courier import Courier
from terry.cluster.core.model import AttemptEnd, Device, EndReason, StopGoal
from terry.cluster.ports import Blocked, Ended, LaunchOrder, Refused, Started

#: Jobs, and whether there is a forkserver, are looked at so often (seconds).
_JOBS_S, _FORKSERVER_S = 0.25, 0.1
#: So often while something waits until nothing else is to be done (seconds).
_LEISURE_S = 0.5
#: Whoever has not looked for so long (stopped, frozen, in a snapshot) was away himself: his jobs were not silent.
AWAY_S = 10.0

_log = logging.getLogger(__name__)


class DeviceAgent:
    """See the module. `device.agent` is set to a new incarnation id at each start."""

    def __init__(
        self, device: Device, processes: JobProcesses, gate: DeviceGate | None = None, courier: Courier | None = None
    ) -> None:
        """gate: of a GPU, or of a node that is unfit; none: a device that nobody else can take.

        courier: where the node does not see the workspace.
        """
        self._device = replace(device, agent=uuid.uuid4().hex)
        if courier is not None:  # what a run leaves is sent home at its end: nothing can be added later
            processes = replace(processes, runtime=replace(processes.runtime, draws=False))
        self._processes = processes
        self._gate = gate or DeviceGate(self._device, processes.mark)
        self._courier = courier
        self._outbox = ReportOutbox(self._device, self._gate)
        self._selector = selectors.DefaultSelector()
        self._link = ForkserverLink(
            processes,
            self._selector,
            Listeners(
                forked=self._forked,
                moved=self._outbox.moved,
                exiting=lambda: self._gate.watch(self._link.jobs),
                ended=self._ended,
            ),
        )
        self._posted: deque[Callable[[], None]] = deque()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False
        self._checked = time.monotonic()

    @property
    def forkserver_pid(self) -> int | None:
        """Pid of the forkserver, while there is one."""
        return self._link.pid

    @property
    def is_idle(self) -> bool:
        """True where no attempt is at work, and none has an end that is still to be told."""
        return not self._outbox.jobs

    # asked by the controller, from any thread

    def hello(self, epoch: int, holder: str = "") -> AgentReply:
        """See ReportOutbox."""
        return self._outbox.hello(epoch, holder)

    def poll(self, epoch: int, incarnation: str, acknowledged: int, seen: int, timeout_s: float) -> AgentReply:
        """See ReportOutbox."""
        return self._outbox.poll(epoch, incarnation, acknowledged, seen, timeout_s)

    def launch(self, order: LaunchOrder) -> None:
        """Accept an order; Started, Refused or Ended follow. A known order is not carried out twice."""
        here = order if self._courier is None else replace(order, workspace=str(self._courier.local.root))
        job = AgentJob(here, self._processes.runtime.grace_s)
        if not self._outbox.accept(order, job):
            return
        if self._courier is None:
            self._post(lambda: self._start(job))
        else:
            prepare = partial(job.prepare, self._device)
            self._courier.fetch(order, prepare, lambda refusal: self._post(lambda: self._fetched(job, refusal)))

    def stop(self, epoch: int, job_id: str, attempt: int, goal: StopGoal) -> None:
        """SIGTERM now, SIGKILL after the grace period; nothing where the attempt is not (or no longer) here."""
        self._outbox.check_epoch(epoch)
        self._post(lambda: self._stop((job_id, attempt), goal))

    def close(self) -> None:
        """End `run`, the forkserver, and with it all jobs."""

        def end() -> None:
            self._closed = True

        self._post(end)

    def _post(self, action: Callable[[], None]) -> None:
        self._posted.append(action)
        os.eventfd_write(self._alarm, 1)

    # the permanent thread

    def run(self) -> None:
        """Clear what an earlier incarnation left, then serve until `close`."""
        self.clear_predecessors()
        self._selector.register(self._alarm, selectors.EVENT_READ, self._read_posted)
        self._link.start_if_due(time.monotonic())
        while not self._closed:
            for key, _ in self._selector.select(self._until_next_check()):
                key.data()
            self._check(time.monotonic())
        self._link.close()
        if self._courier is not None:
            self._courier.close()
        self._selector.close()

    def clear_predecessors(self) -> None:
        """Make sure that no process of an earlier incarnation lives. To be called before anybody is told of this one.

        Raises RuntimeError where one does not end.
        """
        end_marked(self._processes.mark)

    def _read_posted(self) -> None:
        os.eventfd_read(self._alarm)
        while self._posted:
            self._posted.popleft()()

    def _until_next_check(self) -> float:
        if self._outbox.jobs:
            return _JOBS_S
        if self._link.pid is None:
            return _FORKSERVER_S
        return min(_LEISURE_S, self._gate.idle_s) if self._link.has_work else self._gate.idle_s

    def _check(self, now: float) -> None:
        away, self._checked = now - self._checked, now
        if away > AWAY_S:
            _log.warning("this process was away for %.0f s: waiting for its jobs anew", away)
            for job in self._outbox.jobs:
                job.was_away(away)
        if self._link.start_if_due(now):
            for job in [job for job in self._outbox.jobs if job.waits_for_forkserver]:
                self._start(job)
        self._gate.watch(self._link.jobs)
        if self._gate.look(now):
            self._report_blocked()
        for job in self._outbox.jobs:
            job.enforce_limits(now)

    def _report_blocked(self) -> None:
        self._outbox.report(Blocked(device_id=self._device.id, reason=self._gate.reason))

    # from an order to a process

    def _fetched(self, job: AgentJob, refusal: str) -> None:
        if refusal:
            self._refuse(job, refusal)
        else:
            self._start(job)

    def _start(self, job: AgentJob) -> None:
        job.waits_for_forkserver = self._link.pid is None
        if job.waits_for_forkserver:
            return
        try:
            blocked = self._take_device()
            refusal = blocked or self._without_mps(job) or ("" if job.prepared else job.prepare(self._device))
        except OSError as error:
            self._could_not_prepare(job, error)
            return
        if refusal:
            self._refuse(job, refusal, blocked=bool(blocked))
        else:
            self._link.fork(job, self._device)

    def _take_device(self) -> str:
        taken, is_news = self._gate.take()
        if is_news:  # before the refusal: the queue must not place the next job here
            self._report_blocked()
        return taken

    def _without_mps(self, job: AgentJob) -> str:
        return mps.why_not(self._processes.marked_environment) if job.order.mps else ""

    def _refuse(self, job: AgentJob, message: str, *, blocked: bool = False) -> None:
        job_id, attempt = job.key
        if self._courier is not None:
            self._courier.drop(job.key)
        self._outbox.report(Refused(job_id=job_id, attempt=attempt, message=message, blocked=blocked), ends=job)

    def _could_not_prepare(self, job: AgentJob, error: OSError) -> None:
        end = AttemptEnd(reason=job.reason_of(error), message=f"{job.folder.root}: {error.strerror}")
        if end.reason is EndReason.LAUNCH_ERROR:
            self._refuse(job, end.message)
        else:
            self._report_end(job, end)

    # from a process to its end

    def _forked(self, job: AgentJob, pid: int) -> None:
        job_id, attempt = job.key
        self._outbox.report(Started(job_id=job_id, attempt=attempt, pid=pid))

    def _stop(self, key: AttemptKey, goal: StopGoal) -> None:
        job = self._outbox.job(key)
        if job is not None:
            job.ask_to_stop(goal)

    def _ended(self, job: AgentJob, end: AttemptEnd) -> None:
        if self._courier is None:
            self._report_end(job, end)
        else:  # what comes after it relies on what it wrote
            self._courier.finish(job.key, lambda: self._post(lambda: self._report_end(job, end)))

    def _report_end(self, job: AgentJob, end: AttemptEnd) -> None:
        job_id, attempt = job.key
        self._outbox.report(Ended(job_id=job_id, attempt=attempt, end=end), ends=job)
