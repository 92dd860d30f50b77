"""Who has to leave for a job of higher priority. Pure.

A job leaves by a checkpoint and goes on later, so little is lost; but each is left in peace after some times, so that
all get done. What is on its way out already counts as room to come: nobody is sent away twice for one job.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime

from terry.cluster.core.model import DeviceRecord, EndReason, JobRecord, JobState, StopGoal
from terry.cluster.core.policy import Policy, Preemption
from terry.cluster.core.state import EPSILON, Demand, State
from terry.cluster.scheduling.fitting import matches

#: Jobs of one demand for which room is made in one turn.
_MOST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """A running job that is to make room."""

    job_id: str
    reason: str  #: for people


def preemptions(
    state: State, now: datetime, policy: Policy, placed: AbstractSet[str]
) -> tuple[tuple[Leave, ...], tuple[datetime, ...]]:
    """Who is to leave, and when a waiting job will have waited long enough to make somebody leave."""
    assert policy.preemption is not None
    leaves: list[Leave] = []
    wakes: list[datetime] = []
    lowest = min((record.priority for record in state.active()), default=None)
    if lowest is None:
        return (), ()
    claimed: set[str] = set()
    for demand, owners in state.pending.items():
        if max(owned.highest for owned in owners.values()) < lowest + policy.preemption.difference:
            continue
        for record in _first(state, demand, placed):
            may_at = since(record) + policy.preemption.after_s
            if since(record) <= now.timestamp() < may_at:  # in the future it can only have been by another clock
                wakes.append(datetime.fromtimestamp(may_at, tz=UTC))
            elif not record.backs_off(now):
                leaves += _preempt_for(state, demand, record, policy.preemption, claimed)
    return tuple(leaves), tuple(wakes)


def since(record: JobRecord) -> float:
    """When the job began to wait, in seconds since 1970."""
    return (record.changed_at or record.job.submitted_at).timestamp()


def _first(state: State, demand: Demand, placed: AbstractSet[str]) -> list[JobRecord]:
    """Of the jobs of a demand those of highest priority, in order."""
    lanes = [
        (-key[0], lane[i])
        for owned in state.pending[demand].values()
        for key, lane in owned.lanes.items()
        for i in range(min(_MOST, len(lane)))
        if key[0] == owned.highest
    ]
    records = [state.jobs[place[2]] for _, place in sorted(lanes) if place[2] not in placed]
    return records[:_MOST]


def _preempt_for(state: State, demand: Demand, record: JobRecord, rule: Preemption, claimed: set[str]) -> list[Leave]:
    """The fewest and least important jobs of one device whose leaving makes room; none where it is on its way."""
    best: tuple[int, int, str] | None = None
    victims: list[JobRecord] = []
    for known in state.devices.values():
        if known.device.id in claimed or not _may_use(known, demand):
            continue
        found = _victims(state, known, demand, record, rule)
        if found is None:
            continue
        key = (len(found), sum(victim.priority for victim in found), known.device.id)
        if best is None or key < best:
            best, victims = key, found
    if best is None:
        return []
    claimed.add(best[2])
    reason = f"makes room for {record.job.id}, whose priority is {record.priority}"
    return [Leave(job_id=victim.job.id, reason=reason) for victim in victims]


def _may_use(known: DeviceRecord, demand: Demand) -> bool:
    usable = known.online and not known.drained and not known.blocked and known.device.id not in demand.avoid
    return usable and known.device.capacity + EPSILON >= demand.share and matches(known.device, demand)


def _victims(
    state: State, known: DeviceRecord, demand: Demand, record: JobRecord, rule: Preemption
) -> list[JobRecord] | None:
    """Who would have to leave the device; an empty list where enough is leaving already; None where it cannot be."""
    holders = state.on_device.get(known.device.id, {})
    records = [state.jobs[job_id] for job_id in holders]
    leaving = [r for r in records if r.state is JobState.STOPPING and r.goal is not StopGoal.CANCEL]
    free = known.device.capacity - sum(holders.values()) + sum(holders[r.job.id] for r in leaving)
    wanted = known.device.capacity if demand.exclusive else demand.share
    lesser = [r for r in records if _is_lesser(r, record, rule)]
    victims: list[JobRecord] = []
    for other in sorted(lesser, key=lambda r: (r.priority, -holders[r.job.id], -since(r))):
        if free + EPSILON >= wanted:
            break
        victims.append(other)
        free += holders[other.job.id]
    return victims if free + EPSILON >= wanted else None


def _is_lesser(running: JobRecord, record: JobRecord, rule: Preemption) -> bool:
    """True where the running job has to make room for the other one."""
    if running.state is not JobState.RUNNING or running.priority + rule.difference > record.priority:
        return False
    times = sum(
        a.series == running.series and a.end is not None and a.end.reason is EndReason.PREEMPTED
        for a in running.attempts
    )
    return times < rule.at_most
