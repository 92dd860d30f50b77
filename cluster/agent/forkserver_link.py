"""An agent's link to its forkserver: kept alive, with the jobs whose processes it has forked."""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terry.cluster.agent.attempt import AgentJob
from terry.cluster.agent.forkserver_client import Exited, Forked, ForkserverClient, ForkserverLost, Ready
from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.agent.marks import AGENT_VARIABLE, end_marked
from terry.cluster.core.model import AttemptEnd, Device

_log = logging.getLogger(__name__)

#: After an end of the forkserver the next one is started so late: the first time, and at most (seconds).
_RETRY_S, _RETRY_AT_MOST_S = 0.1, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProcesses:
    """How the processes of jobs are started."""

    runtime: JobRuntime
    environment: Mapping[str, str]  #: that they inherit
    log: Path  #: of the forkserver
    mark: str  #: that all of them carry, see terry.cluster.agent.marks

    @property
    def marked_environment(self) -> dict[str, str]:
        """The environment, with the mark."""
        return {**self.environment, AGENT_VARIABLE: self.mark}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who hears of what happens, in the thread that serves the selector."""

    forked: Callable[[AgentJob, int], None]  #: it runs, with this pid
    moved: Callable[[], None]  #: a job has told of its progress
    exiting: Callable[[], None]  #: a process has ended; how is judged next
    ended: Callable[[AgentJob, AttemptEnd], None]


class ForkserverLink:
    """Touched by the agent's permanent thread only, for with that thread the forkserver dies."""

    def __init__(self, processes: JobProcesses, selector: selectors.BaseSelector, listeners: Listeners) -> None:
        """selector: calls the data of what is ready."""
        self._processes = processes
        self._environment = processes.marked_environment
        self._selector = selector
        self._listeners = listeners
        self._client: ForkserverClient | None = None
        self._jobs: dict[int, AgentJob] = {}  # by the number of the order
        self._numbers = 0
        self._retry_at = 0.0
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """Pid of the forkserver, while there is one."""
        return self._client.pid if self._client else None

    @property
    def jobs(self) -> Collection[AgentJob]:
        """Those whose process was asked for and has not ended."""
        return self._jobs.values()

    def start_if_due(self, now: float) -> bool:
        """Start a forkserver where none runs and it is time to; True if that was so."""
        if self._client is not None or now < self._retry_at:
            return False
        self._client = ForkserverClient(self._processes.runtime, self._environment, self._processes.log)
        self._selector.register(self._client, selectors.EVENT_READ, self._read)
        return True

    def fork(self, job: AgentJob, device: Device) -> None:
        """Ask for the job's process. The forkserver must run."""
        assert self._client is not None
        self._numbers += 1
        self._jobs[self._numbers] = job
        order: tuple[dict[str, Any], dict[str, str], Path, Path] = job.request(device, self._environment)
        try:
            self._client.order(self._numbers, *order)
        except ForkserverLost:
            self._lost()

    def close(self) -> None:
        """End the forkserver, and with it all jobs."""
        if self._client is not None:
            self._client.close()

    def _read(self) -> None:
        assert self._client is not None
        try:
            while (message := self._client.receive()) is not None:
                self._heard(message)
        except ForkserverLost:
            self._lost()

    def _heard(self, message: Ready | Forked | Exited) -> None:
        if isinstance(message, Ready):
            self._failures = 0
        elif isinstance(message, Forked):
            job = self._jobs[message.id]
            job.forked(message.pid, message.progress, message.pulse)
            self._selector.register(message.progress, selectors.EVENT_READ, lambda: self._read_progress(job))
            self._listeners.forked(job, message.pid)
        else:
            self._listeners.exiting()
            job = self._jobs.pop(message.id)
            self._end(job, message.status, message.max_rss_bytes, message.cpu_s)

    def _lost(self) -> None:
        """Its children got SIGKILL from the kernel; wait until each is gone, then tell of them."""
        assert self._client is not None
        self._selector.unregister(self._client)
        status = self._client.close()
        self._client = None
        self._failures += 1
        self._retry_at = time.monotonic() + min(_RETRY_AT_MOST_S, _RETRY_S * 4 ** (self._failures - 1))
        _log.warning("the forkserver ended (status %s)", status)
        end_marked(self._processes.mark)
        for number, job in list(self._jobs.items()):
            del self._jobs[number]
            job.make_sure_it_is_gone()
            self._end(job, None, 0, 0.0)

    def _end(self, job: AgentJob, status: int | None, max_rss_bytes: int, cpu_s: float) -> None:
        job.read_progress()
        self._close_progress(job)
        self._listeners.ended(job, job.ended(status, max_rss_bytes, cpu_s))

    def _read_progress(self, job: AgentJob) -> None:
        if not job.read_progress():
            self._close_progress(job)
        self._listeners.moved()

    def _close_progress(self, job: AgentJob) -> None:
        if job.progress_fd is not None:
            self._selector.unregister(job.progress_fd)
            job.close_progress()
