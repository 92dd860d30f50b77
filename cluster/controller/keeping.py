"""What people ask of jobs that are there, beside starting and stopping them, as events: terms, marks, removal. Pure."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from terry.cluster.core import events as e
from terry.cluster.core.events import Event
from terry.cluster.core.model import Job, JobRecord, Resources, RetryPolicy
from terry.cluster.core.state import State
from terry.cluster.core.transitions import check
from terry.cluster.errors import InvalidTransition
from terry.cluster.files import inbox
from terry.cluster.files.paths import NAME, WorkspacePaths, checkpoint_key

#: A job's record, what is asked of it, when -> the events by which it is done; none where it does not fit.
Rule: TypeAlias = Callable[[JobRecord, Any, datetime], Sequence[Event]]

#: A note is a line, not a text; more tags than this are no order.
LONGEST_NOTE, MOST_TAGS = 500, 50


def is_allowed(state: State, event: Event) -> bool:
    """Whether the state machine takes the event now: what a person asks for may come too late."""
    try:
        check(state, event)
    except InvalidTransition:
        return False
    return True


def set_priority(record: JobRecord, message: inbox.SetPriority | inbox.Change, now: datetime) -> Sequence[Event]:
    """Another priority, where it is another one."""
    if message.priority in {None, record.priority} or record.state.is_final:
        return ()
    assert message.priority is not None
    return (e.PriorityChanged(time=now, job_id=record.job.id, priority=message.priority),)


def change(record: JobRecord, message: inbox.Change, now: datetime) -> Sequence[Event]:
    """Other terms, where they are others. All or nothing: terms that cannot be leave the priority as it is, too."""
    try:
        event = changed_terms(record, message, now)
    except ValueError:  # the command line has said so; this is for letters that it did not write
        return ()
    job = record.job
    same = all(getattr(event, name) == getattr(job, name) for name in _TERMS)
    return (*set_priority(record, message, now), *(() if same else (event,)))


_TERMS = ("resources", "retry", "time_limit_s", "hang_after_s", "threads")


def changed_terms(record: JobRecord, message: inbox.Change, now: datetime) -> e.TermsChanged:
    """The job's terms with what the message changes. Raises ValueError where they cannot be."""
    job, unset = record.job, msgspec.UNSET
    return e.TermsChanged(
        time=now,
        job_id=job.id,
        resources=_resources(job.resources, message.resources),
        retry=msgspec.convert({**msgspec.to_builtins(job.retry), **message.retry}, RetryPolicy, strict=False),
        time_limit_s=job.time_limit_s if message.time_limit_s is unset else message.time_limit_s,
        hang_after_s=job.hang_after_s if message.hang_after_s is unset else message.hang_after_s,
        threads=job.threads if message.threads is unset else message.threads,
    )


def _resources(before: Resources, changes: dict[str, Any]) -> Resources:
    """GPUs in place of cores, and the other way round: a job has one device."""
    values = {**msgspec.to_builtins(before), **changes, "at_home": before.at_home}
    for given, other in (("gpus", "cpus"), ("cpus", "gpus")):
        if changes.get(given) and other not in changes:
            values[other] = 0.0
    if values["cpus"] and values["mps"] and "mps" not in changes:
        values["mps"] = False
    found = msgspec.convert(values, Resources)
    if (found.gpus > 0) is (found.cpus > 0) or not 0 <= found.gpus <= 1 or not 0 <= found.cpus <= 1024:
        raise ValueError("a job has one device: gpus (1, or a share of one) or cpus")
    return found


def mark(record: JobRecord, message: inbox.Mark, now: datetime) -> Sequence[Event]:
    """Note, tags, star, archive."""
    had = record.marks
    note = had.note if message.note is None else message.note
    tags = tuple(sorted({*had.tags, *message.add_tags} - {*message.drop_tags}))
    starred = had.starred if message.starred is None else message.starred
    archived = had.archived if message.archived is None else message.archived
    if len(note) > LONGEST_NOTE or len(tags) > MOST_TAGS or not all(NAME.fullmatch(tag) for tag in message.add_tags):
        return ()  # the command line has said so; this is for letters that it did not write
    event = e.Marked(time=now, job_id=record.job.id, note=note, tags=tags, starred=starred, archived=archived)
    same = (note, tags, starred, archived) == (had.note, had.tags, had.starred, had.archived)
    return () if same else (event,)


def extension(state: State, workspace: WorkspacePaths, job: Job, now: datetime) -> e.Extended | None:
    """The event by which a job that has ended goes on as `job`; None where that is not what is asked for.

    Raises OSError where files of it are still being removed.
    """
    known = state.jobs[job.id]
    if not job.former or job.identity == known.job.identity or known.job.identity in job.former[:-1]:
        return None
    if job.id in state.removing:
        raise BlockingIOError(f"files of {job.id} are being removed")
    mine = known.job.owner
    if job.owner not in {mine, _name(workspace.root.stat().st_uid), _name(os.getuid()), _name(0)}:
        return None
    event = e.Extended(time=now, job_id=job.id, job=replace(job, owner=mine, priority=known.job.priority, held=False))
    return event if is_allowed(state, event) else None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def remove(record: JobRecord, _message: inbox.Remove, now: datetime) -> Sequence[Event]:
    """All files of a job that has ended."""
    return (e.RemovalAsked(time=now, job_id=record.job.id),)


def prune(record: JobRecord, message: inbox.Prune, now: datetime) -> Sequence[Event]:
    """Named checkpoints of a job that has ended."""
    names = tuple(message.checkpoints.get(record.job.id, ()))
    if not names or not all(checkpoint_key(name) for name in names):
        return ()
    return (e.RemovalAsked(time=now, job_id=record.job.id, checkpoints=names),)
