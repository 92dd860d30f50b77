"""What events about devices do: handlers of the state machine; what *drained* means, and when it comes by itself.

A drained device takes no new jobs, and those on it move: they write a checkpoint and go on elsewhere. A person asks for
it, a fault of the GPU does it, and so do crashes of several different jobs on it within an hour where another device
can take over. It stays drained until a person takes it back (`undrain`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from terry.cluster.core import events as e
from terry.cluster.core.events import Command, Event, Follow
from terry.cluster.core.failures import SUSPICIOUS
from terry.cluster.core.model import DeviceRecord, JobRecord, JobState
from terry.cluster.core.state import State

#: A device on which so many different jobs crashed within the time is drained.
DRAIN_JOBS, DRAIN_WITHIN = 3, timedelta(hours=1)
#: So many crashes of a device are remembered.
KEPT_CRASHES = 100


def device_seen(state: State, event: e.DeviceSeen) -> Iterable[Command]:
    known = state.devices.get(event.device.id)
    record = DeviceRecord(device=event.device) if known is None else known
    state.put_device(with_changes(record, device=event.device, online=True, blocked=event.blocked, given_back=False))
    return ()


def device_blocked(state: State, event: e.DeviceBlocked) -> Iterable[Command]:
    state.put_device(with_changes(state.devices[event.device_id], blocked=event.reason))
    return ()


def device_gone(state: State, event: e.DeviceGone) -> Iterable[Command]:
    state.put_device(with_changes(state.devices[event.device_id], online=False, given_back=event.given_back))
    return ()


def device_drained(state: State, event: e.DeviceDrained) -> Iterable[Command]:
    known = state.devices[event.device_id]
    state.put_device(with_changes(known, drained=True, drain_reason=event.reason))
    return [Follow(event=move) for move in move_away(state, event.device_id, event.reason, event.time)]


def device_undrained(state: State, event: e.DeviceUndrained) -> Iterable[Command]:
    known = state.devices[event.device_id]
    state.put_device(with_changes(known, drained=False, drain_reason="", crashes=()))
    return ()


def suspect(state: State, record: JobRecord, device_id: str, event: e.AttemptEnded) -> Iterable[Command]:
    """Keep count of the crashes on a device, and drain it when the evidence is against it rather than the jobs."""
    known = state.devices[device_id]
    if event.end.device_fault and not known.drained:
        yield Follow(event=e.DeviceDrained(time=event.time, device_id=device_id, reason=event.end.device_fault))
        return
    if event.end.reason not in SUSPICIOUS or _crashed_elsewhere(record, device_id):
        return  # a job that crashes on several devices is itself to blame
    recent = tuple(c for c in known.crashes if c[0] > event.time - DRAIN_WITHIN)[-KEPT_CRASHES:]
    known = with_changes(known, crashes=(*recent, (event.time, event.job_id)))
    state.put_device(known)
    jobs = {job_id for _, job_id in known.crashes}
    if len(jobs) >= DRAIN_JOBS and not known.drained and _has_substitute(state, known):
        reason = f"{len(jobs)} different jobs crashed on it within an hour"
        yield Follow(event=e.DeviceDrained(time=event.time, device_id=device_id, reason=reason))


def _crashed_elsewhere(record: JobRecord, device_id: str) -> bool:
    return any(a.device != device_id and a.end is not None and a.end.reason in SUSPICIOUS for a in record.attempts)


def _has_substitute(state: State, known: DeviceRecord) -> bool:
    """A last device is not drained by rule: a device that sometimes crashes does more work than none."""
    return any(
        other.online and not other.drained and other.device.kind is known.device.kind
        for other in state.devices.values()
        if other.device.id != known.device.id
    )


def move_away(state: State, device_id: str, reason: str, now: datetime | None = None) -> list[Event]:
    records = [state.jobs[job_id] for job_id in state.on_device.get(device_id, ())]
    return [
        e.PreemptRequested(time=now or changed_at(r), job_id=r.job.id, reason=f"{device_id} is drained: {reason}")
        for r in records
        if r.state in {JobState.STARTING, JobState.RUNNING}
    ]


def all_devices(state: State) -> list[DeviceRecord]:
    return list(state.devices.values())


def with_changes(known: DeviceRecord, **changes: Any) -> DeviceRecord:
    return dataclasses.replace(known, **changes)


def changed_at(record: JobRecord) -> datetime:
    return record.changed_at or record.job.submitted_at
