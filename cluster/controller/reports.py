"""What the world reports, as events; and what must be done because a report is not what the queue believes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from terry.cluster import ports
from terry.cluster.agent.evidence import newest_checkpoint_step
from terry.cluster.core import events as e
from terry.cluster.core.events import Command, Event, Launch, Stop
from terry.cluster.core.model import AttemptEnd, EndReason, JobRecord, JobState, StopGoal
from terry.cluster.core.state import State
from terry.cluster.files.durable import read_bytes
from terry.cluster.files.paths import WorkspacePaths

_log = logging.getLogger(__name__)


def events_of(
    state: State, workspace: WorkspacePaths, report: ports.Report, now: datetime
) -> Iterator[Event | Command]:
    """Events that a report means, each applied before the next is asked for, and commands that it calls for."""
    if isinstance(report, ports.Started):
        if not _is_current(state, report.job_id, report.attempt):
            yield Stop(job_id=report.job_id, attempt=report.attempt, goal=StopGoal.CANCEL)
        yield e.AttemptStarted(time=now, job_id=report.job_id, attempt=report.attempt, pid=report.pid)
    elif isinstance(report, ports.Refused):
        yield e.LaunchFailed(
            time=now, job_id=report.job_id, attempt=report.attempt, message=report.message, blocked=report.blocked
        )
    elif isinstance(report, ports.Ended):
        yield e.AttemptEnded(time=now, job_id=report.job_id, attempt=report.attempt, end=report.end)
    elif isinstance(report, ports.Appeared):
        yield from _appeared(state, workspace, report, now)
    elif isinstance(report, ports.Blocked):
        yield e.DeviceBlocked(time=now, device_id=report.device_id, reason=report.reason)
    elif isinstance(report, ports.Vanished):
        yield e.DeviceGone(time=now, device_id=report.device_id, reason=report.reason, given_back=report.given_back)
    else:
        yield from _node_died(state, workspace, report, now)


def _appeared(
    state: State, workspace: WorkspacePaths, report: ports.Appeared, now: datetime
) -> Iterator[Event | Command]:
    """Put right what the queue believes of a device by what its agent knows."""
    yield e.DeviceSeen(time=now, device=report.device, blocked=report.blocked)
    running = set(report.running)
    for record in _held(state, report.device.id):
        if (record.job.id, record.attempt) not in running:
            yield _missing(workspace, record, now)
        elif record.goal is not None:  # the request to stop may have been lost
            yield Stop(job_id=record.job.id, attempt=record.attempt, goal=record.goal)
    for job_id, attempt in report.running:
        if not _is_current(state, job_id, attempt):
            _log.warning("attempt %d of %s runs on %s and is not wanted there", attempt, job_id, report.device.id)
            yield Stop(job_id=job_id, attempt=attempt, goal=StopGoal.CANCEL)


def _missing(workspace: WorkspacePaths, record: JobRecord, now: datetime) -> Event | Command:
    """An attempt that its device's agent does not know: it ended unreported, never began, or died with its agent."""
    job_id, attempt = record.job.id, record.attempt
    folder = workspace.run(job_id).attempt(attempt)
    end = read_end(folder.exit)
    if end is None and record.state is JobState.STARTING and not folder.launch.exists():
        return Launch(job_id=job_id, attempt=attempt)
    if end is None:
        end = _lost(workspace, record, EndReason.AGENT_LOST, "the device's agent died, and the process with it")
    return e.AttemptEnded(time=now, job_id=job_id, attempt=attempt, end=end)


def _lost(workspace: WorkspacePaths, record: JobRecord, reason: EndReason, message: str) -> AttemptEnd:
    """The end of an attempt that nobody has seen: its checkpoints say from where the next one goes on."""
    step = newest_checkpoint_step(workspace.run(record.job.id), record.first_attempt)
    return AttemptEnd(reason=reason, message=message, checkpoint_step=step)


def _node_died(
    state: State, workspace: WorkspacePaths, report: ports.NodeDied, now: datetime
) -> Iterator[Event | Command]:
    """What had ended before the node died is not lost with it, nor are the checkpoints of what ran."""
    for known in list(state.devices.values()):
        if (known.device.node, known.device.node_id) == (report.node, report.node_id):
            for record in _held(state, known.device.id):
                end = read_end(workspace.run(record.job.id).attempt(record.attempt).exit)
                if end is None:
                    end = _lost(workspace, record, EndReason.NODE_LOST, f"node {report.node} was lost")
                yield e.AttemptEnded(time=now, job_id=record.job.id, attempt=record.attempt, end=end)
    yield e.NodeLost(time=now, node=report.node, node_id=report.node_id)


def read_end(path: Path) -> AttemptEnd | None:
    """How an attempt ended, by its agent's exit.json; None where there is none that can be read."""
    try:
        return msgspec.json.decode(read_bytes(path), type=AttemptEnd)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("%s is unreadable and is taken as absent: %s", path, error)
        return None


def _held(state: State, device_id: str) -> list[JobRecord]:
    return [state.jobs[job_id] for job_id in state.on_device.get(device_id, ())]


def _is_current(state: State, job_id: str, attempt: int) -> bool:
    record = state.jobs.get(job_id)
    return record is not None and record.attempt == attempt and record.state.holds_device
