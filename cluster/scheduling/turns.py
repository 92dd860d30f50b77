"""Whose turn it is: priority (with age), then the user who has had least of his share, then his sweep, then the job.

Pure. A heap of (demand, user) pairs, whose keys are only worked out when a pair comes to the front: while a plan is
made a key can only grow, so one that is out of date is put back. So a plan costs as much as it places, not as waits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from datetime import datetime
from typing import NamedTuple

from terry.cluster.core.model import DeviceKind, JobRecord
from terry.cluster.core.policy import Limit, Policy, lookup
from terry.cluster.core.state import EPSILON, Demand, State
from terry.cluster.core.waiting import Owned, Place

#: What runs counts as if it had run for this part of the half-life already: else whoever starts much at once is ahead.
LOOK_AHEAD = 0.01
#: Of a user's jobs that have waited longest so many are looked at for one that may run.
_OLDEST_MOST = 1000

#: (-priority with age, user's use, sweep's use, place, index of the pair)
Key = tuple[int, float, float, tuple[()] | Place, int]


class Turn(NamedTuple):
    """A job that is next."""

    demand: Demand
    record: JobRecord
    aged: bool  #: because it has waited so long


class Shares:
    """How much of his share each user and sweep has had, with what the plan has placed so far."""

    def __init__(self, state: State, now: datetime, policy: Policy) -> None:
        self._state, self._now, self._policy = state, now.timestamp(), policy
        self._placed: Counter[tuple[DeviceKind, str, str]] = Counter()
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._scores: dict[tuple[DeviceKind, str, str], float] = {}

    def place(self, demand: Demand, owner: str, sweep: str) -> None:
        """A job of the sweep was placed."""
        for name in ("", sweep):
            self._placed[demand.kind, owner, name] += demand.share  # type: ignore[assignment]
            self._jobs[owner, name] += 1
            self._scores.pop((demand.kind, owner, name), None)

    def score(self, kind: DeviceKind, owner: str, sweep: str = "") -> float:
        """Device-seconds had, by weight: who has least goes first."""
        key = (kind, owner, sweep)
        found = self._scores.get(key)
        if found is None:
            ledger, policy = self._state.ledger, self._policy
            weight = lookup(policy.sweep_weights, sweep) if sweep else lookup(policy.user_weights, owner)
            running = (ledger.rate(key) + self._placed[key]) * ledger.half_life_s * LOOK_AHEAD
            # Whole seconds: what is nearly forgotten is nothing, and among equals the order of submission counts.
            found = self._scores[key] = (ledger.used(key, self._now) + running) // (weight or 1.0)
        return found

    def limit_of(self, demand: Demand, owner: str, sweep: str = "") -> Limit | None:
        """The limit that forbids one more job of the user (of the sweep); None where none does."""
        policy = self._policy
        limit = lookup(policy.sweep_limits, sweep) if sweep else lookup(policy.user_limits, owner)
        if limit is None:
            return None
        key, most = (demand.kind, owner, sweep), limit.of(demand.kind)
        if most is not None and self._state.ledger.rate(key) + self._placed[key] + demand.share > most + EPSILON:
            return limit
        jobs = self._state.ledger.jobs(owner, sweep) + self._jobs[owner, sweep]
        return limit if limit.jobs is not None and jobs >= limit.jobs else None


class Turns:
    """The order in which jobs are to be placed."""

    def __init__(self, state: State, now: datetime, policy: Policy) -> None:
        self._state, self._now, self._policy = state, now, policy
        self.shares = Shares(state, now, policy)
        self.wakes: list[datetime] = []  #: ends of back-offs of jobs that were passed over
        self._taken: set[str] = set()
        self._closed: set[Demand] = set()
        self._cursors: dict[tuple[int, tuple[int, str]], int] = {}
        self._pairs: list[tuple[Demand, str, Owned]] = []
        self._next: dict[int, tuple[JobRecord, bool]] = {}
        self._heap = [self._first_key(demand, owner) for demand, owners in state.pending.items() for owner in owners]
        heapq.heapify(self._heap)

    def next(self) -> Turn | None:
        """The job whose turn it is; None where none is left. It stays next until `placed`, `skip` or `close`."""
        while self._heap:
            index = self._heap[0][-1]
            fresh = None if self._pairs[index][0] in self._closed else self._key(index)
            if fresh is None:
                heapq.heappop(self._heap)
            elif fresh > self._heap[0]:
                heapq.heapreplace(self._heap, fresh)
            else:
                return Turn(self._pairs[index][0], *self._next[index])
        return None

    def placed(self, turn: Turn) -> None:
        """The job has got its place."""
        self._taken.add(turn.record.job.id)
        self.shares.place(turn.demand, turn.record.job.owner, turn.record.job.sweep)

    def skip(self, turn: Turn) -> None:
        """This job has found no room; another one of its demand might."""
        self._taken.add(turn.record.job.id)

    def close(self, demand: Demand) -> None:
        """No more jobs of this demand in this plan."""
        self._closed.add(demand)

    def _first_key(self, demand: Demand, owner: str) -> Key:
        """A key that is surely not above the right one, and cheap."""
        owned = self._state.pending[demand][owner]
        self._pairs.append((demand, owner, owned))
        highest = owned.highest + self._age(owned.oldest)
        return (-highest, self.shares.score(demand.kind, owner), -1.0, (), len(self._pairs) - 1)

    def _age(self, since: float) -> int:
        """Levels of priority that were gained by waiting."""
        return max(0, int((self._now.timestamp() - since) // self._policy.aging_s))

    def _key(self, index: int) -> Key | None:
        """The key of the pair's best job; None where it has none that may run."""
        demand, owner, owned = self._pairs[index]
        if self.shares.limit_of(demand, owner) is not None:
            return None
        best = self._best_lane(index, demand, owner, owned)
        aged = self._longest_waiting(demand, owner, owned)
        if aged is not None and (best is None or aged[0] <= best[0]):
            best = aged
        if best is None:
            return None
        level, sweep_score, place, record, is_aged = best
        self._next[index] = (record, is_aged)
        return (level, self.shares.score(demand.kind, owner), sweep_score, place, index)

    def _best_lane(
        self, index: int, demand: Demand, owner: str, owned: Owned
    ) -> tuple[int, float, Place, JobRecord, bool] | None:
        best: tuple[int, float, Place] | None = None
        for key in owned.lanes:
            priority, sweep = key
            if best is not None and -priority > best[0]:
                continue
            if self.shares.limit_of(demand, owner, sweep) is None:
                place = self._head(index, key, owned)
                if place is not None:
                    found = (-priority, self.shares.score(demand.kind, owner, sweep), place)
                    best = found if best is None else min(best, found)
        return None if best is None else (*best, self._state.jobs[best[2][2]], False)

    def _head(self, index: int, key: tuple[int, str], owned: Owned) -> Place | None:
        """The first of a lane that is not placed yet and does not back off."""
        lane = owned.lanes[key]
        at = self._cursors.get((index, key), 0)
        while at < len(lane) and not self._is_free(lane[at][2]):
            at += 1
        self._cursors[index, key] = at
        return lane[at] if at < len(lane) else None

    def _is_free(self, job_id: str) -> bool:
        if job_id in self._taken:
            return False
        record = self._state.jobs[job_id]
        if record.not_before is not None and record.backs_off(self._now):
            self.wakes.append(record.not_before)
            return False
        return True

    def _longest_waiting(
        self, demand: Demand, owner: str, owned: Owned
    ) -> tuple[int, float, Place, JobRecord, bool] | None:
        """The job that has waited longest, where it has gained priority by that."""
        for looked, (job_id, since) in enumerate(owned.since.items()):
            age = self._age(since)
            if not age or looked >= _OLDEST_MOST:
                return None
            record = self._state.jobs[job_id]
            if self._is_free(job_id) and self.shares.limit_of(demand, owner, record.job.sweep) is None:
                place = (0, self._state.order[job_id], job_id)
                return (-(record.priority + age), -1.0, place, record, True)
        return None
