"""Whether jobs may have the device now, what its GPU says while they run, and how busy it is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from terry.cluster.agent.attempt import AgentJob
from terry.cluster.agent.gpu import GpuDriver
from terry.cluster.agent.marks import marked
from terry.cluster.agent.meter import DeviceMeter
from terry.cluster.agent.occupancy import EVERY_S, Occupancy
from terry.cluster.core.model import Device, DeviceUse

#: A device that nobody else can take is looked at so often while no job is on it (seconds).
_IDLE_S = 5.0


class DeviceGate:
    """One device. Touched by the agent's permanent thread only, but for `reason` and `use`."""

    def __init__(
        self, device: Device, mark: str, gpu: GpuDriver | None = None, lock: Path | None = None, unfit: str = ""
    ) -> None:
        """mark: of the agent's own processes, which may use it.

        gpu, lock: of a GPU. unfit: why no job may run here until somebody fixes the node; empty where all may.
        """
        self._gpu = gpu
        self._unfit = unfit
        self._meter = DeviceMeter(device, gpu)
        self._occupancy = (
            None if gpu is None else Occupancy(device.id, gpu, lock, lambda: {p.pid for p in marked(mark)})
        )

    @property
    def reason(self) -> str:
        """Why the device takes no jobs just now; empty: it does."""
        return self._unfit or (self._occupancy.reason if self._occupancy else "")

    @property
    def use(self) -> DeviceUse | None:
        """How busy it is."""
        return self._meter.use

    @property
    def idle_s(self) -> float:
        """How long it may be left alone while no job is on it (seconds)."""
        return EVERY_S if self._occupancy else _IDLE_S

    def take(self) -> tuple[str, bool]:
        """Make sure that nobody else uses it, nor will while jobs of ours do.

        Who does, in words (empty: it is ours), and whether `reason` changed by it.
        """
        if self._unfit or self._occupancy is None:
            return self._unfit, False
        return self._occupancy.take(time.monotonic())

    def release(self) -> None:
        """No job of ours is on it any more."""
        if self._occupancy is not None:
            self._occupancy.release()

    def look(self, now: float) -> bool:
        """Measure it and look for others, if it is time to. True where `reason` is another."""
        self._meter.look(now)
        return self._occupancy is not None and not self._unfit and self._occupancy.look(now)

    def watch(self, jobs: Iterable[AgentJob]) -> None:
        """Tell the jobs that are on it what the GPU says: its errors since the last time, and the memory in use."""
        there = list(jobs)
        if self._gpu is not None and there:
            xids, used = self._gpu.xids(), self._gpu.memory_used()
            for job in there:
                job.saw_gpu(xids, used)
