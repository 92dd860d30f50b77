"""What may happen when: the table of legal transitions, and the checks that hold an event against it. Pure.

NodeLost is about a node, not about a job: the jobs that were on it leave STARTING, RUNNING and STOPPING as AttemptEnded
would have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from terry.cluster.core import events as e
from terry.cluster.core.events import Event
from terry.cluster.core.model import DeviceRecord, JobRecord, JobState
from terry.cluster.core.state import EPSILON, State
from terry.cluster.errors import InvalidTransition

W, P, H = JobState.WAITING, JobState.PENDING, JobState.HELD
S, R, T = JobState.STARTING, JobState.RUNNING, JobState.STOPPING
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED

#: Event about a job -> state in which it may come -> states to which it may lead.
TRANSITIONS: dict[type, dict[JobState, frozenset[JobState]]] = {
    e.DependenciesMet: {W: frozenset({P})},
    e.DependencyFailed: {W: frozenset({X})},
    e.Held: {P: frozenset({H}), W: frozenset({H})},
    e.Released: {H: frozenset({P, W}), T: frozenset({T})},
    e.Placed: {P: frozenset({S})},
    e.AttemptStarted: {S: frozenset({R}), T: frozenset({T})},
    e.LaunchFailed: {S: frozenset({P, F}), T: frozenset({P, H, X, F})},
    e.AttemptEnded: {
        S: frozenset({P, H, C, F}),
        R: frozenset({P, H, C, F}),
        T: frozenset({P, H, C, F, X}),
    },
    e.CancelRequested: {
        W: frozenset({X}),
        P: frozenset({X}),
        H: frozenset({X}),
        S: frozenset({T}),
        R: frozenset({T}),
        T: frozenset({T}),
    },
    e.PauseRequested: {S: frozenset({T}), R: frozenset({T}), T: frozenset({T})},
    e.PreemptRequested: {S: frozenset({T}), R: frozenset({T})},
    e.Resubmitted: {s: frozenset({P, W}) for s in (C, F, X)},
    e.Extended: {s: frozenset({P, W}) for s in (C, F, X)},
    e.PriorityChanged: {s: frozenset({s}) for s in (W, P, H, S, R, T)},
    e.TermsChanged: {s: frozenset({s}) for s in (W, P, H, S, R, T, F, X)},
    e.Marked: {s: frozenset({s}) for s in JobState},
    e.RemovalAsked: {s: frozenset({s}) for s in (C, F, X)},
    e.FilesRemoved: {s: frozenset({s}) for s in JobState},
}

#: Events about the attempt that a job is on.
ATTEMPT_EVENTS = (e.AttemptStarted, e.LaunchFailed, e.AttemptEnded)


def check(state: State, event: Event) -> None:
    """Raise InvalidTransition, with the job's story, if the event is not allowed now."""
    kind = type(event)
    row = TRANSITIONS.get(kind)
    if row is not None:
        record = state.jobs.get(event.job_id)  # type: ignore[union-attr]
        if record is None:
            raise InvalidTransition(f"{kind.__name__}: there is no job {event.job_id!r}")  # type: ignore[union-attr]
        if record.state not in row:
            raise InvalidTransition(f"{kind.__name__} is allowed only where a job is {', '.join(row)}; {story(record)}")
    further = _FURTHER.get(kind)
    if further is not None:
        further(state, event)


def is_stale(state: State, event: Event) -> bool:
    """True for what is no longer current: late, doubled, or of an earlier attempt. To be ignored."""
    if (allowed := TRANSITIONS.get(type(event))) is not None:
        record = state.jobs.get(event.job_id)  # type: ignore[union-attr]
        if record is None or record.state not in allowed:
            return True
        if isinstance(event, ATTEMPT_EVENTS) and event.attempt != record.attempt:
            return True
        if isinstance(event, e.DependencyFailed) and not _is_hopeless(state, record, event.dependency):
            return True  # it was resubmitted in the same turn
        if isinstance(event, e.DependenciesMet) and not state.is_ready(record.job):
            return True  # one that it could have done without was resubmitted in the same turn
        return isinstance(event, e.AttemptStarted) and record.attempts[-1].started_at is not None
    if isinstance(event, e.DeviceSeen):
        known = state.devices.get(event.device.id)
        seen = known and replace(known, device=event.device, blocked=event.blocked, online=True, given_back=False)
        return known is not None and known == seen
    if isinstance(event, e.DeviceBlocked):
        blocked = state.devices.get(event.device_id)
        return blocked is None or blocked.blocked == event.reason
    if isinstance(event, e.DeviceGone):
        device = state.devices.get(event.device_id)
        return device is None or (not device.online and (device.given_back or not event.given_back))
    if isinstance(event, e.NodeLost):
        return not any(
            is_of_incarnation(d, event) and (d.online or d.given_back or d.device.id in state.on_device)
            for d in state.devices.values()
        )
    return False


def story(record: JobRecord) -> str:
    """A job's history in a few lines, for errors."""
    lines = [f"{record.job.id} is {record.state} (attempt {record.attempt}, series {record.series}) {record.reason}"]
    for a in record.attempts[-5:]:
        ended = "not ended" if a.end is None else f"{a.end.reason}: {a.decision}"
        lines.append(f"  attempt {a.number} on {a.device}, placed {a.placed_at:%Y-%m-%d %H:%M:%S}: {ended}")
    return "\n".join(lines)


def _check_new(state: State, event: e.Submitted) -> None:
    if event.job.id in state.jobs:
        raise InvalidTransition(f"{event.job.id} was submitted before")


def _check_epoch(state: State, event: e.ControllerStarted) -> None:
    if event.epoch <= state.epoch:
        raise InvalidTransition(f"epoch {event.epoch} after epoch {state.epoch}")


def _check_device(state: State, event: e.DeviceBlocked | e.DeviceGone | e.DeviceDrained | e.DeviceUndrained) -> None:
    if event.device_id not in state.devices:
        raise InvalidTransition(f"no device {event.device_id!r} was ever seen")


def _check_attempt(state: State, event: e.AttemptStarted | e.LaunchFailed | e.AttemptEnded) -> None:
    record = state.jobs[event.job_id]
    if event.attempt != record.attempt:
        raise InvalidTransition(f"{type(event).__name__} of attempt {event.attempt}; {story(record)}")


def _check_broken(state: State, event: e.DependencyFailed) -> None:
    record = state.jobs[event.job_id]
    if not _is_hopeless(state, record, event.dependency):
        raise InvalidTransition(f"dependency {event.dependency} may still be completed; {story(record)}")


def _is_hopeless(state: State, record: JobRecord, dependency: str) -> bool:
    """True where the job cannot run because of that dependency, unless a person does something."""
    return state.is_broken(dependency) and (record.job.minimum is None or state.broken_dependency(record) is not None)


def _check_met(state: State, event: e.DependenciesMet) -> None:
    record = state.jobs[event.job_id]
    if not state.is_ready(record.job):
        raise InvalidTransition(f"{state.unmet.get(event.job_id, 0)} dependencies are open; {story(record)}")


def _check_place(state: State, event: e.Placed) -> None:
    record, grant = state.jobs[event.job_id], event.allocation
    if event.attempt != record.attempt + 1:
        raise InvalidTransition(f"placed as attempt {event.attempt}; {story(record)}")
    if grant.device not in state.devices:
        raise InvalidTransition(f"placed on {grant.device!r}, which was never seen; {story(record)}")
    alone = record.exclusive or record.job.resources.exclusive
    if grant.share > state.free(grant.device) + EPSILON or (alone and grant.device in state.on_device):
        raise InvalidTransition(f"placed on {grant.device}, which has no room for {grant.share:g}; {story(record)}")


def _check_resubmitted(state: State, event: e.Resubmitted) -> None:
    record = state.jobs[event.job_id]
    _check_still(record)
    if event.from_scratch:
        _check_not_needed(state, record)
    elif record.state is C or record.marks.removed_at is not None:
        raise InvalidTransition(f"it can only be done again from scratch; {story(record)}")


def _check_extended(state: State, event: e.Extended) -> None:
    record, job = state.jobs[event.job_id], event.job
    same = (job.id, job.sweep, job.kind) == (record.job.id, record.job.sweep, record.job.kind)
    if not same or job.former != (*record.job.former, record.job.identity):
        raise InvalidTransition(f"it is extended to another job, or from what it is no more; {story(record)}")
    if (job.depends_on, job.minimum) != (record.job.depends_on, record.job.minimum):
        raise InvalidTransition(f"extended, it would depend on other jobs; {story(record)}")
    _check_still(record)
    if record.marks.removed_at is not None:
        raise InvalidTransition(f"its files were removed; {story(record)}")
    _check_not_needed(state, record)


def _check_still(record: JobRecord) -> None:
    """What comes later must not find its files among those that go."""
    if record.marks.leaving is not None:
        raise InvalidTransition(f"files of it are being removed; {story(record)}")


def _check_not_needed(state: State, record: JobRecord) -> None:
    if record.state is C and (other := needed_by(state, record.job.id)):
        raise InvalidTransition(f"{other} depends on it and has not ended; {story(record)}")


def needed_by(state: State, job_id: str) -> str | None:
    """A job that has not ended and depends on this one; None where there is none."""
    dependents = state.dependents.get(job_id, ())
    return next((other for other in dependents if not state.jobs[other].state.is_final), None)


def _check_terms(state: State, event: e.TermsChanged) -> None:
    record = state.jobs[event.job_id]
    kept = ("resources", "time_limit_s", "hang_after_s", "threads")
    if record.state.holds_device and any(getattr(event, name) != getattr(record.job, name) for name in kept):
        raise InvalidTransition(f"only `retry` changes while it is on a device; {story(record)}")


def _check_marked(state: State, event: e.Marked) -> None:
    record = state.jobs[event.job_id]
    if event.archived and not record.state.is_final:
        raise InvalidTransition(f"only what has ended is archived; {story(record)}")


def _check_removal(state: State, event: e.RemovalAsked) -> None:
    record = state.jobs[event.job_id]
    if record.marks.removed_at is not None or record.marks.leaving is not None:
        raise InvalidTransition(f"its files are gone, or going; {story(record)}")
    _check_not_needed(state, record)


def is_of_incarnation(known: DeviceRecord, event: e.NodeLost) -> bool:
    """True where the device belongs to the life of the node that was lost: it may be back with another one already."""
    return known.device.node == event.node and known.device.node_id == event.node_id


#: What else must hold for an event to be allowed.
_FURTHER: dict[type, Callable[[State, Any], None]] = {
    e.Submitted: _check_new,
    e.ControllerStarted: _check_epoch,
    e.DeviceBlocked: _check_device,
    e.DeviceGone: _check_device,
    e.DeviceDrained: _check_device,
    e.DeviceUndrained: _check_device,
    e.Placed: _check_place,
    e.Resubmitted: _check_resubmitted,
    e.Extended: _check_extended,
    e.TermsChanged: _check_terms,
    e.Marked: _check_marked,
    e.RemovalAsked: _check_removal,
    e.AttemptStarted: _check_attempt,
    e.LaunchFailed: _check_attempt,
    e.AttemptEnded: _check_attempt,
    e.DependencyFailed: _check_broken,
    e.DependenciesMet: _check_met,
}
