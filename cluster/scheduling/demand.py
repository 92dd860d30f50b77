"""What waits for devices, and which devices have nothing to do: by that nodes and devices are brought and let go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from terry.cluster.core.model import Device, DeviceKind
from terry.cluster.core.policy import Policy, lookup
from terry.cluster.core.state import Demand, State
from terry.cluster.core.waiting import Waiting
from terry.cluster.scheduling.turns import Shares


class WaitingJobs(msgspec.Struct, frozen=True, kw_only=True):
    """PENDING jobs that ask for the same, and that only wait for a device."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """All of it at one moment, after all that could be placed was placed."""

    time: datetime
    devices: tuple[Device, ...] = ()  #: all that were ever seen
    waiting: tuple[WaitingJobs, ...] = ()
    loads: tuple[DeviceLoad, ...] = ()  #: of the devices that are there
    held: frozenset[str] = frozenset()  #: ids of devices of which jobs have a share


#: Of more waiting jobs of a sweep nobody looks at each: that some of them back off for a while changes little.
_LOOKED_AT_MOST = 100


def waiting_jobs(state: State, now: datetime, policy: Policy) -> tuple[WaitingJobs, ...]:
    """Jobs that would run if there were devices for them, by what they ask for.

    Those that are held back by a limit of their user or sweep, or back off, bring no node. Limits hold for all jobs
    that ask for the same place together, the smallest first: whatever of them can be brought will be.
    """
    places: dict[tuple[DeviceKind, str | None, str | None], Shares] = {}
    found = []
    for demand, owners in sorted(state.pending.items(), key=lambda item: item[0].share):
        shares = places.setdefault((demand.kind, demand.node, demand.device), Shares(state, now, policy))
        count = sum(
            _startable(shares, policy, demand, (owner, sweep), len(lane) - _backing_off(state, now, lane))
            for owner, owned in owners.items()
            for (_, sweep), lane in owned.lanes.items()
        )
        if count:
            kind, share, node, device = demand[:4]
            found.append(WaitingJobs(kind=kind, share=share, count=count, node=node, device=device))
    return tuple(found)


def _backing_off(state: State, now: datetime, lane: Waiting) -> int:
    if len(lane) > _LOOKED_AT_MOST:
        return 0
    return sum(state.jobs[job_id].backs_off(now) for _, _, job_id in lane)


def _startable(shares: Shares, policy: Policy, demand: Demand, whose: tuple[str, str], ready: int) -> int:
    """How many of a sweep's jobs the limits let start beside what runs, and what was counted before."""
    owner, sweep = whose
    if lookup(policy.user_limits, owner) is None and lookup(policy.sweep_limits, sweep) is None:
        return ready
    count = 0
    while count < ready and not (shares.limit_of(demand, owner) or shares.limit_of(demand, owner, sweep)):
        shares.place(demand, owner, sweep)
        count += 1
    return count


class Steady:
    """Times that nobody sets, to be compared with each other: when it was made, and what has passed since."""

    def __init__(self, now: datetime, monotonic: float) -> None:
        self._zero = now - timedelta(seconds=monotonic)

    def at(self, monotonic: float) -> datetime:
        """The time of a moment of the monotonic clock (seconds)."""
        return self._zero + timedelta(seconds=monotonic)


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

    def need(self, state: State, now: datetime, policy: Policy, steady: datetime | None = None) -> Need:
        """What is needed now. steady: the same by a clock that nobody sets, for how long something has been idle."""
        at = now if steady is None else steady
        return Need(
            time=at,
            devices=tuple(known.device for known in state.devices.values()),
            waiting=waiting_jobs(state, now, policy),
            loads=self.look(state, at),
            held=frozenset(state.on_device),
        )
