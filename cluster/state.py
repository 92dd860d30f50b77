"""The queue in memory: records of all jobs and devices, and indexes so that no event costs more as they grow in number.

Changed by terry.cluster.machine alone. `validate` says what always holds.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from terry.cluster.events import FORMAT_VERSION
from terry.cluster.model import DeviceKind, DeviceRecord, Job, JobRecord, JobState
from terry.cluster.waiting import Place, Waiting

#: Shares are sums of floats: so much may be missing or too much.
EPSILON = 1e-6


class Demand(NamedTuple):
    """All that decides where a job may be placed: pending jobs with equal demands are equal to the scheduler."""

    kind: DeviceKind
    share: float
    node: str | None
    device: str | None
    exclusive: bool
    avoid: tuple[str, ...]


def demand_of(record: JobRecord) -> Demand:
    """What a job needs, with what was learnt from its failures."""
    wanted = record.job.resources
    exclusive = wanted.exclusive or record.exclusive
    return Demand(wanted.kind, wanted.share, wanted.node, wanted.device, exclusive, record.avoid_devices)


class State:
    """All that the journal says, up to event `seq`."""

    def __init__(self) -> None:
        self.seq = 0  #: number of the newest event applied
        self.epoch = 0  #: of the newest controller
        self.jobs: dict[str, JobRecord] = {}  #: by id, in order of submission
        self.devices: dict[str, DeviceRecord] = {}  #: by id
        self.submissions: dict[str, int] = {}  #: sweep -> number of the newest submission that was taken
        self.requests: dict[str, str] = {}  #: newest requests of the inbox that were handled -> what was done
        # Indexes: all follow from the above.
        self.order: dict[str, int] = {}  #: job id -> order of submission
        self.pending: dict[Demand, Waiting] = {}  #: PENDING jobs, sorted
        self.dependents: dict[str, list[str]] = {}  #: job id -> jobs that depend on it
        self.unmet: dict[str, int] = {}  #: job id -> dependencies not COMPLETED, where there are any
        self.on_device: dict[str, dict[str, float]] = {}  #: device id -> job id -> share
        self.demands: dict[str, Demand] = {}  #: id of each PENDING job -> its queue in `pending`
        self.counts: dict[str, dict[JobState, int]] = {}  #: sweep -> jobs in each state

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
        self._count(record)
        self._grant(record)
        if record.state is JobState.PENDING:
            self._enqueue(record)

    def put(self, record: JobRecord) -> None:
        """Replace the record of a job."""
        job_id = record.job.id
        old = self.jobs[job_id]
        self.jobs[job_id] = record
        if old.state is not record.state:
            self.counts[record.job.sweep][old.state] -= 1
            self._count(record)
            if record.state is JobState.COMPLETED:
                self._meet(job_id)
        if old.state is JobState.PENDING:
            self._dequeue(old)
        if record.state is JobState.PENDING:
            self._enqueue(record)
        if old.allocation is not record.allocation:
            self._free(old)
            self._grant(record)

    def is_completed(self, job_id: str) -> bool:
        """True where the job exists and is COMPLETED."""
        record = self.jobs.get(job_id)
        return record is not None and record.state is JobState.COMPLETED

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
        """True where the job will not be COMPLETED unless a person does something: FAILED, CANCELLED, or unknown."""
        record = self.jobs.get(job_id)
        return record is None or record.state in {JobState.FAILED, JobState.CANCELLED}

    def used(self, device_id: str) -> float:
        """Share of the device that is granted."""
        return sum(self.on_device.get(device_id, {}).values())

    def exclusively_used(self, device_id: str) -> bool:
        """True where a job has the device to itself."""
        holders = self.on_device.get(device_id, {})
        return len(holders) == 1 and any(demand_of(self.jobs[job_id]).exclusive for job_id in holders)

    def free(self, device_id: str) -> float:
        """Share of the device that could be granted now; 0 where it is offline, drained, or held exclusively."""
        record = self.devices[device_id]
        if not record.online or record.drained or self.exclusively_used(device_id):
            return 0.0
        return max(0.0, record.device.capacity - self.used(device_id))

    def active(self) -> Iterable[JobRecord]:
        """Jobs that hold a share of a device."""
        return [self.jobs[job_id] for holders in self.on_device.values() for job_id in holders]

    def _meet(self, job_id: str) -> None:
        for dependent in self.dependents.get(job_id, ()):
            self.unmet[dependent] -= 1
            if not self.unmet[dependent]:
                del self.unmet[dependent]

    def _place(self, record: JobRecord) -> Place:
        return (-record.priority, self.order[record.job.id], record.job.id)

    def _enqueue(self, record: JobRecord) -> None:
        demand = self.demands[record.job.id] = demand_of(record)
        queue = self.pending.get(demand)
        if queue is None:
            queue = self.pending[demand] = Waiting()
        queue.add(self._place(record))

    def _dequeue(self, record: JobRecord) -> None:
        demand = self.demands.pop(record.job.id)
        queue = self.pending[demand]
        queue.remove(self._place(record))
        if not queue:
            del self.pending[demand]

    def _grant(self, record: JobRecord) -> None:
        if record.allocation is not None:
            holders = self.on_device.get(record.allocation.device)
            if holders is None:
                holders = self.on_device[record.allocation.device] = {}
            holders[record.job.id] = record.allocation.share

    def _free(self, record: JobRecord) -> None:
        if record.allocation is not None:
            holders = self.on_device[record.allocation.device]
            del holders[record.job.id]
            if not holders:
                del self.on_device[record.allocation.device]

    def _count(self, record: JobRecord) -> None:
        counts = self.counts.get(record.job.sweep)
        if counts is None:
            counts = self.counts[record.job.sweep] = dict.fromkeys(JobState, 0)
        counts[record.state] += 1


class _Saved(msgspec.Struct, kw_only=True):
    seq: int
    epoch: int
    jobs: list[JobRecord]
    devices: list[DeviceRecord]
    submissions: dict[str, int]
    requests: dict[str, str]


class _File(msgspec.Struct, kw_only=True):
    v: int
    crc: str
    state: msgspec.Raw


class BadSnapshot(ValueError):
    """Bytes that are no snapshot of this version, or were changed since."""


def to_snapshot(state: State) -> bytes:
    """The state as one versioned, checksummed JSON document."""
    saved = _Saved(
        seq=state.seq,
        epoch=state.epoch,
        jobs=list(state.jobs.values()),
        devices=list(state.devices.values()),
        submissions=state.submissions,
        requests=state.requests,
    )
    body = msgspec.json.encode(saved)
    return msgspec.json.encode(_File(v=FORMAT_VERSION, crc=f"{zlib.crc32(body):08x}", state=msgspec.Raw(body)))


def from_snapshot(data: bytes) -> State:
    """The state that `to_snapshot` saved. Raises BadSnapshot."""
    try:
        file = msgspec.json.decode(data, type=_File)
        if file.v != FORMAT_VERSION:
            raise BadSnapshot(f"it has format {file.v}; this program reads format {FORMAT_VERSION}")
        if file.crc != f"{zlib.crc32(file.state):08x}":
            raise BadSnapshot("its checksum is wrong")
        saved = msgspec.json.decode(file.state, type=_Saved)
    except msgspec.DecodeError as error:
        raise BadSnapshot(str(error)) from error
    return _restore(saved)


def _restore(saved: _Saved) -> State:
    state = State()
    state.seq, state.epoch = saved.seq, saved.epoch
    state.devices = {record.device.id: record for record in saved.devices}
    state.submissions, state.requests = saved.submissions, saved.requests
    for record in saved.jobs:
        state.add(record)
    return state


def validate(state: State) -> None:
    """Assert what always holds. For tests: it costs as much as there are jobs."""
    for record in state.jobs.values():
        _validate_job(state, record)
    for device_id, holders in state.on_device.items():
        _validate_device(state, device_id, holders)
    rebuilt = from_snapshot(to_snapshot(state))
    for name in ("order", "pending", "dependents", "unmet", "on_device", "demands", "counts"):
        assert getattr(rebuilt, name) == getattr(state, name), f"index {name} is wrong"


def _validate_job(state: State, record: JobRecord) -> None:
    story = f"{record.job.id} is {record.state}: {record}"
    holds = record.state.holds_device
    assert (record.allocation is not None) == holds, story
    assert (record.goal is not None) == (record.state is JobState.STOPPING), story
    assert record.not_before is None or record.state is JobState.PENDING, story
    assert (record.finished_at is not None) == record.state.is_final, story
    assert [a.number for a in record.attempts] == list(
        range(record.attempt - len(record.attempts) + 1, record.attempt + 1)
    ), story
    for attempt in record.attempts[:-1] if holds else record.attempts:
        assert attempt.end is not None, story
        assert attempt.ended_at is not None, story
    if holds:
        assert record.attempts[-1].end is None, story
        assert record.attempts[-1].device == record.allocation.device, story  # type: ignore[union-attr]
    waits = record.state in {JobState.WAITING, JobState.HELD, JobState.CANCELLED}
    if not waits and record.job.minimum is None:
        assert record.job.id not in state.unmet, story


def _validate_device(state: State, device_id: str, holders: dict[str, float]) -> None:
    assert device_id in state.devices, device_id
    capacity = state.devices[device_id].device.capacity
    assert sum(holders.values()) <= capacity + EPSILON, f"{device_id}: {holders} of {capacity}"
    exclusive = [job_id for job_id in holders if demand_of(state.jobs[job_id]).exclusive]
    assert not exclusive or len(holders) == 1, f"{device_id}: {exclusive} not alone among {list(holders)}"
