"""The agent of one device: starts the processes of the jobs placed on it, watches them, and tells how they ended.

It knows nothing of Ray (terry.cluster.actors.pool hosts it in an actor). One permanent thread does everything that
touches processes; the methods that others call only leave a note for it, or read what it has published.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from terry.cluster.agent import mps
from terry.cluster.agent.attempt import AgentJob
from terry.cluster.agent.forkserver_client import Exited, Forked, ForkserverClient, ForkserverLost, Ready
from terry.cluster.agent.gpu import GpuPort
from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.agent.meter import DeviceMeter
from terry.cluster.agent.occupancy import EVERY_S as OCCUPANCY_EVERY_S
from terry.cluster.agent.occupancy import Occupancy
from terry.cluster.away.courier import Courier
from terry.cluster.core.model import AttemptEnd, Device, DeviceUse, EndReason, Progress, StopGoal
from terry.cluster.host.processes import Process, kill_all, with_environment
from terry.cluster.ports import Blocked, Ended, LaunchOrder, Refused, Report, Started

_log = logging.getLogger(__name__)

#: A start, and progress, are told so late at most (seconds), and what follows goes with it, in one answer; an end is
#: told at once. With many agents these answers are most of what the controller has to do.
START_S, PROGRESS_S = 0.05, 0.5
#: Whoever has not looked for so long (stopped, frozen, in a snapshot) was away himself: his jobs were not silent.
AWAY_S = 10.0
#: Marks all processes of an agent, for the successor that has to make sure that they are gone.
AGENT_VARIABLE = "TERRY_AGENT"


class AgentReply(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent answers to `hello` and `poll`."""

    device: Device
    epoch: int
    running: tuple[tuple[str, int], ...]  #: attempts that it has accepted and whose end is not yet reported
    reports: tuple[tuple[int, Report], ...]  #: numbered; offered again until acknowledged
    progress: tuple[Progress, ...]
    use: DeviceUse | None = None  #: how busy the device is
    blocked: str = ""  #: why it takes no jobs just now


class StaleOrder(RuntimeError):
    """A controller of an older epoch asked: it is not obeyed."""


class DeviceAgent:
    """See the module. `device.agent` is set to a new incarnation id at each start."""

    def __init__(
        self,
        device: Device,
        runtime: JobRuntime,
        environment: dict[str, str],
        log: Path,
        mark: str,
        gpu: GpuPort | None = None,
        lock: Path | None = None,
        unfit: str = "",
        courier: Courier | None = None,
    ) -> None:
        """unfit: why no job may run here until somebody mends the node; empty where all may.

        courier: where the node does not see the workspace.
        """
        self._device = replace(device, agent=uuid.uuid4().hex)
        self._runtime = runtime
        self._environment = {**environment, AGENT_VARIABLE: mark}
        self._mark = mark
        self._log_path = log
        self._gpu = gpu
        self._unfit = unfit
        self._courier = courier
        self._meter = DeviceMeter(self._device, gpu)
        self._occupancy = Occupancy(device.id, gpu, lock, self._own_pids) if gpu is not None else None
        self._changed = threading.Condition()
        self._epoch, self._holder = 0, ""
        self._jobs: dict[tuple[str, int], AgentJob] = {}
        self._reports: deque[tuple[int, Report]] = deque()
        self._counter = 0
        self._notes: deque[Callable[[], None]] = deque()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._forkserver: ForkserverClient | None = None
        self._by_number: dict[int, AgentJob] = {}
        self._numbers = 0
        self._forkserver_retry_at = 0.0
        self._forkserver_failures = 0
        self._closed = False
        self._checked = time.monotonic()

    @property
    def forkserver_pid(self) -> int | None:
        """Pid of the forkserver, while there is one."""
        return self._forkserver.pid if self._forkserver else None

    # asked by the controller, from any thread

    def hello(self, epoch: int, holder: str = "") -> AgentReply:
        """The controller of `epoch` takes over; older ones are refused from now on, and others of the same number."""
        with self._changed:
            if epoch == self._epoch and self._holder and holder and holder != self._holder:
                raise StaleOrder(f"another controller of epoch {epoch} has taken this agent")
            self._check_epoch(epoch)
            self._holder = holder
            self._changed.notify_all()  # polls of an older controller end
            return self._reply()

    def poll(self, epoch: int, life: str, acknowledged: int, seen: int, timeout_s: float) -> AgentReply:
        """Wait for a report after number `seen`, or new progress, and then a moment for more.

        Reports up to number `acknowledged` stand in the journal and are forgotten. The numbers belong to the
        incarnation `life` of the agent: another one answers at once, and forgets nothing.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._check_epoch(epoch)
            if life != self._device.agent:
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

    def _ends_since(self, seen: int) -> bool:
        """Whether anything is reported after number `seen` that the controller has to act on: an end frees a place."""
        return any(number > seen and not isinstance(report, Started) for number, report in self._reports)

    def launch(self, order: LaunchOrder) -> None:
        """Accept an order; Started, Refused or Ended follow. A known order is not carried out twice."""
        with self._changed:
            self._check_epoch(order.epoch)
            key = (order.job_id, order.attempt)
            if key in self._jobs or any(_names(report, key) for _, report in self._reports):
                return
            here = order if self._courier is None else replace(order, workspace=str(self._courier.local.root))
            job = self._jobs[key] = AgentJob(here, self._runtime.grace_s)
        if self._courier is None:
            self._note(lambda: self._start(job))
        else:
            prepare = partial(job.prepare, self._device)
            self._courier.fetch(order, prepare, lambda refusal: self._note(lambda: self._fetched(job, refusal)))

    def stop(self, epoch: int, job_id: str, attempt: int, goal: StopGoal) -> None:
        """SIGTERM now, SIGKILL after the grace period; nothing where the attempt is not (or no longer) here."""
        with self._changed:
            self._check_epoch(epoch)
        self._note(lambda: self._stop((job_id, attempt), goal))

    def close(self) -> None:
        """End `run`, the forkserver, and with it all jobs."""

        def end() -> None:
            self._closed = True

        self._note(end)

    def _check_epoch(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise StaleOrder(f"epoch {epoch} is over, the controller of epoch {self._epoch} has taken this agent")
        self._epoch = epoch

    def _reply(self) -> AgentReply:
        return AgentReply(
            device=self._device,
            epoch=self._epoch,
            running=tuple(self._jobs),
            reports=tuple(self._reports),
            progress=tuple(job.progress for job in self._jobs.values()),
            use=self._meter.use,
            blocked=self._blocked,
        )

    def _note(self, action: Callable[[], None]) -> None:
        self._notes.append(action)
        os.eventfd_write(self._alarm, 1)

    # the permanent thread

    def run(self) -> None:
        """Clear what an earlier incarnation left, then serve until `close`."""
        self.clear_predecessors()
        self._selector.register(self._alarm, selectors.EVENT_READ, self._read_notes)
        self._start_forkserver()
        while not self._closed:
            for key, _ in self._selector.select(self._until_next_check()):
                key.data()
            self._check_jobs(time.monotonic())
        if self._forkserver is not None:
            self._forkserver.close()
        if self._courier is not None:
            self._courier.close()
        self._selector.close()

    def clear_predecessors(self) -> None:
        """Make sure that no process of an earlier incarnation lives. To be called before anybody is told of this one.

        Raises RuntimeError where one does not end: the kernel cannot kill what waits for a hung disk.
        """
        own = os.getpid()

        def others() -> list[Process]:
            return [p for p in with_environment(AGENT_VARIABLE, self._mark) if p.pid != own]

        left = kill_all(others, timeout_s=10.0)
        if left:
            raise RuntimeError(f"processes of an earlier agent do not end: {[p.pid for p in left]}")

    def _start_forkserver(self) -> None:
        self._forkserver = ForkserverClient(self._runtime, self._environment, self._log_path)
        self._selector.register(self._forkserver, selectors.EVENT_READ, self._read_forkserver)

    def _read_notes(self) -> None:
        os.eventfd_read(self._alarm)
        while self._notes:
            self._notes.popleft()()

    def _read_forkserver(self) -> None:
        assert self._forkserver is not None
        try:
            while (message := self._forkserver.receive()) is not None:
                self._heard(message)
        except ForkserverLost:
            self._lost_forkserver()

    def _heard(self, message: Ready | Forked | Exited) -> None:
        if isinstance(message, Ready):
            self._forkserver_failures = 0
        elif isinstance(message, Forked):
            job = self._by_number[message.id]
            job.forked(message.pid, message.progress, message.pulse)
            self._selector.register(message.progress, selectors.EVENT_READ, lambda: self._read_progress(job))
            self._report(Started(job_id=job.order.job_id, attempt=job.order.attempt, pid=message.pid))
        else:
            self._look_at_gpu()
            job = self._by_number.pop(message.id)
            self._end(job, message.status, message.max_rss_bytes, message.cpu_s)

    def _lost_forkserver(self) -> None:
        """Its children got SIGKILL from the kernel; wait until each is gone, then report them."""
        assert self._forkserver is not None
        self._selector.unregister(self._forkserver)
        status = self._forkserver.close()
        self._forkserver = None
        self._forkserver_failures += 1
        self._forkserver_retry_at = time.monotonic() + min(60.0, 0.1 * 4 ** (self._forkserver_failures - 1))
        _log.warning("the forkserver ended (status %s)", status)
        self.clear_predecessors()
        for number, job in list(self._by_number.items()):
            del self._by_number[number]
            job.make_sure_it_is_gone()
            self._end(job, None, 0, 0.0)

    def _read_progress(self, job: AgentJob) -> None:
        if not job.read_progress():
            self._close_progress(job)
        with self._changed:
            self._changed.notify_all()

    def _close_progress(self, job: AgentJob) -> None:
        if job.progress_fd is not None:
            self._selector.unregister(job.progress_fd)
            job.close_progress()

    def _fetched(self, job: AgentJob, refusal: str) -> None:
        if refusal:
            self._refuse(job, refusal)
        else:
            self._start(job)

    def _start(self, job: AgentJob) -> None:
        if self._forkserver is None:
            job.waits_for_forkserver = True
            return
        job.waits_for_forkserver = False
        try:
            blocked = self._take_device()
            refusal = blocked or self._without_mps(job) or ("" if job.prepared else job.prepare(self._device))
        except OSError as error:
            self._could_not_prepare(job, error)
            return
        if refusal:
            self._refuse(job, refusal, blocked=bool(blocked))
            return
        self._numbers += 1
        self._by_number[self._numbers] = job
        try:
            self._forkserver.order(self._numbers, *job.request(self._device, self._environment))
        except ForkserverLost:
            self._lost_forkserver()

    def _refuse(self, job: AgentJob, message: str, *, blocked: bool = False) -> None:
        key = (job.order.job_id, job.order.attempt)
        if self._courier is not None:
            self._courier.drop(key)
        self._report(Refused(job_id=key[0], attempt=key[1], message=message, blocked=blocked), ends=job)

    def _without_mps(self, job: AgentJob) -> str:
        return mps.why_not(self._environment) if job.order.mps else ""

    def _take_device(self) -> str:
        """Make sure that nobody else uses it, nor will while jobs of ours do. Who does, in words; empty: nobody."""
        if self._unfit or self._occupancy is None:
            return self._unfit
        taken, news = self._occupancy.take(time.monotonic())
        if news:  # before the refusal: the queue must not place the next job here
            self._tell_blocked()
        return taken

    def _tell_blocked(self) -> None:
        self._report(Blocked(device_id=self._device.id, reason=self._blocked))

    @property
    def _blocked(self) -> str:
        return self._unfit or (self._occupancy.reason if self._occupancy else "")

    def _own_pids(self) -> set[int]:
        return {p.pid for p in with_environment(AGENT_VARIABLE, self._mark)}

    def _look_at_gpu(self) -> None:
        if self._gpu is not None and self._by_number:
            xids, used = self._gpu.xids(), self._gpu.memory_used()
            for job in self._by_number.values():
                job.saw_gpu(xids, used)

    def _could_not_prepare(self, job: AgentJob, error: OSError) -> None:
        end = AttemptEnd(reason=job.reason_of(error), message=f"{job.folder.root}: {error.strerror}")
        key = (job.order.job_id, job.order.attempt)
        if end.reason is EndReason.LAUNCH_ERROR:
            self._refuse(job, end.message)
        else:
            self._report(Ended(job_id=key[0], attempt=key[1], end=end), ends=job)

    def _stop(self, key: tuple[str, int], goal: StopGoal) -> None:
        job = self._jobs.get(key)
        if job is not None:
            job.ask_to_stop(goal)

    def _end(self, job: AgentJob, status: int | None, max_rss_bytes: int, cpu_s: float) -> None:
        job.read_progress()
        self._close_progress(job)
        key, end = (job.order.job_id, job.order.attempt), job.ended(status, max_rss_bytes, cpu_s)
        ended = Ended(job_id=key[0], attempt=key[1], end=end)
        if self._courier is None:
            self._report(ended, ends=job)
        else:  # what comes after it relies on what it wrote
            self._courier.finish(key, lambda: self._note(lambda: self._report(ended, ends=job)))

    def _report(self, report: Report, ends: AgentJob | None = None) -> None:
        with self._changed:
            if ends is not None:
                del self._jobs[(ends.order.job_id, ends.order.attempt)]
                if not self._jobs and self._occupancy is not None:
                    self._occupancy.release()
            self._counter += 1
            self._reports.append((self._counter, report))
            self._changed.notify_all()

    def _until_next_check(self) -> float:
        idle = OCCUPANCY_EVERY_S if self._occupancy else 5.0
        return 0.25 if self._jobs else idle if self._forkserver else 0.1

    def _check_jobs(self, now: float) -> None:
        away, self._checked = now - self._checked, now
        if away > AWAY_S:
            _log.warning("this process was away for %.0f s: waiting for its jobs anew", away)
            for job in self._jobs.values():
                job.was_away(away)
        if self._forkserver is None and now >= self._forkserver_retry_at:
            self._start_forkserver()
            for job in [j for j in self._jobs.values() if j.waits_for_forkserver]:
                self._start(job)
        self._look_at_gpu()
        self._meter.look(now)
        if self._occupancy is not None and not self._unfit and self._occupancy.look(now):
            self._tell_blocked()
        for job in list(self._jobs.values()):
            job.enforce_limits(now)


def _names(report: Report, key: tuple[str, int]) -> bool:
    return isinstance(report, Started | Refused | Ended) and (report.job_id, report.attempt) == key
