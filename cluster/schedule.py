"""Which job goes where now: a pure function of the queue, the time and the policy.

Jobs go by priority, then by order of submission. Pending jobs with equal demands stand in one queue (State.pending),
so a plan costs as much as it places, not as much as waits. A job that finds no room keeps one device from those behind
it, so that small jobs cannot starve a large one.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from terry.cluster.model import Allocation, Device, DeviceKind, JobRecord, JobState
from terry.cluster.state import EPSILON, Demand, State, demand_of
from terry.cluster.waiting import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the scheduler may decide by."""

    placements_per_turn: int = 1000  #: so that a turn of the loop stays short however much is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One job on one device; to be verified again when it is carried out."""

    job_id: str
    allocation: Allocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, and when to plan again even if nothing happens."""

    placements: tuple[Placement, ...] = ()
    wake_at: datetime | None = None  #: the first end of a back-off


class _Room:
    """What is free while a plan is made."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.free = {d: state.free(d) for d in state.devices}
        self.open = {d for d, free in self.free.items() if free > EPSILON}
        self.empty = {d for d in self.open if d not in state.on_device}
        self.by_kind = Counter(state.devices[d].device.kind for d in self.open)

    def find(self, demand: Demand) -> Device | None:
        """The device with room enough that is left fullest: large gaps are kept for large jobs."""
        best: tuple[float, str] | None = None
        for device_id in self._usable(demand):
            fits = self.free[device_id] + EPSILON >= demand.share
            if fits and (not demand.exclusive or device_id in self.empty):
                best = min(best or (self.free[device_id], device_id), (self.free[device_id], device_id))
        return None if best is None else self.state.devices[best[1]].device

    def take(self, device: Device, demand: Demand) -> None:
        """Grant the demand on the device."""
        self.free[device.id] -= demand.share
        self.empty.discard(device.id)
        if demand.exclusive or self.free[device.id] <= EPSILON:
            self._close(device.id)

    def reserve(self, demand: Demand) -> None:
        """Keep the roomiest device that could ever hold the demand from jobs behind."""
        able = [d for d in self._usable(demand) if self.state.devices[d].device.capacity + EPSILON >= demand.share]
        if able:
            self._close(max(able, key=lambda d: (self.free[d], d)))

    def _usable(self, demand: Demand) -> list[str]:
        """Open devices of the demand. Devices to avoid are used only where there is no other, busy or not."""
        matching = [d for d in self.open if _matches(self.state.devices[d].device, demand)]
        preferred = [d for d in matching if d not in demand.avoid]
        if len(preferred) == len(matching) or preferred or _has_other(self.state, demand):
            return preferred
        return matching

    def _close(self, device_id: str) -> None:
        if device_id in self.open:
            self.open.discard(device_id)
            self.by_kind[self.state.devices[device_id].device.kind] -= 1


def plan(state: State, now: datetime, policy: Policy | None = None) -> Plan:
    """Placements that can be made now, in order, and the time at which a job's back-off ends, if any does."""
    limit = (policy or Policy()).placements_per_turn
    room = _Room(state)
    heads = [(queue[0], index, demand) for index, (demand, queue) in enumerate(state.pending.items())]
    heapq.heapify(heads)
    positions: Counter[Demand] = Counter()
    placements: list[Placement] = []
    wakes: list[datetime] = []
    while heads and room.open and len(placements) < limit:
        place, index, demand = heads[0]
        if not _serve(state, room, place, demand, now, placements, wakes):
            heapq.heappop(heads)
            continue
        positions[demand] += 1
        queue = state.pending[demand]
        if positions[demand] < len(queue):
            heapq.heapreplace(heads, (queue[positions[demand]], index, demand))
        else:
            heapq.heappop(heads)
    return Plan(placements=tuple(placements), wake_at=min(wakes, default=None))


def _serve(
    state: State,
    room: _Room,
    place: Place,
    demand: Demand,
    now: datetime,
    placements: list[Placement],
    wakes: list[datetime],
) -> bool:
    """Place one job, or pass it over while it backs off. False where no job of this demand can be placed any more."""
    if not room.by_kind[demand.kind]:
        return False
    record = state.jobs[place[2]]
    if record.not_before is not None and record.not_before > now:
        wakes.append(record.not_before)
        return True
    device = room.find(demand)
    if device is None:
        room.reserve(demand)
        return False
    room.take(device, demand)
    grant = Allocation(device=device.id, node=device.node, share=demand.share)
    placements.append(Placement(job_id=place[2], allocation=grant))
    return True


def _matches(device: Device, demand: Demand) -> bool:
    return (
        device.kind is demand.kind
        and (demand.node is None or fnmatchcase(device.node, demand.node))
        and (demand.device is None or fnmatchcase(device.model, demand.device))
    )


def _has_other(state: State, demand: Demand) -> bool:
    """True where a device that need not be avoided could take the demand, now or when it is free."""
    return any(
        record.online
        and not record.drained
        and record.device.id not in demand.avoid
        and record.device.capacity + EPSILON >= demand.share
        and _matches(record.device, demand)
        for record in state.devices.values()
    )


# why a job waits


def why_waiting(state: State, job_id: str, now: datetime) -> str:
    """One line for people: why the job does not run now. Empty where it runs or has ended."""
    record = state.jobs[job_id]
    if record.state is JobState.WAITING:
        return _why_dependencies(state, record)
    if record.state is JobState.HELD:
        return f"held: {record.reason}" if record.reason else "held"
    if record.state is not JobState.PENDING:
        return ""
    if record.not_before is not None and record.not_before > now:
        return f"backs off until {record.not_before.astimezone():%H:%M:%S}: {record.reason}"
    return _why_no_device(state, record)


def _why_dependencies(state: State, record: JobRecord) -> str:
    open_ones = [d for d in record.job.depends_on if not state.is_completed(d)]
    if record.job.minimum is not None:
        open_ones = [d for d in open_ones if not state.is_broken(d)]
    if not open_ones:
        return "starts in a moment"
    first = state.jobs.get(open_ones[0])
    more = f" and {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
    return f"waits for {open_ones[0]} ({first.state if first else 'unknown'}){more}"


def _why_no_device(state: State, record: JobRecord) -> str:
    demand = demand_of(record)
    noun = "a GPU" if demand.kind is DeviceKind.GPU else "CPU cores"
    of_kind = [r for r in state.devices.values() if r.device.kind is demand.kind]
    online = [r for r in of_kind if r.online]
    matching = [r for r in online if _matches(r.device, demand)]
    able = [r for r in matching if r.device.capacity + EPSILON >= demand.share]
    usable = [r for r in able if not r.drained]
    if not online:
        none = "none is online" if not of_kind else f"none of {len(of_kind)} is online"
        return f"waits for {noun}: {none}"
    if not matching:
        wanted = " and ".join(f"{k} {v!r}" for k, v in (("node", demand.node), ("device", demand.device)) if v)
        return f"waits for {noun}: none online matches {wanted}"
    if not able:
        largest = max(r.device.capacity for r in matching)
        return f"waits for {noun}: it asks for {demand.share:g}, and the largest device has {largest:g}"
    if not usable:
        return f"waits for {noun}: all that match are drained ({able[0].drain_reason})"
    return _why_busy(state, [r.device for r in usable], demand, record)


def _why_busy(state: State, devices: list[Device], demand: Demand, record: JobRecord) -> str:
    free = sum(state.free(d.id) for d in devices)
    if demand.kind is DeviceKind.GPU:
        what = f"{len(devices)} GPU{'s' if len(devices) > 1 else ''}"
    else:
        what = f"{sum(d.capacity for d in devices):g} cores"
    if demand.exclusive and free > EPSILON:
        return f"waits for a device to itself ({what} in use by others)"
    if free + EPSILON < demand.share:
        return f"all {what} busy" if free <= EPSILON else f"{what} busy but for {free:g}; it asks for {demand.share:g}"
    ahead = sum(place < (-record.priority, state.order[record.job.id], record.job.id) for place in _heads(state))
    return "waits behind jobs that go first" if ahead else "starts in a moment"


def _heads(state: State) -> list[Place]:
    return [queue[0] for queue in state.pending.values()]
