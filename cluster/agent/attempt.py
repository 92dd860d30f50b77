"""One attempt as its agent sees it: folder, process, progress, limits, and how it ended."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import select
import signal
import statistics
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.agent import evidence, mps, pulse
from terry.cluster.core.model import AttemptEnd, Device, EndReason, Progress, StopGoal
from terry.cluster.files import durable, run_folder
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.disk import SLOW_S, DiskProbe
from terry.cluster.host.processes import boot_id
from terry.cluster.ports import LaunchOrder

_log = logging.getLogger(__name__)

_HANG_AT_LEAST_S = 300.0
_HANG_STEPS = 20
_ABORT_GRACE_S = 10.0
_WAITS = "waits for the disk"
#: The kernel's count of processes killed for memory is looked at so often (seconds): what it grew by earlier is not
#: evidence of how this one ended, for it is the whole node's.
COUNT_KILLS_S = 15.0


class AgentJob:
    """Touched by the agent's permanent thread only, but for `progress`, which others may read."""

    def __init__(self, order: LaunchOrder, grace_s: float) -> None:
        self.order = order
        self._workspace = WorkspacePaths(Path(order.workspace))
        self.run = self._workspace.run(order.job_id)
        self.folder = self.run.attempt(order.attempt)
        self.progress = Progress(job_id=order.job_id, attempt=order.attempt)
        self.progress_fd: int | None = None
        self.waits_for_forkserver = False
        self.prepared = False  #: launch.json is written
        self._grace_s = grace_s
        self._buffer = b""
        self._fresh = False
        self._pace = Pace()
        self._beat = pulse.Beat(0, 0)
        self._pulse_fd: int | None = None
        self._probe = DiskProbe(self.folder.root)
        self._pidfd: int | None = None
        self._pid: int | None = None
        self._goal: StopGoal | None = None
        self._ended_for: EndReason | None = None
        self._kill_at: float | None = None
        self._started = self._moved = time.monotonic()
        self._kills_before = self._kills_counted = evidence.out_of_memory_kills()
        self._counted_at = self._started
        self._xids: tuple[int, ...] = ()
        self._device_memory = 0

    @property
    def key(self) -> tuple[str, int]:
        """Job id and number of the attempt."""
        return self.order.job_id, self.order.attempt

    # start

    def prepare(self, device: Device) -> str:
        """Make the attempt's folder and launch.json. Returns why it must not be started, or an empty string.

        Raises OSError.
        """
        if not self._workspace.exists:  # an empty mount point: nothing must be made in it
            raise OSError(errno.ESTALE, "the workspace is not there; is its file system mounted?")
        run_folder.claim(self.run, self.order.identity, former=self.order.former)
        if self.folder.launch.exists():
            return f"attempt {self.order.attempt} was started before"
        durable.make_folder(self.folder.root)
        launch = {
            "order": self.order,
            "device": device,
            "host": platform.node(),
            "boot_id": boot_id(),
            "agent_pid": os.getpid(),
            "python": platform.python_version(),
            "time": datetime.now(UTC),
        }
        durable.write_json(self.folder.launch, launch)
        self.prepared = True
        return ""

    def request(
        self, device: Device, surroundings: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, str], Path, Path]:
        """What the forkserver needs: order, environment, files of stdout and stderr. surroundings: the environment."""
        environment = {
            "TERRY_JOB_ID": self.order.job_id,
            "TERRY_SWEEP": self.order.sweep,
            "TERRY_ATTEMPT": str(self.order.attempt),
            "TERRY_RUN_DIR": str(self.run.root),
        }
        if self.order.mps:
            share = min(1.0, self.order.memory_share)
            environment |= mps.variables(surroundings, self.order.share, int(share * device.memory_bytes))
        order = {**asdict(self.order), "gpu_uuid": device.uuid, "gpu_memory_bytes": device.memory_bytes}
        return order, environment, self.folder.stdout, self.folder.stderr

    @property
    def to_draw(self) -> dict[str, Any]:
        """What it takes to draw its curve once it has ended."""
        order = self.order
        return {"workspace": order.workspace, "job_id": order.job_id, "first_attempt": order.first_attempt}

    @staticmethod
    def reason_of(error: OSError) -> EndReason:
        """Why an attempt could not be prepared."""
        return evidence.disk_reason(error) or EndReason.LAUNCH_ERROR

    def forked(self, pid: int, progress_fd: int, pulse_fd: int) -> None:
        """The process runs."""
        os.set_blocking(progress_fd, False)
        self.progress_fd, self._pulse_fd, self._pid = progress_fd, pulse_fd, pid
        self._started = self._moved = time.monotonic()
        with contextlib.suppress(ProcessLookupError):  # it has ended already, and its end is on the way
            self._pidfd = os.pidfd_open(pid)
        if self._goal is not None:
            self._signal(signal.SIGTERM)

    # progress

    def read_progress(self) -> bool:
        """Take in what the process has said. False at the end of the pipe."""
        while self.progress_fd is not None:
            try:
                data = os.read(self.progress_fd, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines[-1:]:  # each line is the whole truth: the newest will do
                self._moved_to(line)
        return False

    def _moved_to(self, line: bytes) -> None:
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
            progress = msgspec.convert({**fields, "job_id": self.order.job_id, "attempt": self.order.attempt}, Progress)
        except msgspec.MsgspecError as error:
            _log.warning("%s: unreadable progress line: %s", self.order.job_id, error)
            return
        before = self.progress
        if (progress.step, progress.phase, progress.epoch) != (before.step, before.phase, before.epoch):
            self._moved = time.monotonic()
        self.progress, self._fresh = progress, True

    def _feel_pulse(self, now: float) -> None:
        beat = pulse.look(self._pulse_fd) if self._pulse_fd is not None else self._beat
        if beat != self._beat:
            self._moved = now
        self._beat = beat
        self._pace.at(beat.step, now)

    def take_fresh(self) -> bool:
        """True once after each new progress."""
        fresh, self._fresh = self._fresh, False
        return fresh

    def close_progress(self) -> None:
        """The pipe is at its end."""
        if self.progress_fd is not None:
            os.close(self.progress_fd)
            self.progress_fd = None

    # stop

    def ask_to_stop(self, goal: StopGoal) -> None:
        """SIGTERM, once; a second call only changes the goal."""
        first = self._goal is None
        self._goal = goal
        if first:
            self._kill_at = time.monotonic() + self._grace_s
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # a stopped process could not leave

    def was_away(self, away_s: float) -> None:
        """Nobody looked after it for so long: what it has said since is not heard yet, so it has as much more time.

        Of its time limit, too: most often the whole machine stood still, and the job with it.
        """
        self._moved += away_s
        self._started += away_s
        if self._kill_at is not None:
            self._kill_at += away_s

    def enforce_limits(self, now: float) -> None:
        """Time limit, hang, and the end of a grace period."""
        if self._pid is None:
            return
        self._feel_pulse(now)
        if now - self._counted_at >= COUNT_KILLS_S:
            self._kills_before, self._kills_counted = self._kills_counted, evidence.out_of_memory_kills()
            self._counted_at = now
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._signal(signal.SIGKILL)
        elif self.order.time_limit_s is not None and now - self._started > self.order.time_limit_s:
            self._ended_for, self._kill_at = EndReason.TIME_LIMIT, now + self._grace_s
            self._signal(signal.SIGTERM)
        elif now - self._moved > self._hang_after_s() and not self._waits_for_disk(now):
            self._ended_for, self._kill_at = EndReason.HUNG, now + _ABORT_GRACE_S
            self._signal(signal.SIGABRT)  # faulthandler writes the stacks of all threads
            self._signal(signal.SIGCONT)

    def _waits_for_disk(self, now: float) -> bool:
        """Whether its silence is the disk's: it is asked now, and an answer that took long excuses the job."""
        took = self._probe.ask(self._moved)
        if took is None:
            if self._probe.silent_s > SLOW_S and self.progress.phase != _WAITS:
                _log.warning("%s stands still, and %s does not answer either", self.order.job_id, self.folder.root)
                self.progress, self._fresh = replace(self.progress, phase=_WAITS), True
            return True
        if took > SLOW_S:
            _log.warning("%s: the disk answers again, after %.0f s", self.order.job_id, took)
            self._moved = now
        return took > SLOW_S

    def saw_gpu(self, xids: tuple[int, ...], memory_used: int) -> None:
        """What its GPU said while it ran."""
        self._xids += xids
        self._device_memory = max(self._device_memory, memory_used)

    def _hang_after_s(self) -> float:
        if self.order.hang_after_s is not None:
            return self.order.hang_after_s
        return max(_HANG_AT_LEAST_S, _HANG_STEPS * self._pace.median_s)

    def _signal(self, number: int) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):  # ended already; its end is on the way
                signal.pidfd_send_signal(self._pidfd, number)

    def make_sure_it_is_gone(self) -> None:
        """After the forkserver's death: the kernel has sent SIGKILL; send it again and wait for the end."""
        self._signal(signal.SIGKILL)
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        if self._pidfd is not None:
            select.select([self._pidfd], [], [])

    # end

    def ended(self, status: int | None, max_rss_bytes: int, cpu_s: float) -> AttemptEnd:
        """Judge the end and write exit.json."""
        if self._pulse_fd is not None:
            self._beat = pulse.look(self._pulse_fd)
        for descriptor in (self._pidfd, self._pulse_fd):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = self._pulse_fd = self._pid = None  # it may be some time until its end is reported
        found = evidence.Evidence(
            status=status,
            returned=bool(self._beat.returned),
            finished=bool(self._beat.finished),
            ended_for=self._ended_for,
            goal=self._goal,
            error=evidence.read_error(self.folder),
            early=evidence.read_report(self.folder.early),
            stack=evidence.read_stack(self.folder),
            out_of_memory_kills=evidence.out_of_memory_kills() - self._kills_before,
            step=max(self._beat.step, self.progress.step) or None,
            checkpoint_step=evidence.newest_checkpoint_step(self.run, self.order.first_attempt),
            max_rss_bytes=max_rss_bytes,
            cpu_s=cpu_s,
            xids=self._xids,
            device_memory_bytes=self._device_memory,
        )
        end = self._write_exit(evidence.judge(found))
        self._remove_empty()
        return end

    def _remove_empty(self) -> None:
        """Files into which nothing was written say no more than their absence."""
        for path in (self.folder.stdout, self.folder.stderr, self.folder.crash):
            with contextlib.suppress(OSError):
                if path.stat().st_size == 0:
                    path.unlink()

    def _write_exit(self, end: AttemptEnd) -> AttemptEnd:
        try:
            durable.write_json(self.folder.exit, end)
        except OSError as error:  # the journal will have it all the same
            _log.warning("%s: %s", self.folder.exit, error)
            return evidence.blame_disk(end, error)
        return end


class Pace:
    """How long a run's steps take, by looks at its step now and then."""

    def __init__(self) -> None:
        self._step = 0
        self._since: float | None = None  # when `_step` was first seen
        self._spans: deque[float] = deque(maxlen=101)  # seconds a step, between two looks that differ

    def at(self, step: int, now: float) -> None:
        """`step` was the last one done at `now` (monotonic, seconds)."""
        if step == self._step:
            return
        if self._since is not None and step > self._step:
            self._spans.append((now - self._since) / (step - self._step))
        self._step, self._since = step, now

    @property
    def median_s(self) -> float:
        """Seconds a step; 0 while too little is known."""
        return statistics.median(self._spans) if self._spans else 0.0
