"""What people ask for, as events: pure, but for reading what was submitted."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from terry.cluster.controller import keeping
from terry.cluster.core import events as e
from terry.cluster.core.events import Event
from terry.cluster.core.model import Job, JobRecord, JobState, SpecRef, StopGoal
from terry.cluster.core.state import State
from terry.cluster.errors import UserError
from terry.cluster.files import inbox, run_folder
from terry.cluster.files.inbox import Letter
from terry.cluster.files.links import owner_name, refuse_planted
from terry.cluster.files.paths import WorkspacePaths, check_name

#: Events one by one, each applied before the next is asked for; at the end what was done, in words.
Answer: TypeAlias = Generator[Event, None, str]

#: What a controller answers to a request to end that it obeys.
_ENDS = "ends"

_log = logging.getLogger(__name__)


def answer(state: State, workspace: WorkspacePaths, letter: Letter, now: datetime) -> Answer:
    """The events by which a letter is acted on. Raises OSError where a submission cannot be read now."""
    message = letter.message
    if isinstance(message, inbox.Submit):
        return _submit(state, workspace, message, now)
    if isinstance(message, inbox.Drain | inbox.Undrain):
        return _drain(state, workspace, letter, message, now)
    if isinstance(message, inbox.Shutdown):
        return _nothing(_on_shutdown(state, workspace, letter, message))
    rules, done = _RULES[type(message)]
    return _each(state, workspace, letter, lambda record: rules(record, message, now), done)


def is_shutdown(state: State, workspace: WorkspacePaths, letter: Letter) -> bool:
    """True for a request to this controller to end, by somebody who may ask for it."""
    message = letter.message
    return isinstance(message, inbox.Shutdown) and _on_shutdown(state, workspace, letter, message) == _ENDS


def _on_shutdown(state: State, workspace: WorkspacePaths, letter: Letter, message: inbox.Shutdown) -> str:
    if not _is_master(workspace, letter):
        return "refused: only the workspace's owner may ask"
    if message.epoch not in {None, state.epoch}:
        return f"came too late: it was meant for controller {message.epoch}"
    return _ENDS


# jobs


def _each(
    state: State,
    workspace: WorkspacePaths,
    letter: Letter,
    rule: Callable[[JobRecord], Sequence[Event]],
    done: str,
) -> Answer:
    job_ids: tuple[str, ...] = letter.message.job_ids  # type: ignore[union-attr]
    if isinstance(letter.message, inbox.Resubmit):
        job_ids = _with_dependencies(state, job_ids)
    _wait_for_removals(state, letter.message, job_ids)
    acted, refused = 0, 0
    for job_id in job_ids:
        record = state.jobs.get(job_id)
        if record is None or not _may(workspace, letter, record.job.owner):
            refused += 1
        elif events := [event for event in rule(record) if keeping.is_allowed(state, event)]:
            yield from events
            acted += 1
    rest = len(job_ids) - acted - refused
    parts = [f"{done} {acted} jobs", f"{rest} left as they were" * bool(rest), f"{refused} refused" * bool(refused)]
    return ", ".join(part for part in parts if part)


def _cancel(record: JobRecord, _message: inbox.Cancel, now: datetime) -> Event | None:
    if record.state.is_final or record.goal is StopGoal.CANCEL:
        return None
    return e.CancelRequested(time=now, job_id=record.job.id)


def _pause(record: JobRecord, _message: inbox.Pause, now: datetime) -> Event | None:
    if record.state in {JobState.PENDING, JobState.WAITING}:
        return e.Held(time=now, job_id=record.job.id, reason="paused")
    if record.state in {JobState.STARTING, JobState.RUNNING} or record.goal is StopGoal.PREEMPT:
        return e.PauseRequested(time=now, job_id=record.job.id)
    return None


def _resume(record: JobRecord, _message: inbox.Resume, now: datetime) -> Event | None:
    if record.state is JobState.HELD or record.goal is StopGoal.PAUSE:
        return e.Released(time=now, job_id=record.job.id)
    return None


def _resubmit(record: JobRecord, message: inbox.Resubmit, now: datetime) -> Event | None:
    again = message.from_scratch and record.job.id in message.job_ids
    if record.state not in {JobState.FAILED, JobState.CANCELLED} and not (record.state.is_final and again):
        return None
    asked = record.job.id in message.job_ids  # else it is only needed by one that was asked for
    return e.Resubmitted(time=now, job_id=record.job.id, from_scratch=asked and message.from_scratch)


def _one(rule: Callable[[JobRecord, Any, datetime], Event | None]) -> keeping.Rule:
    """A rule of one event at most."""

    def rules(record: JobRecord, message: Any, now: datetime) -> Sequence[Event]:
        event = rule(record, message, now)
        return () if event is None else (event,)

    return rules


_RULES: dict[type, tuple[keeping.Rule, str]] = {
    inbox.Cancel: (_one(_cancel), "cancelled"),
    inbox.Pause: (_one(_pause), "paused"),
    inbox.Resume: (_one(_resume), "resumed"),
    inbox.Resubmit: (_one(_resubmit), "resubmitted"),
    inbox.SetPriority: (keeping.set_priority, "changed the priority of"),
    inbox.Change: (keeping.change, "changed"),
    inbox.Mark: (keeping.mark, "marked"),
    inbox.Remove: (keeping.remove, "removed the files of"),
    inbox.Prune: (keeping.prune, "removed checkpoints of"),
}


def _wait_for_removals(state: State, message: inbox.Message, job_ids: Iterable[str]) -> None:
    """Raise OSError where files of a job are still going, and what is asked must find them gone."""
    asked = isinstance(message, inbox.Resubmit | inbox.Remove | inbox.Prune)
    if asked and any(job_id in state.removing for job_id in job_ids):
        raise BlockingIOError("files of a job that it speaks of are being removed")


def _with_dependencies(state: State, job_ids: Iterable[str]) -> tuple[str, ...]:
    """The jobs, each after the FAILED or CANCELLED ones that it needs: without them it could never run."""
    ordered: dict[str, None] = {}
    stack = [(job_id, False) for job_id in reversed(list(job_ids))]
    seen: set[str] = set()
    while stack:
        job_id, needs_done = stack.pop()
        if needs_done:
            ordered[job_id] = None
        elif job_id not in seen:
            seen.add(job_id)
            stack.append((job_id, True))
            record = state.jobs.get(job_id)
            needed = record.job.depends_on if record is not None else ()
            stack += [(d, False) for d in reversed(needed) if _is_lost(state.jobs.get(d))]
    return tuple(ordered)


def _is_lost(record: JobRecord | None) -> bool:
    return record is not None and record.state in {JobState.FAILED, JobState.CANCELLED}


# devices


def _drain(
    state: State, workspace: WorkspacePaths, letter: Letter, message: inbox.Drain | inbox.Undrain, now: datetime
) -> Answer:
    if not _is_master(workspace, letter):
        return "refused: only the workspace's owner may ask"
    known = state.devices.get(message.device)
    if known is None:
        return f"there is no device {message.device}"
    if isinstance(message, inbox.Drain) and not known.drained:
        yield e.DeviceDrained(time=now, device_id=message.device, reason=message.reason)
    elif isinstance(message, inbox.Undrain) and known.drained:
        yield e.DeviceUndrained(time=now, device_id=message.device)
    return f"{message.device} is drained" if isinstance(message, inbox.Drain) else f"{message.device} takes jobs"


def _nothing(words: str) -> Answer:
    yield from ()
    return words


# submissions


class _Line(msgspec.Struct):
    job: dict[str, Any]


def _submit(state: State, workspace: WorkspacePaths, message: inbox.Submit, now: datetime) -> Answer:
    try:
        check_name(message.sweep, "the sweep name")
    except UserError as error:
        return f"refused: {error}"
    added, extending, there, notes = 0, 0, _names(workspace.runs), []
    _names(workspace.sweep(message.sweep))  # raises where it may not be read: to the glob it would be empty
    for number, folder in workspace.submissions(message.sweep):
        if number <= state.submissions.get(message.sweep, 0):
            continue
        try:
            jobs = read_jobs(workspace, folder)
        except UserError as error:
            _log.error("submission %d of %s is left out: %s", number, message.sweep, error)
            jobs = []
        for job in jobs:
            known = state.jobs.get(job.id)
            if known is not None and (extended := keeping.extension(state, workspace, job, now)) is not None:
                extending += 1
                yield extended
                continue
            if known is not None and known.job.identity != job.identity and known.job.identity not in job.former:
                _log.error("%s is left out: the queue has another job of this id", job.id)
                notes.append(f"; {job.id} is left out, for the queue has another job of this id")
            if known is not None:
                continue  # taken before a crash that came before the end of the submission
            added += 1
            if job.id in there and (aside := run_folder.claim(workspace.run(job.id), job.identity)):
                notes.append(f"; the folder of another run called {job.id} was set aside as {Path(aside).name}")
            earlier = _newest_attempt(workspace, job.id) if job.id in there else 0
            yield e.Submitted(time=now, job=job, earlier_attempts=earlier)
        yield e.SubmissionTaken(time=now, sweep=message.sweep, number=number, request=message.request)
    return f"added {added} jobs{f', {extending} go on' * bool(extending)}{''.join(notes)}"


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208  (names are all we need)
    except FileNotFoundError:
        return frozenset()


def _newest_attempt(workspace: WorkspacePaths, job_id: str) -> int:
    """Of a job that is new to the queue: one that was lost may have tried it, and its folders are not touched."""
    return max((number for number, _ in workspace.run(job_id).attempts()), default=0)


def read_jobs(workspace: WorkspacePaths, folder: Path) -> list[Job]:
    """Jobs of a submission, each after those of the same submission that it depends on.

    Raises UserError (file:line) for a line that is no job, OSError.
    """
    path = folder / "jobs.jsonl"
    refuse_planted(path, workspace.root)
    relative = str(path.relative_to(workspace.root))
    owner = owner_name(folder.stat().st_uid)
    jobs: dict[str, Job] = {}
    decoder = msgspec.json.Decoder(_Line)
    offset = 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        spec = SpecRef(path=relative, offset=offset, length=len(line.rstrip(b"\n")))
        offset += len(line)
        try:
            job = msgspec.convert({**decoder.decode(line).job, "spec": spec, "owner": owner}, Job)
            jobs[check_name(job.id, "the job id")] = job
        except (msgspec.DecodeError, UserError) as error:
            raise UserError(f"this is no job: {error}", file=path, line=number) from error
    return _dependencies_first(jobs)


def _dependencies_first(jobs: dict[str, Job]) -> list[Job]:
    """Stable: a job keeps its place unless one that it depends on stands behind it. Jobs in a circle keep theirs."""
    ordered: dict[str, Job] = {}
    for first in jobs:
        stack = [(first, False)]
        open_ones: set[str] = set()
        while stack:
            job_id, done = stack.pop()
            if done:
                ordered.setdefault(job_id, jobs[job_id])
            elif job_id in jobs and job_id not in ordered and job_id not in open_ones:
                open_ones.add(job_id)
                stack.append((job_id, True))
                stack += [(d, False) for d in reversed(jobs[job_id].depends_on)]
    return list(ordered.values())


# who may


def _may(workspace: WorkspacePaths, letter: Letter, owner: str) -> bool:
    return _is_master(workspace, letter) or owner_name(letter.uid) == owner


def _is_master(workspace: WorkspacePaths, letter: Letter) -> bool:
    """The workspace's owner, whoever runs the controller, and root may ask for anything."""
    return letter.uid in {0, os.getuid(), workspace.root.stat().st_uid}
