"""What stands in a submission's folder: jobs.jsonl and submission.json, as types. And what earlier submissions hold."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.core.model import DeviceKind, JobRecord, Resources, RetryPolicy
from terry.cluster.core.state import State
from terry.cluster.errors import UserError
from terry.cluster.files import run_folder
from terry.cluster.files.links import owner_name
from terry.cluster.files.paths import NAME, WorkspacePaths
from terry.cluster.files.run_folder import ASIDE
from terry.cluster.files.store import read_state
from terry.logs.records.values import unpack


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of model.Job as a line of jobs.jsonl has them: all but `spec`, which is the line itself."""

    id: str
    sweep: str
    kind: str
    identity: str
    entrypoint: str
    resources: Resources
    submitted_at: datetime
    owner: str
    priority: int
    held: bool
    depends_on: tuple[str, ...]
    retry: RetryPolicy
    labels: dict[str, str]
    time_limit_s: float | None = None
    hang_after_s: float | None = None
    threads: int | None = None
    minimum: int | None = None  #: so many of `depends_on` suffice once all have ended
    light: bool = False  #: as far as is known its code does without torch, see terry.jobs.submitting.source
    replaces: str = ""  #: id of the job of the same settings that was there before, with other code or data
    former: tuple[str, ...] = ()  #: identities that it had before it was extended


class JobLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of jobs.jsonl."""

    job: NewJob
    #: RunConfig, or what prepares a data set, as plain values, packed: see terry.logs.records.values
    config: dict[str, Any]
    inputs: dict[str, str] = msgspec.field(default_factory=dict)  #: data set name -> id of the job that prepares it
    source: str = ""  #: folder with the user's own code, relative to the workspace
    folder: str = ""  #: of the sweep file, for the user's own code: it runs there


#: What of a job does not decide what comes out of it, and is as it was when the job was first submitted.
TERMS = {
    "time_limit": "time_limit_s",
    "hang_after": "hang_after_s",
    "retry": "retry",
    "threads": "threads",
    "resources": "resources",
    "priority": "priority",
}


class _KnownJob(msgspec.Struct, frozen=True):
    id: str
    kind: str
    identity: str
    resources: Resources
    retry: RetryPolicy = RetryPolicy()
    time_limit_s: float | None = None
    hang_after_s: float | None = None
    threads: int | None = None
    priority: int = 0

    def kept(self, other: NewJob) -> list[str]:
        """The settings in which `other`, the same job submitted again, would be another."""
        return [name for name, field in TERMS.items() if getattr(self, field) != getattr(other, field)]


def keeping(kept: dict[str, list[str]]) -> str:
    """A sentence about jobs that are there, by id, and the settings that they keep; empty where there are none."""
    if not kept:
        return ""
    names = ", ".join(dict.fromkeys(name for found in kept.values() for name in found))
    who = (
        f"{next(iter(kept))} is there already and keeps"
        if len(kept) == 1
        else f"{len(kept):,} jobs that are there keep"
    )
    return f"{who} the {names} that {'it has' if len(kept) == 1 else 'they have'}; `terry-cluster change` changes that"


def removed(job_ids: list[str], known: KnownJobs) -> str:
    """A sentence about those of these jobs whose files somebody has removed; empty where there are none."""
    records = (known.records.get(job_id) for job_id in job_ids)
    gone = [record.job.id for record in records if record is not None and record.marks.removed_at is not None]
    if not gone:
        return ""
    who = f"{gone[0]} was" if len(gone) == 1 else f"{len(gone):,} jobs of it were"
    return f"{who} removed; `terry-cluster resubmit --from-scratch {' '.join(gone[:10])}` makes that again"


class _KnownLine(msgspec.Struct, frozen=True):
    job: _KnownJob


class TrialRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A trial of a search, as submission.json has it: what was chosen, and the run that tries it."""

    number: int  #: in its study
    study: str  #: the grid's point that it belongs to, such as `model.cell=gru`; empty: there is no grid
    settings: dict[str, Any]  #: chosen, packed: see terry.logs.records.values
    job: str
    identity: str  #: of the run
    generation: int | None = None  #: of CMA-ES


class CodePlace(msgspec.Struct, frozen=True, kw_only=True):
    """The code behind an entry point, for trials that are asked for later."""

    sha256: str
    source: str  #: folder, relative to the workspace; empty: it is installed
    light: bool = False  #: it does not import torch


class SearchInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What submission.json says of a search: the newest one holds, with the file that stands beside it."""

    begun_at: datetime  #: when its file was submitted
    wanted: int  #: trials in all
    asked: int = 0  #: trials so far, this submission's among them
    timeout_s: float | None = None  #: nothing more is asked for so long after `begun_at`
    kind: DeviceKind  #: what runs get whose file leaves it open
    priority: int | None = None
    closed: bool = False  #: nothing more is asked for
    code: dict[str, CodePlace] = {}
    trials: tuple[TrialRecord, ...] = ()  #: those of this submission

    def is_open(self, now: datetime) -> bool:
        """Whether trials are still to come."""
        late = self.timeout_s is not None and (now - self.begun_at).total_seconds() > self.timeout_s
        return self.asked < self.wanted and not self.closed and not late


class SubmissionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """submission.json: who submitted what, when, from where."""

    version: int
    sweep: str
    submitted_at: datetime
    owner: str
    file: str  #: empty: a notebook gave its contents
    folder: str  #: of the sweep file: relative paths in it start here
    overrides: tuple[str, ...]
    request: str  #: unique id of this submission
    jobs: int  #: lines of jobs.jsonl
    ensembles: dict[str, dict[str, Any]]
    search: SearchInfo | None = None  #: where its file has `sweep.search`


def read_line(workspace: WorkspacePaths, record: JobRecord) -> JobLine:
    """The job's line of jobs.jsonl. Raises UserError, OSError."""
    spec, path = record.job.spec, workspace.root / record.job.spec.path
    with path.open("rb") as stream:
        stream.seek(spec.offset)
        data = stream.read(spec.length)
    try:
        return msgspec.json.decode(data, type=JobLine)
    except msgspec.MsgspecError as error:
        raise UserError(f"the line of {record.job.id} cannot be read: {error}", file=path) from None


def newest_search(workspace: WorkspacePaths, sweep: str) -> SearchInfo | None:
    """What the sweep's newest submission with a search says; None where it has none. Reads from the newest on."""
    for _, folder in reversed(workspace.submissions(sweep)):
        try:
            info = msgspec.json.decode((folder / "submission.json").read_bytes(), type=SubmissionInfo)
        except PermissionError:  # of another of the group: `doctor` names it
            continue
        if info.search is not None:
            return info.search
    return None


def _require_readable(folders: list[Path]) -> None:
    """Raise UserError: without what was submitted of a sweep nobody can tell what is new."""
    for path in (folder / name for folder in folders for name in ("submission.json", "jobs.jsonl")):
        try:
            with path.open("rb"):
                pass
        except PermissionError as error:
            whose = owner_name(path.parent.lstat().st_uid)
            sweep = shlex.quote(str(path.parent.parent))
            raise UserError(
                f"you may not read it, and without it nobody can tell which runs of the sweep are new: {whose} repairs "
                f"it with `chmod -R g+rwX {sweep}`; or give your file another `name:`",
                file=path,
            ) from error


class KnownJobs:
    """Jobs of earlier submissions, and whatever else has ids: no id is ever given twice."""

    def __init__(self, workspace: WorkspacePaths, name: str) -> None:
        decoder = msgspec.json.Decoder(_KnownLine)
        self.by_identity: dict[str, _KnownJob] = {}
        self.runs: list[str] = []  #: ids of trainings
        self.ids: set[str] = set()
        self.last = 0  #: highest number that is taken
        self.taken: set[str] = set()  #: ids that no new job must get: of submissions, of the queue, of folders in runs/
        self.lost: dict[str, str] = {}  #: identity -> id of a folder in runs/ that nobody knows any more
        self.submissions = 0  #: of this sweep, that the queue has taken
        self.ensembles: dict[str, dict[str, Any]] = {}
        self.trials: list[TrialRecord] = []  #: of its search
        self.search: SearchInfo | None = None  #: the newest
        self.searched: tuple[Path, SubmissionInfo] | None = None  #: the submission that says so
        folders = [folder for _, folder in workspace.submissions(name)]
        _require_readable(folders)
        for folder in folders:
            info = msgspec.json.decode((folder / "submission.json").read_bytes(), type=SubmissionInfo)
            self.ensembles.update(info.ensembles)
            if info.search is not None:
                self.trials += info.search.trials
                self.search, self.searched = info.search, (folder, info)
        self._files = [folder / "jobs.jsonl" for folder in folders]
        state = read_state(workspace) if workspace.journal.is_dir() else None
        self.records: dict[str, JobRecord] = {} if state is None else state.jobs  #: what the queue knows, by id
        for file in self._files:
            for line in decoder.decode_lines(file.read_bytes()):
                self._add(line.job)
        self._count(workspace, name, state)

    def _count(self, workspace: WorkspacePaths, name: str, state: State | None) -> None:
        """Ids of the queue and of folders: sweeps/ may have been restored from a backup, or removed."""
        queued = {r.job.id for r in state.jobs.values() if r.job.sweep == name} if state else set()
        self.submissions = state.submissions.get(name, 0) if state else 0
        folders = {path.name for path in workspace.runs.glob(f"{name}-*")}
        self.taken = self.ids | queued | folders
        for job_id in self.taken:
            number = job_id.removeprefix(f"{name}-")
            self.last = max(self.last, int(number)) if number.isdecimal() else self.last
        for job_id in sorted(folders - self.ids - queued):
            is_id = NAME.fullmatch(job_id) and ASIDE not in job_id
            if is_id and (identity := run_folder.identity_of(workspace.run(job_id))):
                self.lost.setdefault(identity, job_id)

    def _add(self, job: _KnownJob) -> None:
        if (record := self.records.get(job.id)) is not None:  # its terms may have been changed since
            now = {field: getattr(record.job, field) for field in TERMS.values()}
            job = msgspec.structs.replace(job, **{**now, "priority": record.priority})
        self.by_identity[job.identity] = job
        self.ids.add(job.id)
        if job.kind == "train":
            self.runs.append(job.id)

    @property
    def has_runs(self) -> bool:
        """True where an earlier submission had runs."""
        return bool(self.runs)

    def configs(self) -> list[dict[str, Any]]:
        """Configurations of all earlier runs."""
        return [config for _, config in self.earlier_runs()]

    def earlier_runs(self) -> list[tuple[str, dict[str, Any]]]:
        """Ids and configurations of all earlier runs, the oldest first."""
        return [(line.job.id, unpack(line.config)) for line in self.lines() if line.job.kind == "train"]

    def lines(self) -> list[JobLine]:
        """The lines of all jobs."""
        decoder = msgspec.json.Decoder(JobLine)
        return [line for file in self._files for line in decoder.decode_lines(file.read_bytes())]
