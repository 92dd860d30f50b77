"""The state machine of the queue: `apply(state, event)` is the only thing that changes a State. Pure but for that.

An event is first checked against the table in terry.cluster.core.transitions, then applied by the handler of its
type; what has to happen in the world comes back as commands. The same events always make the same state: replay is
the only way to load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from terry.cluster.core import events as e
from terry.cluster.core.device_events import (
    all_devices,
    changed_at,
    device_blocked,
    device_drained,
    device_gone,
    device_seen,
    device_undrained,
    move_away,
    suspect,
    with_changes,
)
from terry.cluster.core.events import Command, Event, Follow, JobFinished, Launch, Stop
from terry.cluster.core.failures import SUSPICIOUS, decide
from terry.cluster.core.keeping_events import files_removed, marked, removal_asked, terms_changed
from terry.cluster.core.model import (
    SUCCESSES,
    Attempt,
    AttemptEnd,
    Budget,
    EndReason,
    JobRecord,
    JobState,
    StopGoal,
)
from terry.cluster.core.state import State
from terry.cluster.core.transitions import TRANSITIONS, check, is_of_incarnation, is_stale, story
from terry.cluster.errors import InvalidTransition

__all__ = ["State", "apply", "check", "due", "follow", "is_stale"]

W, P, H = JobState.WAITING, JobState.PENDING, JobState.HELD
S, R, T = JobState.STARTING, JobState.RUNNING, JobState.STOPPING
C, X = JobState.COMPLETED, JobState.CANCELLED

#: So many attempts, and requests, are remembered; the attempts' folders hold all of them.
KEPT_ATTEMPTS, KEPT_REQUESTS = 100, 1000

#: A request to stop that came later replaces the goal only if it is stronger.
_STRENGTH = {StopGoal.PREEMPT: 0, StopGoal.PAUSE: 1, StopGoal.CANCEL: 2}


def apply(state: State, event: Event) -> tuple[Command, ...]:
    """Change the state by one event. Raises InvalidTransition, and changes nothing, where the event is not allowed."""
    check(state, event)
    allowed = TRANSITIONS.get(type(event))
    targets = allowed[state.jobs[event.job_id].state] if allowed else None  # type: ignore[union-attr]
    commands = tuple(_HANDLERS[type(event)](state, event))
    assert targets is None or state.jobs[event.job_id].state in targets, story(state.jobs[event.job_id])  # type: ignore[union-attr]
    state.seq += 1
    return commands


def follow(
    state: State, event: Event, left_out: Callable[[Event, InvalidTransition | None], None] | None = None
) -> Iterator[tuple[Event, tuple[Command, ...]]]:
    """Apply an event, then in turn what follows from it. Yields each, once applied, with what it asks of the world.

    Events that are no longer current are left out. left_out: told of these (with None), and of those that are not
    allowed, which are left out, too; without it they raise InvalidTransition.
    """
    waiting = deque([event])
    while waiting:
        event = waiting.popleft()
        if is_stale(state, event):
            if left_out is not None:
                left_out(event, None)
            continue
        try:
            commands = apply(state, event)
        except InvalidTransition as error:
            if left_out is None:
                raise
            left_out(event, error)
            continue
        waiting.extend(command.event for command in commands if isinstance(command, Follow))
        yield event, tuple(command for command in commands if not isinstance(command, Follow))


def due(state: State) -> list[Event]:
    """Follow-up events that the journal lacks because it was cut between an event and what follows from it."""
    found: list[Event] = []
    for job_id, record in state.jobs.items():
        if record.state is W and (broken := state.broken_dependency(record)) is not None:
            found.append(e.DependencyFailed(time=changed_at(record), job_id=job_id, dependency=broken))
        elif record.state is W and state.is_ready(record.job):
            found.append(e.DependenciesMet(time=changed_at(record), job_id=job_id))
        elif record.state is X and _may_hope_again(state, record):
            found.append(e.Resubmitted(time=changed_at(record), job_id=job_id))
    for device in all_devices(state):
        if device.drained:
            found.extend(move_away(state, device.device.id, device.drain_reason))
    return found


# handlers: submission and dependencies


def _submitted(state: State, event: e.Submitted) -> Iterable[Command]:
    job = event.job
    unmet = any(not state.is_completed(dependency) for dependency in job.depends_on)
    record = JobRecord(
        job=job,
        state=H if job.held else W if unmet else P,
        reason="submitted with --hold" if job.held else "",
        priority=job.priority,
        earlier_attempts=event.earlier_attempts,
        changed_at=event.time,
    )
    state.add(record)
    yield from _cancel_if_broken(state, record, event.time)
    if record.state is W and state.is_ready(job):
        yield Follow(event=e.DependenciesMet(time=event.time, job_id=job.id))


def _cancel_if_broken(state: State, record: JobRecord, now: datetime) -> Iterable[Command]:
    if record.state is W and (broken := state.broken_dependency(record)) is not None:
        yield Follow(event=e.DependencyFailed(time=now, job_id=record.job.id, dependency=broken))


def _dependencies_met(state: State, event: e.DependenciesMet) -> Iterable[Command]:
    _move(state, state.jobs[event.job_id], P, event.time)
    return ()


def _dependency_failed(state: State, event: e.DependencyFailed) -> Iterable[Command]:
    other = state.jobs.get(event.dependency)
    fate = "does not exist" if other is None else f"was {other.state}" if other.state is X else "failed"
    record = state.jobs[event.job_id]
    reason = f"{event.dependency}, on which it depends, {fate}"
    return _finish(state, replace(record, cancelled_by=event.dependency), X, event.time, reason)


def _resubmitted(state: State, event: e.Resubmitted) -> Iterable[Command]:
    record = replace(_new_series(state.jobs[event.job_id]), from_scratch=event.from_scratch)
    record = _move(state, record, P if state.is_ready(record.job) else W, event.time)
    yield from _cancel_if_broken(state, record, event.time)
    for dependent in state.dependents.get(event.job_id, ()):
        if state.jobs[dependent].state is X and _may_hope_again(state, state.jobs[dependent]):
            yield Follow(event=e.Resubmitted(time=event.time, job_id=dependent))


def _extended(state: State, event: e.Extended) -> Iterable[Command]:
    record = replace(_new_series(state.jobs[event.job_id]), job=event.job)
    record = _move(state, record, P if state.is_ready(record.job) else W, event.time)
    return _cancel_if_broken(state, record, event.time)


def _new_series(record: JobRecord) -> JobRecord:
    """Another series of attempts, with a fresh budget; back in the views."""
    return replace(
        record,
        series=record.series + 1,
        budget=Budget(),
        avoid_devices=(),
        exclusive=False,
        from_scratch=False,
        cancelled_by="",
        finished_at=None,
        not_before=None,
        marks=replace(record.marks, archived=False, removed_at=None) if record.marks.put_away else record.marks,
    )


def _may_hope_again(state: State, record: JobRecord) -> bool:
    """True for a job that was CANCELLED because of its dependencies and need not be any more."""
    if record.marks.removed_at is not None or record.marks.leaving is not None:
        return False
    if record.job.minimum is None or not record.cancelled_by:
        return bool(record.cancelled_by) and not state.is_broken(record.cancelled_by)
    return state.broken_dependency(record) is None


# handlers: what people ask for


def _held(state: State, event: e.Held) -> Iterable[Command]:
    _move(state, replace(state.jobs[event.job_id], not_before=None), H, event.time, event.reason)
    return ()


def _released(state: State, event: e.Released) -> Iterable[Command]:
    record = state.jobs[event.job_id]
    if record.state is T:  # it was being paused: it will go on instead
        goal = StopGoal.PREEMPT if record.goal is StopGoal.PAUSE else record.goal
        state.put(replace(record, goal=goal))
        return
    record = _move(state, record, P if state.is_ready(record.job) else W, event.time)
    yield from _cancel_if_broken(state, record, event.time)


def _cancel_requested(state: State, event: e.CancelRequested) -> Iterable[Command]:
    record = state.jobs[event.job_id]
    if record.state.holds_device:
        return _stop(state, record, StopGoal.CANCEL, event.time, "being cancelled")
    return _finish(state, replace(record, not_before=None), X, event.time, "cancelled")


def _pause_requested(state: State, event: e.PauseRequested) -> Iterable[Command]:
    return _stop(state, state.jobs[event.job_id], StopGoal.PAUSE, event.time, "being paused")


def _preempt_requested(state: State, event: e.PreemptRequested) -> Iterable[Command]:
    reason = event.reason or "makes room"
    return _stop(state, state.jobs[event.job_id], StopGoal.PREEMPT, event.time, reason)


def _stop(state: State, record: JobRecord, goal: StopGoal, now: datetime, reason: str) -> Iterable[Command]:
    if record.goal is not None and _STRENGTH[goal] <= _STRENGTH[record.goal]:
        return ()
    _move(state, replace(record, goal=goal), T, now, reason)
    return (Stop(job_id=record.job.id, attempt=record.attempt, goal=goal),)


def _priority_changed(state: State, event: e.PriorityChanged) -> Iterable[Command]:
    state.put(replace(state.jobs[event.job_id], priority=event.priority))
    return ()


# handlers: attempts


def _placed(state: State, event: e.Placed) -> Iterable[Command]:
    record, grant = state.jobs[event.job_id], event.allocation
    attempt = Attempt(
        number=event.attempt, series=record.series, device=grant.device, node=grant.node, placed_at=event.time
    )
    record = replace(
        record,
        attempts=(*record.attempts[-KEPT_ATTEMPTS + 1 :], attempt),
        allocation=grant,
        not_before=None,
        first_attempt=event.attempt if record.from_scratch else record.first_attempt,
        from_scratch=False,
    )
    _move(state, record, S, event.time)
    return (Launch(job_id=event.job_id, attempt=event.attempt),)


def _attempt_started(state: State, event: e.AttemptStarted) -> Iterable[Command]:
    record = _with_attempt(state.jobs[event.job_id], pid=event.pid, started_at=event.time)
    if record.state is S:
        _move(state, record, R, event.time)
    else:
        state.put(record)
    return ()


def _launch_failed(state: State, event: e.LaunchFailed) -> Iterable[Command]:
    reason = EndReason.DEVICE_BLOCKED if event.blocked else EndReason.LAUNCH_ERROR
    end = AttemptEnd(reason=reason, message=event.message)
    return _end(state, state.jobs[event.job_id], end, event.time)


def _attempt_ended(state: State, event: e.AttemptEnded) -> Iterable[Command]:
    record = state.jobs[event.job_id]
    device = record.attempts[-1].device
    yield from _end(state, record, event.end, event.time)
    if event.end.reason in SUSPICIOUS or event.end.device_fault:
        yield from suspect(state, record, device, event)


def _end(state: State, record: JobRecord, end: AttemptEnd, now: datetime) -> Iterable[Command]:
    """The device is free, and the job goes where its goal or its failure sends it."""
    goal, ended, alone = record.goal, replace(record, allocation=None, goal=None), _was_alone(state, record)
    if end.reason not in SUCCESSES and goal is StopGoal.CANCEL:
        return _finish(state, _with_attempt(ended, ended_at=now, end=end, decision="cancelled"), X, now, "cancelled")
    if end.reason not in SUCCESSES and goal is StopGoal.PAUSE:
        paused = _with_attempt(ended, ended_at=now, end=end, decision="paused")
        _move(state, paused, H, now, "paused")
        return ()
    decision = decide(record, end, now)
    ended = replace(
        _with_attempt(ended, ended_at=now, end=end, decision=decision.words),
        budget=decision.budget,
        not_before=decision.not_before,
        avoid_devices=decision.avoid_devices,
        exclusive=decision.exclusive,
    )
    if end.reason is EndReason.SUCCESS:
        state.learn(ended, alone=alone)
    if decision.state.is_final:
        return _finish(state, ended, decision.state, now, "" if decision.state is C else decision.words)
    _move(state, ended, decision.state, now, decision.words)
    return ()


def _was_alone(state: State, record: JobRecord) -> bool:
    """True where the job had asked for a whole device, so that what was measured there is its own."""
    assert record.allocation is not None
    device = state.devices[record.allocation.device].device
    return record.allocation.share >= device.capacity or state.exclusively_used(device.id)


def _with_attempt(record: JobRecord, **changes: Any) -> JobRecord:
    return replace(record, attempts=(*record.attempts[:-1], replace(record.attempts[-1], **changes)))


def _move(state: State, record: JobRecord, to: JobState, now: datetime, reason: str = "") -> JobRecord:
    record = replace(record, state=to, reason=reason, changed_at=now)
    state.put(record)
    return record


def _finish(state: State, record: JobRecord, to: JobState, now: datetime, reason: str) -> list[Command]:
    """Move the job to a final state; what depends on it is met or cancelled."""
    job_id = record.job.id
    _move(state, replace(record, finished_at=now), to, now, reason)
    commands: list[Command] = [JobFinished(job_id=job_id)]
    for dependent in state.dependents.get(job_id, ()):
        record = state.jobs[dependent]
        if record.state is not W:
            continue
        broken = None
        if to is not C:
            broken = job_id if record.job.minimum is None else state.broken_dependency(record)
        if broken is not None:
            commands.append(Follow(event=e.DependencyFailed(time=now, job_id=dependent, dependency=broken)))
        elif state.is_ready(record.job):
            commands.append(Follow(event=e.DependenciesMet(time=now, job_id=dependent)))
    return commands


# handlers: devices and nodes


def _node_lost(state: State, event: e.NodeLost) -> Iterable[Command]:
    commands: list[Command] = []
    end = AttemptEnd(reason=EndReason.NODE_LOST, message=f"node {event.node} was lost")
    for known in all_devices(state):
        if is_of_incarnation(known, event):
            state.put_device(with_changes(known, online=False, given_back=False))
            for job_id in list(state.on_device.get(known.device.id, ())):
                commands.extend(_end(state, state.jobs[job_id], end, event.time))
    return commands


def _controller_started(state: State, event: e.ControllerStarted) -> Iterable[Command]:
    """A device takes jobs again once its agent has answered the new controller."""
    state.epoch = event.epoch
    for known in all_devices(state):
        state.put_device(with_changes(known, online=False))
    state.ledger.forget(event.time.timestamp())
    return ()


def _policy_applied(state: State, event: e.PolicyApplied) -> Iterable[Command]:
    state.ledger.set_half_life(event.half_life_s, event.time.timestamp())
    state.set_longest_first(on=event.longest_first)
    return ()


def _submission_taken(state: State, event: e.SubmissionTaken) -> Iterable[Command]:
    state.submissions[event.sweep] = max(event.number, state.submissions.get(event.sweep, 0))
    return ()


def _request_handled(state: State, event: e.RequestHandled) -> Iterable[Command]:
    state.requests[event.request] = event.note
    while len(state.requests) > KEPT_REQUESTS:
        del state.requests[next(iter(state.requests))]
    return ()


_Handler = Callable[[State, Any], Iterable[Command]]

_HANDLERS: dict[type, _Handler] = {
    e.ControllerStarted: _controller_started,
    e.PolicyApplied: _policy_applied,
    e.Submitted: _submitted,
    e.SubmissionTaken: _submission_taken,
    e.RequestHandled: _request_handled,
    e.DependenciesMet: _dependencies_met,
    e.DependencyFailed: _dependency_failed,
    e.Held: _held,
    e.Released: _released,
    e.Placed: _placed,
    e.AttemptStarted: _attempt_started,
    e.LaunchFailed: _launch_failed,
    e.AttemptEnded: _attempt_ended,
    e.CancelRequested: _cancel_requested,
    e.PauseRequested: _pause_requested,
    e.PreemptRequested: _preempt_requested,
    e.Resubmitted: _resubmitted,
    e.Extended: _extended,
    e.PriorityChanged: _priority_changed,
    e.TermsChanged: terms_changed,
    e.Marked: marked,
    e.RemovalAsked: removal_asked,
    e.FilesRemoved: files_removed,
    e.DeviceSeen: device_seen,
    e.DeviceBlocked: device_blocked,
    e.DeviceGone: device_gone,
    e.NodeLost: _node_lost,
    e.DeviceDrained: device_drained,
    e.DeviceUndrained: device_undrained,
}
