"""Asking that trainings go on for longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from terry.cluster.client.reader import Reader
from terry.cluster.core.model import JobRecord
from terry.cluster.core.transitions import needed_by
from terry.cluster.errors import UserError
from terry.cluster.host.clock import now

if TYPE_CHECKING:
    from terry.jobs.submitting.extension import Extended


@dataclass(slots=True, kw_only=True)
class Extension:
    """What would come of it. Nothing is on disk yet."""

    runs: list[Extended] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)  #: why not -> jobs that were meant, too

    @property
    def ids(self) -> list[str]:
        """The jobs that would go on."""
        return [each.line.job.id for each in self.runs]

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Why the bits would not be those of a run that was as long from the beginning -> of which jobs."""
        found: dict[str, list[str]] = {}
        for each in self.runs:
            if each.warning:
                found.setdefault(each.warning, []).append(each.line.job.id)
        return found


def plan(reader: Reader, records: Sequence[JobRecord], settings: Sequence[str]) -> Extension:
    """Which of these runs can go on. Raises UserError for a setting that is no length, or where none can."""
    from terry.jobs.submitting import extension

    lengths, found = extension.lengths(settings), Extension()
    for record in records:
        if record.job.kind == "prepare":
            continue  # a sweep was meant, and this is none of its runs
        try:
            if why := _why_not(reader, record):
                raise UserError(why)
            found.runs.append(extension.extend(reader.workspace, record, lengths, now()))
        except UserError as error:
            found.left.setdefault(str(error).removeprefix(f"{record.job.id} "), []).append(record.job.id)
    return found


def _why_not(reader: Reader, record: JobRecord) -> str:
    if not record.state.is_final:
        return f"not ended: it is {record.state}"
    if record.marks.removed_at is not None:
        return "removed: its checkpoints are gone"
    if record.job.id not in reader.state.jobs:
        return "not taken by a controller yet"
    if record.state == "completed" and (other := needed_by(reader.state, record.job.id)):
        return f"needed as it is by {other}, which has not ended"
    return ""


def carry_out(reader: Reader, found: Extension) -> bool:
    """Put it on disk, and see to it that a controller runs: True where one is being started. Raises OSError."""
    from terry.cluster.client.submitting import owner
    from terry.cluster.lifecycle import up
    from terry.jobs.submitting import extension

    extension.publish(reader.workspace, found.runs, owner(), now())
    return up.ensure_up(reader.workspace, wait=False)
