"""Whether a GPU may be used now: no process of somebody else computes on it, and no other agent holds its lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from terry.cluster.agent.gpu import GpuDriver
from terry.cluster.agent.gpu_lock import DeviceLock, DeviceLockError
from terry.cluster.agent.mps import is_mps
from terry.cluster.host.processes import describe

#: How often a GPU is looked at (seconds).
EVERY_S = 2.0
#: How often at most it is told that the same state has other words (seconds).
REPORT_EVERY_S = 60.0


class Occupancy:
    """One GPU, as its agent may use it. Touched by the agent's permanent thread only, but for `reason`."""

    def __init__(self, device_id: str, gpu: GpuDriver, lock: Path | None, own: Callable[[], set[int]]) -> None:
        """own: pids of the agent's own processes."""
        self._device_id = device_id
        self._gpu = gpu
        self._own = own
        self._lock = None if lock is None else DeviceLock(lock)
        self._looked_at: float | None = None
        self._reported_at = 0.0
        self.reason = self._locked_by_others() or self._used_by_others()  #: who has it, as was told; empty: nobody

    def look(self, now: float) -> bool:
        """Look, if it is time to. True where `reason` is another. now: of a monotonic clock."""
        if self._looked_at is not None and now - self._looked_at < EVERY_S:
            return False
        self._looked_at = now
        return self._found(self._locked_by_others() or self._used_by_others(), now)

    def take(self, now: float) -> tuple[str, bool]:
        """Take it for a job that is to start: why it cannot be had (empty: it is ours); whether `reason` changed."""
        held = self._lock is not None and self._lock.held
        found = self._take_lock() or self._used_by_others()
        if found and not held:
            self.release()
        return found, self._found(found, now)

    def release(self) -> None:
        """No job of ours is on it any more."""
        if self._lock is not None:
            self._lock.release()

    def _found(self, reason: str, now: float) -> bool:
        turned = bool(reason) is not bool(self.reason)
        if reason == self.reason or not (turned or now - self._reported_at >= REPORT_EVERY_S):
            return False
        self.reason, self._reported_at = reason, now
        return True

    def _take_lock(self) -> str:
        if self._lock is None:
            return ""
        try:
            return "" if self._lock.take() else self._held_by(self._lock.holder() or 0)
        except DeviceLockError as error:
            return str(error)

    def _locked_by_others(self) -> str:
        if self._lock is None:
            return ""
        try:
            self._lock.keep()
            pid = self._lock.holder()
        except DeviceLockError as error:
            return str(error)
        return "" if pid is None else self._held_by(pid)

    def _held_by(self, pid: int) -> str:
        return f"{self._device_id} is in use by another agent: {describe(pid) if pid else 'of a process not seen here'}"

    def _used_by_others(self) -> str:
        there = self._gpu.processes()
        others = sorted(pid for pid in there - self._own() if not is_mps(pid)) if there else []
        return f"{self._device_id} is in use by somebody else: {', '.join(map(describe, others))}" if others else ""
