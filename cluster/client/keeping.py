"""What people ask of jobs that are there, beside starting and stopping them: other terms, notes and tags, put away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from terry.cluster.client.reader import Reader
from terry.cluster.controller.keeping import LONGEST_NOTE, changed_terms
from terry.cluster.core.model import JobRecord
from terry.cluster.errors import UserError
from terry.cluster.files import inbox
from terry.cluster.files.paths import NAME
from terry.cluster.host.clock import now

#: What `change` changes: settings that do not decide what comes out of a run.
CHANGEABLE = ("priority", "resources", "time_limit", "hang_after", "threads", "retry")


@dataclass(slots=True, kw_only=True)
class Kept:
    """What came of asking."""

    request: str | None = None  #: its id; None where no job could do it
    ids: list[str] = field(default_factory=list)  #: jobs that it was asked of
    left: dict[str, list[str]] = field(default_factory=dict)  #: why not -> jobs that were meant, too

    def leave(self, job_id: str, why: str) -> None:
        """A job that cannot do it."""
        self.left.setdefault(why, []).append(job_id)

    def send(self, reader: Reader, message: inbox.Message) -> Kept:
        """Ask it of `ids`, where there are any. Raises OSError."""
        if self.ids:
            inbox.send(reader.workspace, message)
            self.request = message.request
        return self


def change(reader: Reader, records: Sequence[JobRecord], settings: Sequence[str]) -> Kept:
    """Ask that jobs have other terms: `priority=9`, `resources.gpus=0.5`, `time_limit=2h`, `retry.crash=10`.

    Raises UserError for a setting that cannot be changed so, or a value that it cannot have; OSError.
    """
    terms, found = _terms(settings), Kept()
    beyond = [name for name in terms if name not in {"priority", "retry"}]
    for record in records:
        if record.state.is_final and (why := _why_final(record, terms)):
            found.leave(record.job.id, why)
        elif record.state.holds_device and beyond:
            why = f"on a device, where only priority and retry can change: `terry-cluster pause {record.job.id}` first"
            found.leave(record.job.id, why)
        else:
            _check_terms(record, terms, settings)
            found.ids.append(record.job.id)
    return found.send(reader, inbox.Change(job_ids=tuple(found.ids), **terms))


def _why_final(record: JobRecord, terms: dict[str, Any]) -> str:
    if record.state == "completed":
        return "completed already"
    return f"{record.state}: it has no turn to wait for" if set(terms) == {"priority"} else ""


def _terms(settings: Sequence[str]) -> dict[str, Any]:
    """Fields of inbox.Change."""
    from terry.cluster.config.words import seconds
    from terry.jobs.sweeps.overrides import Override

    terms: dict[str, Any] = {}
    for text in settings:
        override = Override.parse(text)
        key, value = override.path[0], override.value
        if not override.in_run or key not in CHANGEABLE:
            longer = "; `terry-cluster extend` changes how long a run trains" if key == "training" else ""
            raise UserError(
                f"{text}: {'.'.join(override.path)} decides what comes out of a run, so another value makes another run"
                f"{longer}. What can be changed: {', '.join(CHANGEABLE)}"
            )
        if key in {"resources", "retry"}:
            inner = {override.path[1]: value} if len(override.path) > 1 else value
            if not isinstance(inner, dict):
                raise UserError(
                    f"{text}: name what of it, such as {key}.{'gpus=0.5' if key == 'resources' else 'crash=10'}"
                )
            terms.setdefault(key, {}).update(inner)
        elif key in {"time_limit", "hang_after"}:
            terms[f"{key}_s"] = None if value is None else seconds(value)
        else:
            terms[key] = value
    return terms


def _check_terms(record: JobRecord, terms: dict[str, Any], settings: Sequence[str]) -> None:
    """Raise UserError where the job cannot have these terms."""
    from terry.jobs.sweeps.spec import ResourcesConfig

    job_id = record.job.id
    try:
        wanted = changed_terms(record, inbox.Change(job_ids=(job_id,), **terms), now())
        asked = wanted.resources
        # A value of 0 means "none of that kind" to the queue, and "left open" to a sweep file.
        ResourcesConfig(
            gpus=asked.gpus or None, cpus=asked.cpus or None, node=asked.node, device=asked.device, mps=asked.mps
        )
        if wanted.time_limit_s is not None and wanted.time_limit_s <= 0:
            raise ValueError("time_limit must be more than 0")
        if wanted.hang_after_s is not None and wanted.hang_after_s <= 0:
            raise ValueError("hang_after must be more than 0")
        if wanted.threads is not None and not 1 <= wanted.threads <= 1024:
            raise ValueError("threads must be at least 1")
        if any(isinstance(count, int | float) and count < 0 for count in terms.get("retry", {}).values()):
            raise ValueError("a number of tries cannot be less than 0")
    except ValueError as error:
        raise UserError(f"{' '.join(settings)}: {job_id} cannot have that: {error}") from None


def prioritise(reader: Reader, job_ids: Iterable[str], priority: int) -> Kept:
    """Ask that jobs that are there have another priority; those that have it already are no matter."""
    jobs = reader.jobs()
    found = Kept()
    for job_id in job_ids:
        record = jobs.get(job_id)
        if record is None or record.priority == priority:
            continue
        if record.state.is_final:
            found.leave(job_id, "ended already")
        else:
            found.ids.append(job_id)
    return found.send(reader, inbox.Change(job_ids=tuple(found.ids), priority=priority))


def mark(
    reader: Reader,
    records: Sequence[JobRecord],
    *,
    note: str | None = None,
    add_tags: Sequence[str] = (),
    drop_tags: Sequence[str] = (),
    starred: bool | None = None,
    archived: bool | None = None,
) -> Kept:
    """Say something of jobs, or put them away. What is left out stays as it is. Raises UserError, OSError."""
    if note is not None:
        note = " ".join(note.split())
        if len(note) > LONGEST_NOTE:
            raise UserError(f"a note is one line of at most {LONGEST_NOTE} characters; this has {len(note):,}")
    for tag in add_tags:
        if not NAME.fullmatch(tag):
            raise UserError(f"a tag is a word of letters, digits, '.', '_', '-'; {tag!r} is none")
    found = Kept()
    for record in records:
        if archived and not record.state.is_final:
            found.leave(record.job.id, "not ended: only what has ended is put away")
        elif archived is False and not record.marks.archived:
            found.leave(record.job.id, "not archived")
        else:
            found.ids.append(record.job.id)
    message = inbox.Mark(
        job_ids=tuple(found.ids),
        note=note,
        add_tags=tuple(add_tags),
        drop_tags=tuple(drop_tags),
        starred=starred,
        archived=archived,
    )
    return found.send(reader, message)
