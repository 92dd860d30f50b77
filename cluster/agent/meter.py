"""How busy a device is: measured by its agent every few seconds, for the eyes of people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from terry.cluster.agent.gpu import GpuDriver
from terry.cluster.core.model import Device, DeviceUse

#: At most so often (seconds).
EVERY_S = 2.0

_PROC = Path("/proc")


class DeviceMeter:
    """Measures one device; of a CPU device the whole node, whoever uses it."""

    def __init__(
        self,
        device: Device,
        gpu: GpuDriver | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        proc: Path = _PROC,
    ) -> None:
        self._device = device
        self._gpu = gpu
        self._clock = clock
        self._proc = proc
        self._at: float | None = None
        self._times: tuple[int, int] | None = None
        self.use: DeviceUse | None = None  #: what was measured last

    def look(self, now: float) -> None:
        """Measure, if it is time to. now: of a monotonic clock."""
        if self._at is not None and now - self._at < EVERY_S:
            return
        self._at = now
        if self._gpu is not None:
            busy, used, celsius = self._gpu.utilisation(), self._gpu.memory_used(), self._gpu.temperature()
            self.use = self._measured(busy, used or None, celsius)
            return
        try:
            self.use = self._measured(self._cores(), self._memory(), None)
        except (OSError, ValueError, KeyError):  # not a kernel that tells
            self.use = None

    def _measured(self, busy: float | None, used: int | None, celsius: float | None) -> DeviceUse:
        return DeviceUse(
            device_id=self._device.id,
            time=self._clock(),
            utilisation=busy,
            memory_used_bytes=used,
            temperature_c=celsius,
        )

    def _cores(self) -> float | None:
        """Share of the time of all cores in which they were not idle, since the last look (proc_stat(5))."""
        first = (self._proc / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, idle, waiting, *rest = (int(part) for part in first[1:9])
        busy = user + nice + system + sum(rest)
        before, self._times = self._times, (busy, busy + idle + waiting)
        if before is None or self._times[1] <= before[1]:
            return None
        return min(1.0, max(0.0, (self._times[0] - before[0]) / (self._times[1] - before[1])))

    def _memory(self) -> int:
        """Bytes that are not available any more (proc_meminfo(5))."""
        lines = (line.split() for line in (self._proc / "meminfo").read_text(encoding="ascii").splitlines())
        found = {parts[0]: int(parts[1]) << 10 for parts in lines if len(parts) > 1}
        return found["MemTotal:"] - found["MemAvailable:"]
