"""What an agent wants to know of its GPU: who else computes on it, what its driver complains of, how full it is.

`GpuDriver` is the port, `NvmlGpu` fulfils it by the driver's own library (no CUDA context), tests.fakes.pool has a
GPU for tests.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Protocol

_log = logging.getLogger(__name__)

#: Errors that programs cause, too (NVIDIA, "XID Errors"): illegal addresses and instructions, and what follows them.
#: They are evidence, but not against the device.
PROGRAM_XIDS = frozenset({13, 31, 43, 45, 68, 69})

_XID_NAMES = {
    48: "an uncorrectable memory error",
    62: "its microcontroller halted",
    63: "a memory page was retired",
    64: "a memory page could not be retired",
    74: "an NVLink error",
    79: "it has fallen off the bus",
    94: "a contained memory error",
    95: "an uncontained memory error",
    119: "its system processor does not answer",
    120: "its system processor failed",
}


class GpuDriver(Protocol):
    """One GPU."""

    def processes(self) -> frozenset[int]:
        """Pids of the processes that compute on it, as this node numbers them."""
        ...

    def xids(self) -> tuple[int, ...]:
        """Critical errors (Xid) that the driver has reported since this was last asked."""
        ...

    def memory_used(self) -> int:
        """Bytes of its memory that are in use, by whomever."""
        ...

    def utilisation(self) -> float | None:
        """Share of the last moments in which it computed, 0 to 1; None where the driver does not tell."""
        ...

    def temperature(self) -> float | None:
        """Degrees Celsius; None where the driver does not tell."""
        ...


def fault_of(xid: int) -> str:
    """What an Xid says of the device, in words; empty for one that programs cause, too."""
    if xid in PROGRAM_XIDS:
        return ""
    name = _XID_NAMES.get(xid)
    return f"Xid {xid}: {name}" if name else f"Xid {xid}"


class NvmlGpu:
    """A GPU by NVML. What the driver does not tell is taken as nothing, and logged once."""

    def __init__(self, uuid: str) -> None:
        import pynvml

        self._nvml: Any = pynvml
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        self._events: Any = None
        self._silent: set[str] = set()
        with self._logged("Xid events"):
            events = pynvml.nvmlEventSetCreate()
            pynvml.nvmlDeviceRegisterEvents(self._handle, pynvml.nvmlEventTypeXidCriticalError, events)
            self._events = events

    def processes(self) -> frozenset[int]:
        """See GpuDriver."""
        found: set[int] = set()
        with self._logged("processes"):
            found |= {p.pid for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)}
        with self._logged("processes that use MPS"):
            found |= {p.pid for p in self._nvml.nvmlDeviceGetMPSComputeRunningProcesses(self._handle)}
        return frozenset(found)

    def xids(self) -> tuple[int, ...]:
        """See GpuDriver. Never waits."""
        found: list[int] = []
        while self._events is not None:
            try:
                found.append(int(self._nvml.nvmlEventSetWait_v2(self._events, 0).eventData))
            except self._nvml.NVMLError_Timeout:
                break
            except self._nvml.NVMLError as error:
                _log.warning("the driver tells no more Xid errors: %s", error)
                self._events = None
        return tuple(found)

    def memory_used(self) -> int:
        """See GpuDriver."""
        with self._logged("memory"):
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        return 0

    def utilisation(self) -> float | None:
        """See GpuDriver."""
        with self._logged("utilisation"):
            return int(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100
        return None

    def temperature(self) -> float | None:
        """See GpuDriver."""
        with self._logged("temperature"):
            return float(self._nvml.nvmlDeviceGetTemperature(self._handle, self._nvml.NVML_TEMPERATURE_GPU))
        return None

    @contextlib.contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._nvml.NVMLError as error:
            if what not in self._silent:
                _log.warning("the driver does not tell of a GPU's %s: %s", what, error)
            self._silent.add(what)
