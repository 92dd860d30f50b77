"""What events do by which people keep jobs: other terms, notes and tags, put away, removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace as with_fields

from msgspec.structs import replace

from terry.cluster.core import events as e
from terry.cluster.core.events import Command, RemoveFiles
from terry.cluster.core.state import State


def terms_changed(state: State, event: e.TermsChanged) -> Iterable[Command]:
    """Resources, limits and retries are these from now on."""
    record = state.jobs[event.job_id]
    job = with_fields(
        record.job,
        resources=event.resources,
        retry=event.retry,
        time_limit_s=event.time_limit_s,
        hang_after_s=event.hang_after_s,
        threads=event.threads,
    )
    state.put(replace(record, job=job))
    return ()


def marked(state: State, event: e.Marked) -> Iterable[Command]:
    """Note, tags, star, archive."""
    record = state.jobs[event.job_id]
    said = {"note": event.note, "tags": event.tags, "starred": event.starred, "archived": event.archived}
    state.put(replace(record, marks=replace(record.marks, **said)))
    return ()


def removal_asked(state: State, event: e.RemovalAsked) -> Iterable[Command]:
    """Named checkpoints, or all files, are to go."""
    record = state.jobs[event.job_id]
    gone = record.marks.removed_at if event.checkpoints else event.time
    state.put(replace(record, marks=replace(record.marks, leaving=event.checkpoints, removed_at=gone)))
    return (RemoveFiles(job_id=event.job_id),)


def files_removed(state: State, event: e.FilesRemoved) -> Iterable[Command]:
    """They are gone."""
    record = state.jobs[event.job_id]
    state.put(replace(record, marks=replace(record.marks, leaving=None)))
    return ()
