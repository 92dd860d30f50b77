"""A State as one document, and back; and what always holds of one."""

from __future__ import annotations

import zlib

import msgspec

from terry.cluster.core.accounts import Account, Ledger
from terry.cluster.core.events import FORMAT_VERSION, OLDEST_FORMAT
from terry.cluster.core.model import DeviceRecord, JobRecord, JobState
from terry.cluster.core.policy import HALF_LIFE_S
from terry.cluster.core.profiles import Profile
from terry.cluster.core.state import EPSILON, State, demand_of


class _Saved(msgspec.Struct, kw_only=True):
    seq: int
    epoch: int
    jobs: list[JobRecord]
    devices: list[DeviceRecord]
    submissions: dict[str, int]
    requests: dict[str, str]
    half_life_s: float = HALF_LIFE_S
    longest_first: bool = True
    accounts: list[Account] = []
    profiles: dict[str, Profile] = {}


class _Version(msgspec.Struct):
    v: int


class _File(msgspec.Struct, kw_only=True):
    v: int
    crc: str
    state: msgspec.Raw


class BadSnapshot(ValueError):
    """Bytes that are no snapshot, or were changed since."""


class UnknownSnapshot(ValueError):
    """A snapshot that a later version of the program has written."""


def to_snapshot(state: State) -> bytes:
    """The state as one versioned, checksummed JSON document."""
    saved = _Saved(
        seq=state.seq,
        epoch=state.epoch,
        jobs=list(state.jobs.values()),
        devices=list(state.devices.values()),
        submissions=state.submissions,
        requests=state.requests,
        half_life_s=state.ledger.half_life_s,
        longest_first=state.longest_first,
        accounts=list(state.ledger.accounts.values()),
        profiles=state.profiles,
    )
    body = msgspec.json.encode(saved)
    return msgspec.json.encode(_File(v=FORMAT_VERSION, crc=f"{zlib.crc32(body):08x}", state=msgspec.Raw(body)))


def from_snapshot(data: bytes) -> State:
    """The state that `to_snapshot` saved. Raises BadSnapshot, or UnknownSnapshot for one of a later version."""
    try:
        version = msgspec.json.decode(data, type=_Version).v
        if not OLDEST_FORMAT <= version <= FORMAT_VERSION:
            raise UnknownSnapshot(f"it has format {version}, and this program reads formats up to {FORMAT_VERSION}")
        file = msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        raise BadSnapshot(str(error)) from error
    if file.crc != f"{zlib.crc32(file.state):08x}":
        raise BadSnapshot("its checksum is wrong")
    try:
        return _restore(msgspec.json.decode(file.state, type=_Saved))
    except msgspec.DecodeError as error:
        raise UnknownSnapshot(f"its checksum is right, and this version does not know it: {error}") from error


def _restore(saved: _Saved) -> State:
    state = State()
    state.seq, state.epoch = saved.seq, saved.epoch
    state.submissions, state.requests = saved.submissions, saved.requests
    state.ledger = Ledger(saved.half_life_s)
    state.ledger.accounts = {(a.kind, a.owner, a.sweep): a for a in saved.accounts}
    state.profiles, state.longest_first = saved.profiles, saved.longest_first
    state.knows_memory = any(profile.memory.count for profile in saved.profiles.values())
    state.defer()
    for device in saved.devices:
        state.put_device(device)
    for record in saved.jobs:
        state.add(record)
    state.settle()
    return state


def validate(state: State) -> None:
    """Assert what always holds. For tests: it costs as much as there are jobs."""
    for record in state.jobs.values():
        _validate_job(state, record)
    for device_id, holders in state.on_device.items():
        _validate_device(state, device_id, holders)
    rebuilt = from_snapshot(to_snapshot(state))
    for name in (
        "order",
        "pending",
        "dependents",
        "unmet",
        "on_device",
        "demands",
        "counts",
        "free_capacity",
        "nodes",
        "successors",
        "removing",
    ):
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
    marks = record.marks
    assert not marks.put_away or record.state.is_final, story
    assert marks.leaving is None or record.state.is_final, story
    # What had ended may lack what it came from: that was removed, or is done again.
    waits = record.state.is_final or record.state in {JobState.WAITING, JobState.HELD}
    if not waits and record.job.minimum is None:
        assert record.job.id not in state.unmet, story


def _validate_device(state: State, device_id: str, holders: dict[str, float]) -> None:
    assert device_id in state.devices, device_id
    capacity = state.devices[device_id].device.capacity
    assert sum(holders.values()) <= capacity + EPSILON, f"{device_id}: {holders} of {capacity}"
    exclusive = [job_id for job_id in holders if demand_of(state.jobs[job_id]).exclusive]
    assert not exclusive or len(holders) == 1, f"{device_id}: {exclusive} not alone among {list(holders)}"
