"""How busy a device is, from the kernel's and the driver's figures; and its way to those who look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from terry.cluster.agent.meter import DeviceMeter
from terry.cluster.core.model import Device, DeviceKind, DeviceUse
from terry.cluster.core.state import State
from terry.cluster.files.live import LiveWriter, read
from terry.cluster.files.paths import WorkspacePaths
from tests.fakes.pool import FakeGpu

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def device(kind: DeviceKind) -> Device:
    return Device(id=f"quattro:{kind}", node="quattro", node_id="q", kind=kind, capacity=1.0)


def kernel(proc: Path, busy: int, idle: int) -> None:
    """Write what the kernel would say: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice."""
    proc.mkdir(exist_ok=True)
    (proc / "stat").write_text(f"cpu  {busy - 30} 10 10 {idle} 0 5 5 0 99 9\ncpu0 1 2 3\n")
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\nHugePages_Total: 0\n")


def test_cores(tmp_path: Path) -> None:
    """Between two looks 30 of 40 ticks were busy; a third look that comes too soon changes nothing."""
    kernel(tmp_path / "proc", busy=1000, idle=5000)
    meter = DeviceMeter(device(DeviceKind.CPU), None, lambda: NOW, tmp_path / "proc")
    meter.look(0.0)
    assert meter.use is not None
    assert (meter.use.utilisation, meter.use.memory_used_bytes) == (None, 400 << 10)
    kernel(tmp_path / "proc", busy=1030, idle=5010)
    meter.look(1.0)
    assert meter.use.utilisation is None
    meter.look(2.5)
    assert meter.use.utilisation == pytest.approx(0.75)
    meter.look(5.0)  # the clock of the kernel has not moved
    assert meter.use.utilisation is None


def test_a_kernel_that_does_not_tell(tmp_path: Path) -> None:
    """Nothing is known, and nobody is hurt."""
    meter = DeviceMeter(device(DeviceKind.CPU), None, lambda: NOW, tmp_path / "none")
    meter.look(0.0)
    assert meter.use is None


def test_this_node() -> None:
    """The real /proc: some memory is in use."""
    meter = DeviceMeter(device(DeviceKind.CPU), None)
    meter.look(0.0)
    assert meter.use is not None
    assert (meter.use.memory_used_bytes or 0) > 1 << 20


def test_gpu() -> None:
    """As its driver says."""
    gpu = FakeGpu()
    gpu.busy, gpu.used, gpu.celsius = 0.87, 32 << 30, 61.0
    meter = DeviceMeter(device(DeviceKind.GPU), gpu, lambda: NOW)
    meter.look(0.0)
    assert meter.use == DeviceUse(
        device_id="quattro:gpu", time=NOW, utilisation=0.87, memory_used_bytes=32 << 30, temperature_c=61.0
    )


def test_uses_are_in_live_json(tmp_path: Path) -> None:
    """The newest of each device; they alone are no reason to write sooner."""
    workspace = WorkspacePaths(tmp_path)
    workspace.queue.mkdir()
    live = LiveWriter(workspace, 1)
    use = DeviceUse(device_id="quattro:0", time=NOW, utilisation=0.5)
    live.measured([use])
    live.write(NOW, 0.0, State())
    live.measured([DeviceUse(device_id="quattro:0", time=NOW, utilisation=0.9)])
    live.write(NOW + timedelta(seconds=2), 2.0, State())
    found = read(workspace)
    assert found is not None
    assert found.uses == (use,)
    live.write(NOW + timedelta(seconds=6), 6.0, State())
    found = read(workspace)
    assert found is not None
    assert [u.utilisation for u in found.uses] == [0.9]
