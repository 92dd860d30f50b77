"""The queue in memory: records of all jobs and devices, and indexes so that no event costs more as they grow in number.

Changed by terry.cluster.core.state_machine alone. terry.cluster.core.state_document saves it, and says what always
holds.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from terry.cluster.core.accounts import Ledger
from terry.cluster.core.capacity import FreeCapacity
from terry.cluster.core.model import DeviceKind, DeviceRecord, Job, JobRecord, JobState
from terry.cluster.core.profiles import ALIKE, Profile
from terry.cluster.core.waiting import LaneKey, Owned, Place, Waiting

#: Shares are sums of floats: so much may be missing or too much.
EPSILON = 1e-6

#: States in which a job is replaced by one of the same settings that was submitted after it.
_REPLACEABLE = frozenset({JobState.FAILED, JobState.CANCELLED})


class Demand(NamedTuple):
    """All that decides where a job may be placed: pending jobs with equal demands are equal to the scheduler."""

    kind: DeviceKind
    share: float
    node: str | None
    device: str | None
    exclusive: bool
    avoid: tuple[str, ...]
    at_home: bool = False


def demand_of(record: JobRecord) -> Demand:
    """What a job needs, with what was learnt from its failures."""
    wanted = record.job.resources
    exclusive = wanted.exclusive or record.exclusive
    return Demand(
        wanted.kind, wanted.share, wanted.node, wanted.device, exclusive, record.avoid_devices, wanted.at_home
    )


class State:
    """All that the journal says, up to event `seq`."""

    def __init__(self) -> None:
        self.seq = 0  #: number of the newest event applied
        self.epoch = 0  #: of the newest controller
        self.jobs: dict[str, JobRecord] = {}  #: by id, in order of submission
        self.devices: dict[str, DeviceRecord] = {}  #: by id
        self.submissions: dict[str, int] = {}  #: sweep -> number of the newest submission that was taken
        self.requests: dict[str, str] = {}  #: newest requests of the inbox that were handled -> what was done
        self.ledger = Ledger()  #: who has used how much
        self.profiles: dict[str, Profile] = {}  #: sweep/kind -> what its finished jobs have taught
        self.longest_first = True  #: as the policy says
        self.knows_memory = False  #: something of how much of a GPU's memory jobs need was learnt
        # Indexes: all follow from the above.
        self.order: dict[str, int] = {}  #: job id -> order of submission
        self.pending: dict[Demand, dict[str, Owned]] = {}  #: PENDING jobs, by demand and user
        self.dependents: dict[str, list[str]] = {}  #: job id -> jobs that depend on it
        self.unmet: dict[str, int] = {}  #: job id -> dependencies not COMPLETED, where there are any
        self.on_device: dict[str, dict[str, float]] = {}  #: device id -> job id -> share
        self.demands: dict[str, tuple[Demand, Place]] = {}  #: id of each PENDING job -> where it stands in `pending`
        self.counts: dict[str, dict[JobState, int]] = {}  #: sweep -> jobs in each state
        self.free_capacity = FreeCapacity()  #: what is free
        self.nodes: dict[str, list[str]] = {}  #: node -> ids of its devices
        self.successors: dict[str, str] = {}  #: job id -> the newest job that says that it replaces it
        self.removing: set[str] = set()  #: ids of jobs whose files are still to be removed
        self._deferred = False

    def defer(self) -> None:
        """Until `settle` leave out what only planning looks at: `pending`, `demands` and `room`.

        While a journal is replayed nothing is planned, and these would cost a third of the time.
        """
        self._deferred = True

    def settle(self) -> None:
        """Make what `defer` has left out."""
        self._deferred = False
        self.pending, self.demands, self.free_capacity = {}, {}, FreeCapacity()
        for record in self.jobs.values():
            if record.state is JobState.PENDING:
                self._enqueue(record, sort=False)
        for owners in self.pending.values():
            for owned in owners.values():
                owned.sort()
        for known in self.devices.values():
            self.free_capacity.set(known.device, self.free(known.device.id))

    def add(self, record: JobRecord) -> None:
        """Take in a job that is new."""
        job = record.job
        assert job.id not in self.jobs, job.id
        self.order[job.id] = len(self.order)
        for dependency in job.depends_on:
            self.dependents.setdefault(dependency, []).append(job.id)
        unmet = sum(not self.is_completed(dependency) for dependency in job.depends_on)
        if unmet:
            self.unmet[job.id] = unmet
        self.jobs[job.id] = record
        if job.replaces:
            self.successors[job.replaces] = job.id
        self._note_removal(record)
        self._count(record)
        self._grant(record)
        if record.state is JobState.PENDING and not self._deferred:
            self._enqueue(record)

    def put_device(self, record: DeviceRecord) -> None:
        """Take in a device that is new, or replace its record."""
        device = record.device
        if device.id not in self.devices:
            insort(self.nodes.setdefault(device.node, []), device.id)
        elif (old := self.devices[device.id].device) != device:
            if not self._deferred:
                self.free_capacity.set(old, 0.0)
            if old.node != device.node:
                self.nodes[old.node].remove(device.id)
                if not self.nodes[old.node]:
                    del self.nodes[old.node]
                insort(self.nodes.setdefault(device.node, []), device.id)
        self.devices[device.id] = record
        if not self._deferred:
            self.free_capacity.set(device, self.free(device.id))

    def learn(self, record: JobRecord, *, alone: bool) -> None:
        """Remember how long a COMPLETED job took and how much memory it needed. `alone`: nobody shared its device."""
        job, ended = record.job, record.attempts[-1].end
        profile = self.profiles.get(_profile_key(job))
        if profile is None:
            profile = self.profiles[_profile_key(job)] = Profile()
        if alone and ended is not None and ended.device_memory_bytes:
            profile.memory.add(job.labels, ended.device_memory_bytes)
            self.knows_memory = True
        if profile.learn_seconds(job.labels, _run_seconds(record)) and self.longest_first:
            self._rank_again(job.sweep)

    def expected_seconds(self, job: Job) -> float | None:
        """How long the job will run, by what its sweep's finished jobs took; None where nothing is known."""
        profile = self.profiles.get(_profile_key(job))
        expected = None if profile is None else profile.seconds.expect(job.labels)
        return expected if job.time_limit_s is None or expected is None else min(expected, job.time_limit_s)

    def expected_memory(self, job: Job) -> float | None:
        """Bytes of a GPU's memory that the job will need; None where nothing is known."""
        profile = self.profiles.get(_profile_key(job))
        return None if profile is None else profile.memory.expect(job.labels)

    def set_longest_first(self, *, on: bool) -> None:
        """Put all waiting jobs in the order that the policy says."""
        if on is not self.longest_first:
            self.longest_first = on
            self._rank_again(None)

    def put(self, record: JobRecord) -> None:
        """Replace the record of a job."""
        job_id = record.job.id
        old = self.jobs[job_id]
        self.jobs[job_id] = record
        if old.state is not record.state:
            self.counts[record.job.sweep][old.state] -= 1
            self._count(record)
        if (met := _is_met(record)) is not _is_met(old):
            self._meet(job_id, met=met)
        if old.marks is not record.marks:
            self._note_removal(record)
        if not self._deferred:
            self._requeue(old, record)
        if old.allocation is not record.allocation:
            at = _timestamp(record)
            self._free(old, at)
            self._grant(record, at)

    def is_completed(self, job_id: str) -> bool:
        """True where the job is COMPLETED, and its files are there."""
        record = self.jobs.get(job_id)
        return record is not None and _is_met(record)

    def is_ready(self, job: Job) -> bool:
        """True where the job's dependencies are as it needs them. The job must have been added."""
        if job.minimum is None:
            return job.id not in self.unmet
        # The last one first: it is most often the last to end, so the answer is had after one look.
        settled = all(self.is_completed(d) or self.is_broken(d) for d in reversed(job.depends_on))
        return settled and len(job.depends_on) - self.unmet.get(job.id, 0) >= job.minimum

    def broken_dependency(self, record: JobRecord) -> str | None:
        """The first dependency that cannot be met as things stand, where the job cannot do without it."""
        job = record.job
        if job.minimum is None:
            return next((dependency for dependency in job.depends_on if self.is_broken(dependency)), None)
        broken = [dependency for dependency in job.depends_on if self.is_broken(dependency)]
        return broken[0] if broken and len(job.depends_on) - len(broken) < job.minimum else None

    def is_broken(self, job_id: str) -> bool:
        """True where nothing is to come of it unless a person does something: FAILED, CANCELLED, removed, unknown."""
        record = self.jobs.get(job_id)
        return record is None or (record.state.is_final and not _is_met(record))

    def heir(self, job_id: str) -> str | None:
        """The job that stands for this one, which FAILED or was CANCELLED, and was submitted again; None: none does."""
        return heir(job_id, self.jobs, self.successors)

    def used(self, device_id: str) -> float:
        """Share of the device that is granted."""
        return sum(self.on_device.get(device_id, {}).values())

    def exclusively_used(self, device_id: str) -> bool:
        """True where a job has the device to itself."""
        holders = self.on_device.get(device_id)
        if holders is None or len(holders) != 1:
            return False
        (job_id,) = holders
        record = self.jobs[job_id]
        return record.exclusive or record.job.resources.exclusive

    def free(self, device_id: str) -> float:
        """Share of the device that could be granted now; 0: offline, drained, blocked, or held exclusively."""
        record = self.devices[device_id]
        if not record.online or record.drained or record.blocked:
            return 0.0
        holders = self.on_device.get(device_id)
        if not holders:
            return record.device.capacity
        if self.exclusively_used(device_id):
            return 0.0
        return max(0.0, record.device.capacity - sum(holders.values()))

    def active(self) -> Iterable[JobRecord]:
        """Jobs that hold a share of a device."""
        return [self.jobs[job_id] for holders in self.on_device.values() for job_id in holders]

    def _meet(self, job_id: str, *, met: bool) -> None:
        for dependent in self.dependents.get(job_id, ()):
            unmet = self.unmet.get(dependent, 0) + (-1 if met else 1)
            if unmet:
                self.unmet[dependent] = unmet
            else:
                del self.unmet[dependent]

    def _note_removal(self, record: JobRecord) -> None:
        if record.marks.leaving is None:
            self.removing.discard(record.job.id)
        else:
            self.removing.add(record.job.id)

    def _place(self, record: JobRecord) -> Place:
        job, rank = record.job, ALIKE
        if self.longest_first and (profile := self.profiles.get(_profile_key(job))) is not None:
            rank = profile.rank(job.labels)
        return (-rank, self.order[job.id], job.id)

    def _requeue(self, old: JobRecord, record: JobRecord) -> None:
        waited, waits = old.state is JobState.PENDING, record.state is JobState.PENDING
        if waited and waits and self.demands[record.job.id][0] == demand_of(record):  # another priority
            demand, place = self.demands[record.job.id]
            self.pending[demand][record.job.owner].move(_lane(old), _lane(record), place)
            return
        if waited:
            self._dequeue(old)
        if waits:
            self._enqueue(record)

    def _enqueue(self, record: JobRecord, *, sort: bool = True) -> None:
        demand, place = self.demands[record.job.id] = demand_of(record), self._place(record)
        owners = self.pending.get(demand)
        if owners is None:
            owners = self.pending[demand] = {}
        owned = owners.get(record.job.owner)
        if owned is None:
            owned = owners[record.job.owner] = Owned()
        owned.add(_lane(record), place, _timestamp(record), sort=sort)

    def _dequeue(self, record: JobRecord) -> None:
        demand, place = self.demands.pop(record.job.id)
        owners = self.pending[demand]
        owned = owners[record.job.owner]
        owned.remove(_lane(record), place)
        if not owned:
            del owners[record.job.owner]
            if not owners:
                del self.pending[demand]

    def _rank_again(self, sweep: str | None) -> None:
        """Put the waiting jobs of a sweep (None: of all) in order by what is known of their durations now."""
        for demand, owners in self.pending.items():
            for owned in owners.values():
                for key, lane in owned.lanes.items():
                    if sweep is None or key[1] == sweep:
                        places = [self._place(self.jobs[place[2]]) for place in lane]
                        owned.lanes[key] = Waiting(places)
                        self.demands.update((place[2], (demand, place)) for place in places)

    def _grant(self, record: JobRecord, at: float | None = None) -> None:
        """`at`: from when on it counts as use; None: it is counted already."""
        if record.allocation is not None:
            device = record.allocation.device
            holders = self.on_device.get(device)
            if holders is None:
                holders = self.on_device[device] = {}
            holders[record.job.id] = record.allocation.share
            self._changed_use(record, 1, at)

    def _free(self, record: JobRecord, at: float) -> None:
        if record.allocation is not None:
            holders = self.on_device[record.allocation.device]
            del holders[record.job.id]
            if not holders:
                del self.on_device[record.allocation.device]
            self._changed_use(record, -1, at)

    def _changed_use(self, record: JobRecord, sign: int, at: float | None) -> None:
        job, allocation = record.job, record.allocation
        assert allocation is not None
        if at is not None:
            self.ledger.change(job.resources.kind, job.owner, job.sweep, sign * allocation.share, sign, at)
        if not self._deferred and (known := self.devices.get(allocation.device)) is not None:
            self.free_capacity.set(known.device, self.free(allocation.device))

    def _count(self, record: JobRecord) -> None:
        counts = self.counts.get(record.job.sweep)
        if counts is None:
            counts = self.counts[record.job.sweep] = dict.fromkeys(JobState, 0)
        counts[record.state] += 1


def _is_met(record: JobRecord) -> bool:
    """True where what depends on the job may go on."""
    return record.state is JobState.COMPLETED and record.marks.removed_at is None


def heir(job_id: str, jobs: Mapping[str, JobRecord], successors: Mapping[str, str]) -> str | None:
    """The last of a chain of jobs each of which replaced the one before, where this one is the beginning of one."""
    found, seen = job_id, {job_id}
    while jobs[found].state in _REPLACEABLE and (after := successors.get(found)) in jobs and after not in seen:
        assert after is not None
        if jobs[after].marks.removed_at is not None:
            break
        seen.add(after)
        found = after
    return None if found == job_id else found


def _lane(record: JobRecord) -> LaneKey:
    return (record.priority, record.job.sweep)


def _timestamp(record: JobRecord) -> float:
    return (record.changed_at or record.job.submitted_at).timestamp()


def _profile_key(job: Job) -> str:
    return f"{job.sweep}/{job.kind}"


def _run_seconds(record: JobRecord) -> float:
    """How long all attempts of the present series ran together."""
    return sum(
        (a.ended_at - (a.started_at or a.placed_at)).total_seconds()
        for a in record.attempts
        if a.series == record.series and a.ended_at is not None
    )
