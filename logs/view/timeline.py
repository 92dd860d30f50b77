"""The last things that happened, in words, from the jobs' records. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from datetime import datetime

from terry.cluster.core.model import Attempt, EndReason, JobRecord, JobState
from terry.logs.format import count
from terry.logs.view.view import Severity, TimelineEntry

#: What people call the ends of attempts.
_ENDS = {
    EndReason.SUCCESS: "done",
    EndReason.CRASHED: "crashed",
    EndReason.EXCEPTION: "raised an exception",
    EndReason.DEVICE_OUT_OF_MEMORY: "ran out of device memory",
    EndReason.HOST_OUT_OF_MEMORY: "ran out of memory and was killed by the kernel",
    EndReason.KILLED: "was killed",
    EndReason.NOT_FINITE: "got a loss or gradient that is not finite",
    EndReason.HUNG: "hung",
    EndReason.TIME_LIMIT: "reached its time limit",
    EndReason.NODE_LOST: "lost its node",
    EndReason.AGENT_LOST: "lost its device's agent",
    EndReason.PREEMPTED: "made room",
    EndReason.PAUSED: "was paused",
    EndReason.CANCELLED: "was cancelled",
    EndReason.DISK_FULL: "found the disk full",
    EndReason.DISK_LOST: "lost its file system",
    EndReason.LAUNCH_ERROR: "could not be started",
    EndReason.DEVICE_BLOCKED: "found its device in use by others",
    EndReason.BAD_INPUT: "was given input that cannot work",
    EndReason.STOPPED_EARLY: "was stopped early by its sweep's rule",
}

_SEVERITIES = {
    EndReason.SUCCESS: Severity.GOOD,
    EndReason.PREEMPTED: Severity.PLAIN,
    EndReason.PAUSED: Severity.PLAIN,
    EndReason.CANCELLED: Severity.PLAIN,
    EndReason.STOPPED_EARLY: Severity.PLAIN,
    EndReason.DEVICE_BLOCKED: Severity.PLAIN,
    EndReason.NODE_LOST: Severity.WARNING,
    EndReason.AGENT_LOST: Severity.WARNING,
}


def end_in_words(reason: EndReason) -> str:
    """What a person would say: `crashed`, `ran out of device memory`."""
    return _ENDS[reason]


def latest(records: Iterable[JobRecord], number: int) -> tuple[TimelineEntry, ...]:
    """The last `number` timeline of all jobs, oldest first."""
    recent = heapq.nlargest(number, (r for r in records if r.changed_at), key=_changed)
    return tuple(sorted(h for record in recent for h in of_job(record))[-number:])


def _changed(record: JobRecord) -> datetime:
    assert record.changed_at is not None, "filtered by the caller"
    return record.changed_at


def of_job(record: JobRecord) -> Iterator[TimelineEntry]:
    """All that happened to one job."""
    for attempt in record.attempts:
        if attempt.started_at:
            again = "" if attempt.number == 1 else f" (attempt {attempt.number})"
            yield _entry(record, attempt.started_at, f"started on {attempt.device}{again}")
        if attempt.end and attempt.ended_at:
            yield _entry(record, attempt.ended_at, _ended(record, attempt), _severity(record, attempt))
    last_end = record.attempts[-1].ended_at if record.attempts else None
    if record.state in {JobState.CANCELLED, JobState.FAILED, JobState.HELD} and record.changed_at != last_end:
        severity = Severity.BAD if record.state is JobState.FAILED else Severity.PLAIN
        if record.changed_at:
            why = f": {record.reason}" if record.reason else ""
            yield _entry(record, record.changed_at, f"{record.state}{why}", severity)


def _entry(record: JobRecord, time: datetime, text: str, severity: Severity = Severity.PLAIN) -> TimelineEntry:
    return TimelineEntry(time=time, job_id=record.job.id, text=text, severity=severity)


def _ended(record: JobRecord, attempt: Attempt) -> str:
    assert attempt.end is not None, "the caller asks only of attempts that ended"
    end = attempt.end
    if end.reason is EndReason.SUCCESS:
        steps = f" after {count(end.step)} steps" if end.step and record.job.kind == "train" else ""
        return f"done{steps} on {attempt.device}"
    has_message = end.message and end.message not in attempt.decision
    what = end_in_words(end.reason) + (f" ({end.message})" if has_message else "")
    where = (f" at step {count(end.step)}" if end.step is not None else "") + f" on {attempt.device}"
    return what + where + (f"; {attempt.decision}" if attempt.decision else "")


def _severity(record: JobRecord, attempt: Attempt) -> Severity:
    assert attempt.end is not None, "the caller asks only of attempts that ended"
    if record.state is JobState.FAILED and attempt is record.attempts[-1]:
        return Severity.BAD
    return _SEVERITIES.get(attempt.end.reason, Severity.WARNING)
