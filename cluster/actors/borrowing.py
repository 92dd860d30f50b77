"""Which devices of a Ray cluster of others to take now, and which to give back. Pure.

A *slot* is a GPU, or the CPU cores, of one of their nodes. Whoever holds it in Ray keeps all others from it: so it is
taken while jobs wait that could use it, and given back when nothing has run on it for long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from terry.cluster.core.model import Device, DeviceKind
from terry.cluster.scheduling.demand import Need, WaitingJobs

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What could be held of a node."""

    name: str  #: of its agent
    node: str
    node_id: str
    labels: tuple[str, ...] = ()
    kind: DeviceKind
    amount: float  #: GPUs or cores
    device: str = ""  #: id of the device; empty until its agent has answered: somebody else may hold it in Ray
    taken_at: datetime | None = None  #: since when it has an agent; None: it has none
    tried: bool = False  #: it had one before

    @property
    def is_taken(self) -> bool:
        """True where it has an agent, be it one that still waits for the device."""
        return self.taken_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotPlan:
    """Names of the slots that are to be taken, and of those that are to be given back."""

    take: tuple[str, ...] = ()
    give_back: tuple[str, ...] = ()


def plan_slots(slots: Collection[Slot], need: Need, idle_after: float) -> SlotPlan:
    """See the module. A node that was never seen is taken once: what its devices are only an agent can say."""
    take = {slot.name for slot in slots if not slot.is_taken and (_is_held(slot, need) or _is_unknown(slot, need))}
    take |= _short_of([slot for slot in slots if slot.name not in take], need)
    give_back = [slot.name for slot in slots if slot.is_taken and _is_idle(slot, need, idle_after)]
    return SlotPlan(take=tuple(sorted(take)), give_back=tuple(give_back))


def _is_held(slot: Slot, need: Need) -> bool:
    """Whether a job has a share of such a device there, though no agent is known: it must be asked for that job."""
    return any(d.id in need.held and (d.node_id, d.kind) == (slot.node_id, slot.kind) for d in need.devices)


def _is_unknown(slot: Slot, need: Need) -> bool:
    seen = any((d.node_id, d.kind) == (slot.node_id, slot.kind) for d in need.devices)
    return not slot.tried and not seen


def _short_of(slots: Iterable[Slot], need: Need) -> set[str]:
    """Slots without an agent that would take what waits, beside what is free and what is still on its way."""
    found: set[str] = set()
    capacity = _capacity(slots, need)
    for jobs in need.waiting:
        left = jobs.count
        for slot, free in sorted(capacity.items(), key=lambda entry: not entry[0].is_taken):
            if left > 0 and _suits(slot, jobs, need.devices):
                fitting = min(left, int(free / jobs.share + _EPSILON))
                capacity[slot] -= fitting * jobs.share
                left -= fitting
                if fitting and not slot.is_taken:
                    found.add(slot.name)
    return found


def _capacity(slots: Iterable[Slot], need: Need) -> dict[Slot, float]:
    """What is free of each, or will be once it is there; a device that takes no jobs just now has none."""
    loads = {load.device_id: load for load in need.loads}
    return {slot: loads[slot.device].free if slot.device in loads else slot.amount for slot in slots}


def _is_idle(slot: Slot, need: Need, idle_after: float) -> bool:
    if _is_held(slot, need) or any(_suits(slot, jobs, need.devices) for jobs in need.waiting):
        return False
    since = slot.taken_at
    if slot.device:
        since = next((load.idle_since for load in need.loads if load.device_id == slot.device), None)
    return since is not None and not since <= need.time < since + timedelta(seconds=idle_after)


def _suits(slot: Slot, jobs: WaitingJobs, devices: Collection[Device]) -> bool:
    """Whether these jobs could use it, by what is known: the device itself, or those that its node had."""
    like = Device(
        id=slot.name, node=slot.node, node_id=slot.node_id, kind=slot.kind, capacity=slot.amount, labels=slot.labels
    )
    if jobs.kind is not slot.kind or jobs.share > slot.amount + _EPSILON or not like.is_on(jobs.node):
        return False
    there = [d for d in devices if (d.node, d.kind) == (slot.node, slot.kind)]
    known = [d for d in there if d.id == slot.device] or there
    return not known or any(d.is_a(jobs.device) for d in known)
