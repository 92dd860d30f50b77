"""Which job goes where now: a pure function of the queue, the time and the policy.

Whose turn it is terry.cluster.scheduling.turns says, where a job fits terry.cluster.scheduling.fitting. A job whose
turn it is and that finds no room keeps one device from those behind it, so that small jobs cannot starve a large one;
a job that is known to be gone in time may use that room meanwhile (back-fill). Where the policy says so, a job of
higher priority makes running ones leave (terry.cluster.scheduling.preemption).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from terry.cluster.core.model import Allocation, Device
from terry.cluster.core.policy import Policy
from terry.cluster.core.state import Demand, State
from terry.cluster.scheduling.fitting import Fitting
from terry.cluster.scheduling.preemption import Leave, preemptions
from terry.cluster.scheduling.reasons import why_waiting
from terry.cluster.scheduling.turns import Turn, Turns

__all__ = ["Placement", "Plan", "Policy", "plan", "why_waiting"]

#: Jobs that are looked at in one plan for room that is kept for others.
_BORROWERS_MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One job on one device; to be verified again when it is carried out."""

    job_id: str
    allocation: Allocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, and when to plan again even if nothing happens."""

    placements: tuple[Placement, ...] = ()
    preemptions: tuple[Leave, ...] = ()  #: running jobs that are to make room
    wake_at: datetime | None = None  #: the first end of a back-off, or of the time before a job may preempt


def plan(state: State, now: datetime, policy: Policy | None = None) -> Plan:
    """Placements that can be made now, in order, who has to leave, and when to look again."""
    policy = policy or Policy()
    if not state.pending:
        return Plan()
    run = _Run(state, now, policy)
    if state.free_capacity.free:
        run.place()
    leave, wakes = preemptions(state, now, policy, run.taken) if policy.preemption else ((), ())
    wake_at = min((*run.wakes, *wakes), default=None)
    return Plan(placements=tuple(run.placements), preemptions=leave, wake_at=wake_at)


class _Run:
    """The making of one plan."""

    def __init__(self, state: State, now: datetime, policy: Policy) -> None:
        self._state, self._now, self._policy = state, now, policy
        self.placements: list[Placement] = []
        self.taken: set[str] = set()
        self.wakes: list[datetime] = []
        self._full: set[Demand] = set()  # demands that find no room any more
        self._borrowers = 0

    def place(self) -> None:
        """Go through the jobs in turn until nothing is free."""
        fitting, turns = Fitting(self._state, self._now, self._policy), Turns(self._state, self._now, self._policy)
        while len(self.placements) < self._policy.placements_per_turn and (turn := turns.next()) is not None:
            if not fitting.has(turn.demand.kind):
                turns.close(turn.demand)
                continue
            device = self._device(fitting, turn)
            if device is not None:
                self._grant(turn, device)
                turns.placed(turn)
            elif self._borrowers < _BORROWERS_MOST and fitting.may_lend(turn.demand):
                turns.skip(turn)  # the next one may be shorter
            else:
                turns.close(turn.demand)
        self.wakes = turns.wakes

    def _device(self, fitting: Fitting, turn: Turn) -> Device | None:
        demand, record = turn.demand, turn.record
        if demand not in self._full:
            device = fitting.find(demand, record)
            if device is not None:
                fitting.take(device, demand, record)
                return device
            if (device := self._borrowed(fitting, turn)) is not None:
                return device
            self._full.add(demand)
            fitting.keep(demand, record, lend=self._policy.backfill and not turn.aged)
            return None
        return self._borrowed(fitting, turn)

    def _borrowed(self, fitting: Fitting, turn: Turn) -> Device | None:
        """Room that is kept for another job, of which only so many jobs a plan are asked whether they leave in time."""
        if self._borrowers >= _BORROWERS_MOST or not fitting.may_lend(turn.demand):
            return None
        self._borrowers += 1
        return fitting.borrow(turn.demand, turn.record)

    def _grant(self, turn: Turn, device: Device) -> None:
        job_id = turn.record.job.id
        self.taken.add(job_id)
        grant = Allocation(device=device.id, node=device.node, share=turn.demand.share)
        self.placements.append(Placement(job_id=job_id, allocation=grant))
