"""Where a job fits while a plan is made: best fit by share and measured memory, near its data, clear of what is kept.

Pure: it looks at a State and changes nothing but its own copy of what is free.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from terry.cluster.core.capacity import Class
from terry.cluster.core.model import Device, DeviceKind, JobRecord, JobState, is_model
from terry.cluster.core.policy import Policy, lookup
from terry.cluster.core.state import EPSILON, Demand, State

#: What was measured is taken with a margin: of memory, and of time where room is lent.
MEMORY_MARGIN, TIME_MARGIN = 1.1, 1.1
#: Dependencies whose nodes are looked at: a job that needs hundreds is near to none of them.
_NEAR_MOST = 4


@dataclass(slots=True)
class Kept:
    """A device that is kept for a job that found no room."""

    device: Device
    job_id: str
    free: float  #: what is free of it meanwhile
    until: float | None  #: when there will be room for the job (seconds since 1970), where that is known


class Fitting:
    """What is free while a plan is made."""

    def __init__(self, state: State, now: datetime, policy: Policy) -> None:
        self._state, self._now, self._policy = state, now.timestamp(), policy
        self._capacity = state.free_capacity.copy()
        self._filled: dict[str, list[JobRecord]] = {}  # placed by this plan, by device
        self._on_node: Counter[str] = Counter()
        self.kept: list[Kept] = []
        self._classes: dict[tuple[DeviceKind, str | None], list[Class]] = {}

    def has(self, kind: DeviceKind) -> bool:
        """True where something of the kind may be free, be it lent."""
        return self._capacity.has(kind) or any(k.device.kind is kind and k.until is not None for k in self.kept)

    def find(self, demand: Demand, record: JobRecord) -> Device | None:
        """The device with room enough that is left fullest, so that large gaps stay for large jobs."""
        avoid = frozenset(demand.avoid)
        found = self._best(demand, record, avoid)
        if found is None and avoid and not has_other(self._state, demand):
            found = self._best(demand, record, frozenset())
        return found

    def take(self, device: Device, demand: Demand, record: JobRecord) -> None:
        """Grant the demand on the device."""
        self._filled.setdefault(device.id, []).append(record)
        self._on_node[device.node] += 1
        left = 0.0 if demand.exclusive else self._capacity.free[device.id] - demand.share
        self._capacity.set(device, left if left > EPSILON else 0.0)

    def keep(self, demand: Demand, record: JobRecord, *, lend: bool) -> None:
        """Keep the roomiest device that could ever hold the demand from jobs behind; `lend`: but for short ones."""
        able = [
            (free, device_id)
            for key in self._matching(demand)
            for free, ids in self._capacity.fitting(key, EPSILON)
            for device_id in ids
            if self._could_hold(self._state.devices[device_id].device, demand)
        ]
        avoided = [entry for entry in able if entry[1] not in demand.avoid]
        if not avoided and (not able or has_other(self._state, demand)):
            return
        free, device_id = max(avoided or able)
        device = self._state.devices[device_id].device
        until = self._capacity_at(device, free, demand) if lend else None
        self.kept.append(Kept(device, record.job.id, free, until))
        self._capacity.set(device, 0.0)

    def may_lend(self, demand: Demand) -> bool:
        """True where some room that is kept for another job could be lent to one of this demand."""
        return not demand.exclusive and any(self._lends(kept, demand) for kept in self.kept)

    @staticmethod
    def _lends(kept: Kept, demand: Demand) -> bool:
        return kept.until is not None and kept.free + EPSILON >= demand.share and matches(kept.device, demand)

    def borrow(self, demand: Demand, record: JobRecord) -> Device | None:
        """Back-fill: room that is kept for another job, where this one will be gone before that one can start."""
        expected = self._state.expected_seconds(record.job)
        if expected is None or demand.exclusive:
            return None
        ends = self._now + expected * TIME_MARGIN
        for kept in self.kept:
            lent = self._lends(kept, demand) and kept.until is not None and ends <= kept.until
            if lent and self._suits(kept.device, demand, record, frozenset(demand.avoid)):
                kept.free -= demand.share
                self._filled.setdefault(kept.device.id, []).append(record)
                self._on_node[kept.device.node] += 1
                return kept.device
        return None

    def _best(self, demand: Demand, record: JobRecord, avoid: frozenset[str]) -> Device | None:
        near = self._near(record)
        best: tuple[float, bool, str] | None = None
        for key in self._matching(demand):
            for free, ids in self._capacity.fitting(key, demand.share - EPSILON):
                if best is not None and free > best[0]:
                    break
                device = self._pick(ids, demand, record, avoid, near)
                if device is not None:
                    found = (free, device.node not in near, device.id)
                    best = found if best is None else min(best, found)
                    break
        return None if best is None else self._state.devices[best[2]].device

    def _pick(
        self, ids: list[str], demand: Demand, record: JobRecord, avoid: frozenset[str], near: list[str]
    ) -> Device | None:
        for device_id in self._nearest_first(ids, near):
            device = self._state.devices[device_id].device
            if self._suits(device, demand, record, avoid):
                return device
        return None

    def _nearest_first(self, ids: list[str], near: list[str]) -> Iterator[str]:
        for node in near:
            for device_id in self._state.nodes.get(node, ()):
                at = bisect_left(ids, device_id)
                if at < len(ids) and ids[at] == device_id:
                    yield device_id
        yield from ids

    def _near(self, record: JobRecord) -> list[str]:
        """Nodes that have read or written what the job needs: those of its own attempts and of its dependencies."""
        nodes = [record.attempts[-1].node] if record.attempts else []
        for dependency in record.job.depends_on[:_NEAR_MOST]:
            other = self._state.jobs.get(dependency)
            if other is not None and other.attempts:
                nodes.append(other.attempts[-1].node)
        return nodes

    def _suits(self, device: Device, demand: Demand, record: JobRecord, avoid: frozenset[str]) -> bool:
        if device.id in avoid or not _is_named(device, demand):
            return False
        holders = self._holders(device)
        if demand.exclusive and holders:
            return False
        return self._node_takes(device.node) and (not holders or self._has_memory(device, holders, record))

    def _holders(self, device: Device) -> list[JobRecord]:
        there = self._state.on_device.get(device.id)
        placed = self._filled.get(device.id, [])
        return [*(self._state.jobs[job_id] for job_id in there), *placed] if there else placed

    def _node_takes(self, node: str) -> bool:
        limit = lookup(self._policy.node_limits, node)
        if limit is None or limit.jobs is None:
            return True
        return jobs_on(self._state, node) + self._on_node[node] < limit.jobs

    def _has_memory(self, device: Device, holders: list[JobRecord], record: JobRecord) -> bool:
        return not self._state.knows_memory or memory_lacking(self._state, device, [*holders, record]) <= 0.0

    def _matching(self, demand: Demand) -> list[Class]:
        key = (demand.kind, demand.device)
        found = self._classes.get(key)
        if found is None:
            found = self._classes[key] = [
                c
                for c in self._capacity.classes
                if c[0] is demand.kind and (demand.device is None or is_model(c[1], demand.device))
            ]
        return found

    def _could_hold(self, device: Device, demand: Demand) -> bool:
        return _is_named(device, demand) and device.capacity + EPSILON >= demand.share

    def _capacity_at(self, device: Device, free: float, demand: Demand) -> float | None:
        """When enough of the device will be free, if all goes as expected; None where nobody knows."""
        wanted = device.capacity if demand.exclusive else demand.share
        ends = sorted((self._end_of(self._state.jobs[j]), share) for j, share in self._shares(device))
        for end, share in ends:
            free += share
            if free + EPSILON >= wanted:
                return None if end in (float("inf"), float("-inf")) else end
        return None

    def _shares(self, device: Device) -> list[tuple[str, float]]:
        placed = self._filled.get(device.id, [])
        return [
            *self._state.on_device.get(device.id, {}).items(),
            *((record.job.id, record.job.resources.share) for record in placed),
        ]

    def _end_of(self, record: JobRecord) -> float:
        """When a running job will end; infinity where that is not known or it should have ended already."""
        expected = self._state.expected_seconds(record.job)
        if expected is None or record.state is JobState.STOPPING:
            return float("inf")
        attempt = record.attempts[-1] if record.state.holds_device else None
        began = self._now if attempt is None else (attempt.started_at or attempt.placed_at).timestamp()
        return began + expected if began + expected > self._now else float("inf")


def jobs_on(state: State, node: str) -> int:
    """Jobs that hold a share of any of the node's devices."""
    return sum(len(state.on_device.get(device_id, ())) for device_id in state.nodes.get(node, ()))


def memory_lacking(state: State, device: Device, records: list[JobRecord]) -> float:
    """Bytes that a GPU would lack if these jobs were on it at once, by what was measured; 0 or less: it has enough."""
    if device.kind is not DeviceKind.GPU or not device.memory_bytes:
        return 0.0
    need = 0.0
    for record in records:
        known = state.expected_memory(record.job)
        need += device.memory_bytes * record.job.resources.share if known is None else known * MEMORY_MARGIN
    return need - device.memory_bytes


def _is_named(device: Device, demand: Demand) -> bool:
    """True where the device's node is one that the demand allows."""
    return device.is_on(demand.node) and not (demand.at_home and device.away)


def matches(device: Device, demand: Demand) -> bool:
    """True where the device is of the kind and by the names that are asked for."""
    return device.kind is demand.kind and _is_named(device, demand) and device.is_a(demand.device)


def has_other(state: State, demand: Demand) -> bool:
    """True where a device that need not be avoided could take the demand, now or when it is free."""
    return any(
        record.online
        and not record.drained
        and record.device.id not in demand.avoid
        and record.device.capacity + EPSILON >= demand.share
        and matches(record.device, demand)
        for record in state.devices.values()
    )
