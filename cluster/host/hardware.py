"""What a node has: its processor's cores, its GPUs. Read from the kernel and NVML, never through torch or CUDA."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as NVML shows it."""

    index: int
    uuid: str
    model: str
    memory_bytes: int


def cpu_cores() -> int:
    """Cores that this process may use: affinity, and what Slurm has granted to the job in which we are."""
    bound = len(os.sched_getaffinity(0))
    granted = os.environ.get("SLURM_CPUS_ON_NODE", "")  # Slurm does not bind processes to cores everywhere
    return max(1, min(bound, int(granted))) if granted.isdigit() else bound


def cpu_model() -> str:
    """The processor's name, as /proc/cpuinfo has it."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else os.uname().machine


def memory_bytes() -> int:
    """The node's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_memory_bytes() -> int:
    """Memory that programs can still be given without swapping, by the kernel's estimate (proc_meminfo(5))."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else memory_bytes()


def gpus() -> list[Gpu]:
    """All GPUs of this node; empty where there is no NVIDIA driver."""
    with _nvml() as nvml:
        if nvml is None:
            return []
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        return [
            Gpu(
                index=index,
                uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                model=_text(nvml.nvmlDeviceGetName(handle)),
                memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            )
            for index, handle in enumerate(handles)
        ]


def count_gpus() -> int:
    """How many GPUs this node has; cheap where there is no driver."""
    return len(gpus()) if Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists() else 0


@contextmanager
def _nvml() -> Iterator[Any]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
