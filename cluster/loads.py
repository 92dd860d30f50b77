"""What waits for devices, and which devices have nothing to do: by that nodes are brought and let go."""

from __future__ import annotations

from datetime import datetime

import msgspec

from terry.cluster.model import DeviceKind
from terry.cluster.state import State


class WaitingJobs(msgspec.Struct, frozen=True, kw_only=True):
    """PENDING jobs that ask for the same."""

    kind: DeviceKind
    share: float  #: GPUs or cores that each asks for
    count: int
    node: str | None = None  #: glob: only on such nodes
    device: str | None = None  #: only on such models


class DeviceLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a device is granted."""

    device_id: str
    free: float  #: share that could be granted now; 0 where it is offline, drained or blocked
    idle_since: datetime | None = None  #: since when no job has held a share of it; None: one does


def waiting_jobs(state: State) -> tuple[WaitingJobs, ...]:
    """All that wait for a device, by what they ask for."""
    return tuple(
        WaitingJobs(
            kind=demand.kind,
            share=demand.share,
            count=sum(len(owned) for owned in owners.values()),
            node=demand.node,
            device=demand.device,
        )
        for demand, owners in state.pending.items()
    )


class IdleWatch:
    """Remembers since when devices have been idle."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], datetime] = {}

    def look(self, state: State, now: datetime) -> tuple[DeviceLoad, ...]:
        """The load of each device that is there. A device that has just come has been idle since now."""
        online = [known.device for known in state.devices.values() if known.online]
        since = {}
        for device in online:
            if not state.on_device.get(device.id):
                key = (device.id, device.node_id)
                since[key] = self._since.get(key, now)
        self._since = since
        return tuple(
            DeviceLoad(device_id=d.id, free=state.free(d.id), idle_since=since.get((d.id, d.node_id))) for d in online
        )
