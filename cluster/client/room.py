"""What jobs take up on the disk, what of it could go, and asking that it goes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from terry.cluster.client.keeping import Kept
from terry.cluster.client.reader import Reader
from terry.cluster.core.model import JobRecord
from terry.cluster.core.transitions import needed_by
from terry.cluster.files import inbox
from terry.cluster.files.paths import Run, checkpoint_key
from terry.cluster.host.clock import now


class Keep(StrEnum):
    """What `clean` leaves of a run."""

    best = "best"  #: the best checkpoint (without a validation: the newest), and all that is no checkpoint
    last = "last"  #: the newest checkpoint, and all that is no checkpoint
    results = "results"  #: no checkpoint; results, measurements and logs
    nothing = "nothing"  #: as `rm`


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What lies in a folder."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: Size) -> Size:
        """Both together."""
        return Size(bytes=self.bytes + other.bytes, files=self.files + other.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a job takes up."""

    id: str
    sweep: str
    state: str
    checkpoints: Size
    rest: Size  #: logs, measurements, results, code

    @property
    def total(self) -> Size:
        """All of it."""
        return self.checkpoints + self.rest


def size_of(folder: Path) -> Size:
    """All files below a folder; none where it is gone. Links are counted as such, not followed."""
    total = files = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))  # noqa: PTH118  (asked for a hundred thousand times)
            except FileNotFoundError:
                continue
            total, files = total + found.st_size, files + 1
    return Size(bytes=total, files=files)


def room_of(reader: Reader, records: Sequence[JobRecord]) -> list[Room]:
    """What these jobs take up, the largest first."""
    found = []
    for record in records:
        run = reader.workspace.run(record.job.id)
        whole, checkpoints = size_of(run.root), size_of(run.checkpoints)
        rest = Size(bytes=whole.bytes - checkpoints.bytes, files=whole.files - checkpoints.files)
        room = Room(id=record.job.id, sweep=record.job.sweep, state=record.state, checkpoints=checkpoints, rest=rest)
        found.append(room)
    return sorted(found, key=lambda room: -room.total.bytes)


@dataclass(slots=True, kw_only=True)
class Removal:
    """What would go."""

    whole: list[str]  #: jobs that go with all their files
    checkpoints: dict[str, tuple[str, ...]]  #: job id -> names of checkpoints that go
    size: Size
    left: dict[str, list[str]]  #: why not -> jobs that were meant, too

    @property
    def ids(self) -> list[str]:
        """All jobs of which something goes."""
        return [*self.whole, *self.checkpoints]


def plan_rm(reader: Reader, records: Sequence[JobRecord]) -> Removal:
    """What `rm` would remove of these jobs. Writes nothing."""
    kept, whole, size = Kept(), [], Size()
    for record in records:
        if why := _why_not(reader, record):
            kept.leave(record.job.id, why)
        else:
            whole.append(record.job.id)
            size += size_of(reader.workspace.run(record.job.id).root)
    return Removal(whole=whole, checkpoints={}, size=size, left=kept.left)


def plan_clean(reader: Reader, records: Sequence[JobRecord], older_than_s: float, keep: Keep) -> Removal:
    """What `clean` would remove of these jobs. Writes nothing."""
    before = now() - timedelta(seconds=older_than_s)
    old = [record for record in records if _ended_before(record, before)]
    starred = [record.job.id for record in old if record.marks.starred]
    wanted = [record for record in old if not record.marks.starred]
    found = plan_rm(reader, wanted) if keep is Keep.nothing else _plan_prune(reader, wanted, keep)
    if starred:
        found.left["starred"] = starred
    return found


def _plan_prune(reader: Reader, records: Sequence[JobRecord], keep: Keep) -> Removal:
    kept, going, size = Kept(), {}, Size()
    several = _members_of_several(reader)
    for record in records:
        run, job_id = reader.workspace.run(record.job.id), record.job.id
        names = _going(run, keep)
        if not names or record.job.kind == "prepare":
            continue
        why = _why_not(reader, record)
        if not why and job_id in several:
            why = "in an ensemble of several checkpoints of each run"
        if why:
            kept.leave(job_id, why)
            continue
        going[job_id] = names
        for name in names:
            size += size_of(run.checkpoints / name)
    return Removal(whole=[], checkpoints=going, size=size, left=kept.left)


def carry_out(reader: Reader, removal: Removal) -> list[str]:
    """Ask that it goes; returns the ids of the requests. Raises OSError."""
    requests: list[inbox.Remove | inbox.Prune] = []
    if removal.whole:
        requests.append(inbox.Remove(job_ids=tuple(removal.whole)))
    if removal.checkpoints:
        requests.append(inbox.Prune(job_ids=tuple(removal.checkpoints), checkpoints=removal.checkpoints))
    for message in requests:
        inbox.send(reader.workspace, message)
    return [message.request for message in requests]


def _ended_before(record: JobRecord, moment: datetime) -> bool:
    return record.finished_at is not None and record.finished_at <= moment


def _why_not(reader: Reader, record: JobRecord) -> str:
    """Why the job's files must stay; empty where they may go."""
    if not record.state.is_final:
        return "not ended: `terry-cluster cancel` ends them"
    if record.job.kind == "prepare":
        return "the preparation of a data set, which other jobs rely on"
    if record.marks.removed_at is not None:
        return "removed already"
    if record.job.id in reader.state.jobs and (other := needed_by(reader.state, record.job.id)):
        return f"needed by {other}, which has not ended"
    return ""


def _going(run: Run, keep: Keep) -> tuple[str, ...]:
    """Names of the checkpoints that go, the oldest first."""
    found = [path for path in run.checkpoints.glob("step-*") if checkpoint_key(path.name)]
    found.sort(key=lambda path: checkpoint_key(path.name) or (0, 0, 0))
    if not found or keep is Keep.results:
        return tuple(path.name for path in found)
    best = [path for path in found if _is_best(path)] if keep is Keep.best else []
    stays = (best or found)[-1]
    return tuple(path.name for path in found if path != stays)


def _is_best(checkpoint: Path) -> bool:
    try:
        return json.loads((checkpoint / "MANIFEST.json").read_bytes()).get("best") is True
    except (OSError, ValueError, AttributeError):
        return False


def _members_of_several(reader: Reader) -> set[str]:
    """Runs that take part in an ensemble with several of their checkpoints."""
    found: set[str] = set()
    for sweep in reader.workspace.sweep_names():
        for _, folder in reader.workspace.submissions(sweep):
            try:
                ensembles = json.loads((folder / "submission.json").read_bytes()).get("ensembles", {})
                found.update(m for e in ensembles.values() if e.get("snapshots", 1) > 1 for m in e.get("members", ()))
            except (OSError, ValueError, AttributeError):
                continue
    return found
