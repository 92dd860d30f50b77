"""What people ask of jobs and devices: requests into the workspace's inbox, for those that they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terry.cluster.client.reader import Reader
from terry.cluster.core.model import JobRecord, JobState
from terry.cluster.errors import UserError, nearest
from terry.cluster.files import inbox
from terry.cluster.files.paths import WorkspacePaths

_UNFINISHED = frozenset(state for state in JobState if not state.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """Something that can be asked of jobs."""

    message: type[inbox.Cancel | inbox.Pause | inbox.Resume | inbox.Resubmit]
    able: frozenset[JobState]  #: a job in one of these states can do it
    otherwise: str  #: what a job in another state is


#: Verb -> what it asks.
JOB_REQUESTS: Mapping[str, JobRequest] = {
    "cancel": JobRequest(message=inbox.Cancel, able=_UNFINISHED, otherwise="ended already"),
    "pause": JobRequest(message=inbox.Pause, able=_UNFINISHED - {JobState.HELD}, otherwise="held or ended already"),
    "resume": JobRequest(
        message=inbox.Resume, able=frozenset({JobState.HELD, JobState.STOPPING}), otherwise="not held"
    ),
    "resubmit": JobRequest(
        message=inbox.Resubmit,
        able=frozenset({JobState.FAILED, JobState.CANCELLED}),
        otherwise="neither failed nor cancelled",
    ),
    "resubmit-from-scratch": JobRequest(
        message=inbox.Resubmit, able=frozenset(s for s in JobState if s.is_final), otherwise="not ended"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of asking."""

    request: str | None  #: its id; None where no job could do it
    ids: tuple[str, ...]  #: jobs that it was asked of
    left_out: int  #: jobs that were meant, too, but cannot do it


def ask_jobs(reader: Reader, verb: str, records: Sequence[JobRecord], **options: Any) -> Asked:
    """Send the request `verb` for those of these jobs that it fits. Raises OSError."""
    request = JOB_REQUESTS[verb]
    ids = tuple(record.job.id for record in records if record.state in request.able)
    message = request.message(job_ids=ids, **options) if ids else None
    if message is not None:
        inbox.send(reader.workspace, message)
    return Asked(request=message.request if message else None, ids=ids, left_out=len(records) - len(ids))


def ask_job(workspace: WorkspacePaths, verb: str, job_id: str) -> str:
    """Send the request `verb` for one job, whatever its state; says what came of it."""
    try:
        inbox.send(workspace, JOB_REQUESTS[verb].message(job_ids=(job_id,)))
    except OSError as error:
        return f"could not be asked: {error}"
    return f"asked to {verb} {job_id}"


def ask_device(reader: Reader, message: inbox.Drain | inbox.Undrain) -> None:
    """Send a request for a device. Raises UserError where nobody has seen it, OSError."""
    reader.jobs()
    known = list(reader.state.devices)
    if message.device not in known:
        hint = nearest(message.device, known, "") or "."
        raise UserError(f"there is no device {message.device!r}{hint} Known: {', '.join(known) or 'none yet'}")
    inbox.send(reader.workspace, message)
