"""An agent's link to its forkservers: kept alive, with the jobs whose processes they have forked.

There are two. The small one is there in a third of a second, and forks the jobs that are `light`. The large one has
imported torch, which takes seconds: it is started once a job needs it, or once nothing else is to be done. What ends
one of them is a mishap of this node: the other is ended, too, and both begin anew.
"""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
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
#: Without a job for so long (seconds) a device is idle: what can wait is done now, so many runs at once.
_IDLE_S, _DRAWN_AT_ONCE = 1.0, 200


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
        self._clients: dict[bool, ForkserverClient] = {}  # by whether it is the small one
        self._has_small = bool(processes.runtime.light_preload)
        self._jobs: dict[int, AgentJob] = {}  # by the number of the order
        self._to_draw: list[dict[str, Any]] = []
        self._drawing: int | None = None  # the number of that order
        self._idle_since: float | None = None  # None: not ready yet, or at work
        self._numbers = 0
        self._retry_at = 0.0
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """Pid of the large forkserver, while there is one, else of the small one."""
        client = self._clients.get(False) or self._clients.get(True)
        return client.pid if client else None

    @property
    def jobs(self) -> Collection[AgentJob]:
        """Those whose process was asked for and has not ended."""
        return self._jobs.values()

    @property
    def has_work(self) -> bool:
        """Something is to be done as soon as the device is idle."""
        return not self._clients.get(False) or bool(self._to_draw)

    def start_if_due(self, now: float) -> bool:
        """Start a forkserver where none runs and it is time to; True if that was so. Do what has waited for leisure."""
        if not self._clients:
            if now >= self._retry_at:
                self._start(small=self._has_small)
            return bool(self._clients)
        if not self._jobs and self._idle_since is not None and now - self._idle_since >= _IDLE_S:
            if False not in self._clients:
                self._start(small=False)
            elif self._to_draw and self._drawing is None:
                self._draw()
        return False

    def _start(self, *, small: bool) -> None:
        client = ForkserverClient(self._processes.runtime, self._environment, self._processes.log, light=small)
        self._clients[small] = client
        self._selector.register(client, selectors.EVENT_READ, partial(self._read, client))

    def fork(self, job: AgentJob, device: Device) -> None:
        """Ask for the job's process. A forkserver must run."""
        assert self._clients
        small = job.order.light and self._has_small
        if small not in self._clients:
            self._start(small=small)
        self._numbers += 1
        self._jobs[self._numbers] = job
        order, environment, stdout, stderr = job.request(device, self._environment)
        order["drawn_later"] = self._processes.runtime.draws
        self._order(self._clients[small], order, environment, stdout, stderr)

    def _order(
        self,
        client: ForkserverClient,
        order: dict[str, Any],
        environment: dict[str, str],
        stdout: Path,
        stderr: Path,
    ) -> None:
        try:
            client.order(self._numbers, order, environment, stdout, stderr)
        except ForkserverLost:
            self._lost()

    def _draw(self) -> None:
        """Have the pictures of the runs that ended of late made, by a process that nobody waits for."""
        self._numbers += 1
        self._drawing = self._numbers
        now, self._to_draw = self._to_draw[:_DRAWN_AT_ONCE], self._to_draw[_DRAWN_AT_ONCE:]
        nowhere = Path(os.devnull)
        self._order(self._clients[False], {"draw": now}, {}, nowhere, self._processes.log)

    def close(self) -> None:
        """End the forkservers, and with them all jobs."""
        for client in self._clients.values():
            client.close()

    def _read(self, client: ForkserverClient) -> None:
        try:
            while client in self._clients.values() and (message := client.receive()) is not None:
                self._heard(message)
        except ForkserverLost:
            self._lost()

    def _heard(self, message: Ready | Forked | Exited) -> None:
        if isinstance(message, Ready):
            self._failures = 0
            self._rest()
        elif message.id == self._drawing:
            self._heard_of_drawing(message)
        elif isinstance(message, Forked):
            job = self._jobs[message.id]
            job.forked(message.pid, message.progress, message.pulse)
            self._selector.register(message.progress, selectors.EVENT_READ, lambda: self._read_progress(job))
            self._listeners.forked(job, message.pid)
        else:
            self._listeners.exiting()
            job = self._jobs.pop(message.id)
            if self._processes.runtime.draws and message.status == 0:
                self._to_draw.append(job.to_draw)
            self._end(job, message.status, message.max_rss_bytes, message.cpu_s)
            self._rest()

    def _heard_of_drawing(self, message: Forked | Exited) -> None:
        if isinstance(message, Forked):
            for descriptor in (message.progress, message.pulse):
                os.close(descriptor)
        else:
            self._drawing = None

    def _rest(self) -> None:
        self._idle_since = time.monotonic()

    def _lost(self) -> None:
        """Its children got SIGKILL from the kernel; wait until each is gone, then tell of them."""
        statuses = []
        for client in self._clients.values():
            self._selector.unregister(client)
            statuses.append(client.close())
        self._clients.clear()
        self._idle_since = self._drawing = None
        self._failures += 1
        self._retry_at = time.monotonic() + min(_RETRY_AT_MOST_S, _RETRY_S * 4 ** (self._failures - 1))
        _log.warning("the forkserver ended (status %s)", ", ".join(map(str, statuses)))
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
