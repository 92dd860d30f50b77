"""What the command line knows of a workspace: read from its files alone, with the controller up or down."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from terry.cluster.client.filters import Facts
from terry.cluster.client.selectors import Ensembles, select_job, select_jobs
from terry.cluster.config.watched import watched_policy
from terry.cluster.controller.requests import read_jobs
from terry.cluster.core.model import DeviceUse, Job, JobRecord, JobState, Marks
from terry.cluster.core.state import State, heir
from terry.cluster.core.state_machine import apply
from terry.cluster.errors import InvalidTransition, JournalDamaged, UserError
from terry.cluster.files import lease, live, origin, store
from terry.cluster.files.durable import read_bytes
from terry.cluster.files.journal import read, segments
from terry.cluster.files.links import planted
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host import clock
from terry.cluster.host.clock import now
from terry.cluster.scheduling import plan as schedule
from terry.cluster.scheduling.reasons import is_for_devices
from terry.cluster.slurm import next_head
from terry.logs.records.results import JobOutcome, read_outcome
from terry.logs.view.build import ViewInputs
from terry.logs.view.view import ControllerView

if TYPE_CHECKING:
    from terry.cluster.client.absent import AbsentNodes

#: Why a job waits that no controller has read yet.
NOT_TAKEN = "submitted; no controller has taken it yet"


#: How busy a device was so long ago says nothing of now (its agent is polled every 30 s at least).
_MEASURED = timedelta(seconds=60)


class _Info(msgspec.Struct):
    """What of submission.json is needed here."""

    ensembles: dict[str, _Members] = {}


class _Members(msgspec.Struct):
    members: list[str] = []
    job: str = ""  #: that evaluates it


class Reader:
    """Reads a workspace again and again; what did not change on disk is not read twice."""

    def __init__(self, workspace: WorkspacePaths, clock: Callable[[], datetime] = now) -> None:
        self.workspace = workspace
        self._clock = clock
        self.state = State()
        self._segment = 0  # number of the journal's newest segment when it was last read
        self._stamp: object = None
        self._jobs: dict[str, JobRecord] = {}
        self._outcomes: dict[str, tuple[JobRecord, JobOutcome]] = {}
        self._waits: dict[str, str] = {}
        self._replaced: dict[str, str] = {}  # job id -> the job that stands for it now
        self._hidden: frozenset[str] = frozenset()
        self._shown: dict[str, JobRecord] = {}
        self._absent: AbsentNodes | None = None
        self._unreadable: list[Path] = []  # submissions that others of the group cannot read
        self._policy = watched_policy(workspace)
        self._watch: lease.Watch | None = None  # of the lease
        self._figures: tuple[object, float] | None = None  # live.json, and since when it is as it is (monotonic)

    def stamp(self) -> object:
        """Changes whenever what a view shows has changed on disk. Costs a few system calls."""
        held = lease.read(self.workspace)  # its heartbeat is no news, but its holder's death is
        return (self.queue_stamp(), _stat(self.workspace.live), held and (held.epoch, self._liveness(held)))

    def read(self, also: Iterable[JobRecord] = ()) -> ViewInputs:
        """All that the files say, but for the figures of jobs that do not run: see `look_at`.

        also: jobs that are in it though they are hidden.
        """
        jobs, moment = self.shown(), self._clock()
        if more := {record.job.id: record for record in also if record.job.id in self._hidden}:
            jobs = jobs | more
        heard = live.read(self.workspace)
        return ViewInputs(
            now=moment,
            workspace=str(self.workspace.root),
            runs=str(self.workspace.runs),
            controller=self._controller(moment, heard),
            jobs=jobs,
            devices=self.state.devices,
            progress={p.job_id: p for p in heard.progress} if heard else {},
            device_stats=_recent(heard),
            outcomes={job_id: outcome for job_id, (_, outcome) in self._outcomes.items()},
            waits=self._waits,
            replaced=self._replaced,
            absent=self._why_none_comes() if any(r.state is JobState.PENDING for r in jobs.values()) else (),
            notice=self._notice(),
        )

    def jobs(self) -> dict[str, JobRecord]:
        """All jobs, also those that no controller has taken yet."""
        stamp = self.queue_stamp()
        if stamp != self._stamp:
            self._catch_up()
            self._unreadable = []
            fresh = _not_taken(self.workspace, self.state, self._unreadable)
            self._jobs = {**self.state.jobs, **{r.job.id: r for r in fresh}}
            self._find_hidden()
            self._stamp = stamp
        return self._jobs

    def shown(self) -> dict[str, JobRecord]:
        """The jobs that views show: not those that are put away, nor those that another one has replaced."""
        self.jobs()
        return self._shown

    def heir(self, job_id: str) -> JobRecord:
        """The job that stands for this one now: itself, unless it was submitted again, mended."""
        jobs = self.jobs()
        return jobs[self._replaced.get(job_id, job_id)]

    def _find_hidden(self) -> None:
        jobs = self._jobs
        fresh = (record.job for job_id, record in jobs.items() if job_id not in self.state.jobs)
        successors = self.state.successors | {job.replaces: job.id for job in fresh if job.replaces}
        found = {old: heir(old, jobs, successors) for old in successors if old in jobs}
        self._replaced = {old: new for old, new in found.items() if new is not None}
        self._hidden = frozenset((*self._replaced, *(i for i, record in jobs.items() if record.marks.put_away)))
        hidden = self._hidden
        self._shown = {i: record for i, record in jobs.items() if i not in hidden} if hidden else jobs

    def _notice(self) -> str:
        """What of the workspace itself a person should know."""
        if not self._unreadable:
            return origin.note(self.workspace) or self._other_version()
        first = self._unreadable[0].relative_to(self.workspace.root)
        many = f" and {len(self._unreadable) - 1} more" if len(self._unreadable) > 1 else ""
        return f"{first}{many} cannot be read: `terry-cluster doctor` says how to repair it"

    def _other_version(self) -> str:
        held = lease.read(self.workspace)
        if held is None or self._liveness(held) is not lease.Liveness.ALIVE:
            return ""
        from terry.cluster.lifecycle.overview import older_head

        return older_head(self.workspace)

    def _catch_up(self) -> None:
        """Bring `state` up to the journal: by its new lines, else from the beginning."""
        first = max((number for number, _ in _segments(self.workspace)), default=0)
        # A new segment that begins before the last event read: that event was a superseded controller's, and is void.
        if self.state.seq and (first == self._segment or first > self.state.seq):
            try:
                for entry in read(self.workspace.journal, self.state.seq):
                    apply(self.state, entry.event)
            except (FileNotFoundError, JournalDamaged, InvalidTransition):
                self.state = store.read_state(self.workspace)
        else:
            self.state = store.read_state(self.workspace)
        self._segment = first

    def select_jobs(self, selectors: Iterable[str]) -> list[JobRecord]:
        """The jobs that are meant; none given: all. UserError where a selector means nothing."""
        given = list(selectors)
        jobs = self.jobs()
        ensembles = self.ensembles() if given else None
        return select_jobs(given, jobs, ensembles, hidden=self._hidden, facts=self._facts())

    def select_job(self, selector: str) -> JobRecord:
        """The one job that is meant."""
        jobs = self.jobs()
        return select_job(selector, jobs, self.ensembles(), hidden=self._hidden, facts=self._facts())

    def _facts(self) -> Facts:
        """What filters ask for is read from the jobs' files when they ask."""
        from terry.cluster.client.facts import figures_of, setting_of

        return Facts(
            figures=lambda record: figures_of(self.workspace, record),
            setting=lambda record, key: setting_of(self.workspace, record, key),
            replaced=self._replaced,
        )

    def why_waiting(self, record: JobRecord) -> str:
        """Why the job does not run now; empty where it runs or has ended."""
        if record.job.id not in self.state.jobs:
            return NOT_TAKEN
        reason = schedule.why_waiting(self.state, record.job.id, self._clock(), self._policy())
        absent = self._why_none_comes() if is_for_devices(reason) else ()
        return "; ".join([reason, *absent[:1]])

    def _why_none_comes(self) -> tuple[str, ...]:
        """What keeps nodes away, in a line each, the weightiest first."""
        held = lease.read(self.workspace)
        alive = held is not None and self._liveness(held) is lease.Liveness.ALIVE
        return self._absent_nodes().reasons(alive=alive)

    def _absent_nodes(self) -> AbsentNodes:
        if self._absent is None:
            from terry.cluster.client.absent import AbsentNodes

            self._absent = AbsentNodes(self.workspace)
        return self._absent

    def look_at(self, records: Iterable[JobRecord]) -> None:
        """Find out more about these jobs for the next `read`: figures of those that do not run, why others wait."""
        self._waits = {}
        for record in records:
            if not record.state.is_final and not record.state.holds_device:
                self._waits[record.job.id] = self.why_waiting(record)
            job_id = record.job.id
            if record.state.holds_device or not record.attempts:
                self._outcomes.pop(job_id, None)
            elif job_id not in self._outcomes or self._outcomes[job_id][0] is not record:
                self._outcomes[job_id] = record, self._outcome(record)

    def _outcome(self, record: JobRecord) -> JobOutcome:
        run = self.workspace.run(record.job.id)
        return JobOutcome() if planted(run.root, self.workspace.root) else read_outcome(run, record)

    def ensembles(self) -> Ensembles:
        """All ensembles of all sweeps; of one name the newest."""
        found: dict[str, list[str]] = {}
        for sweep in self.workspace.sweep_names():
            for _, folder in self.workspace.submissions(sweep):
                info = _decode(folder / "submission.json", _Info)
                found |= {name: [*entry.members, entry.job] for name, entry in info.ensembles.items()}
        return found

    def _controller(self, moment: datetime, heard: live.Live | None) -> ControllerView:
        held = lease.read(self.workspace)
        if held is None:
            starting = self._is_kept()
            return ControllerView(alive=False, starting=starting, problem=self._problem() if starting else "")
        found = self._liveness(held)
        alive = found is lease.Liveness.ALIVE
        age = self._age_s(moment, held, heard, alive=alive)
        starting = not alive and self._is_kept()
        problem = self._problem() if starting else ""
        coming = None if alive else next_head.read(self.workspace)
        return ControllerView(
            alive=alive,
            unsure=found is lease.Liveness.UNKNOWN,
            starting=starting,
            problem=problem,
            successor=coming.job if coming else "",
            host=held.host,
            epoch=held.epoch,
            age_s=age,
        )

    def _liveness(self, held: lease.Lease) -> lease.Liveness:
        """The first look may take as long as a controller of another node needs to show that it lives."""
        from terry.cluster.lifecycle.liveness import LOOK_S, liveness, watch

        if self._watch is None:
            found = liveness(self.workspace, LOOK_S)
            self._watch = watch(self.workspace)
            return found
        return self._watch.look(held)

    def _age_s(self, moment: datetime, held: lease.Lease, heard: live.Live | None, *, alive: bool) -> float:
        """How old the figures are, in seconds. Of one that lives: as seen from here, where its clock is another's."""
        stamp, now = _stat(self.workspace.live), clock.monotonic()
        if self._figures is None or self._figures[0] != stamp:
            self._figures = (stamp, now)
        seen = now - self._figures[1]
        if alive and not held.is_here:
            return seen
        mine = heard is not None and heard.epoch == held.epoch
        last = heard.time if mine and heard is not None and alive else held.heartbeat
        if mine and heard is not None and not alive:
            last = max(last, heard.time)
        return max(seen, (moment - last).total_seconds())  # a clock that was set back says nothing

    def _problem(self) -> str:
        from terry.cluster.lifecycle.on_head import keeper_problem

        return keeper_problem(self.workspace)

    def _is_kept(self) -> bool:
        """True where a keeper on this node sees to it that there will be a controller."""
        if not self.workspace.cluster.is_dir():  # nothing was ever started: looking must not make folders
            return False
        from terry.cluster.host.locks import holder
        from terry.cluster.lifecycle.keeper import keeper_lock

        return holder(keeper_lock(self.workspace)) is not None

    def queue_stamp(self) -> object:
        """Changes whenever the queue has, or something was submitted."""
        ws = self.workspace
        journal = [(number, _stat(path)) for number, path in _segments(ws)[-2:]]
        return (journal, [(name, _stat(ws.sweeps / name)) for name in ws.sweep_names()])


def _recent(heard: live.Live | None) -> dict[str, DeviceUse]:
    """How busy the devices are, by id."""
    return {use.device_id: use for use in heard.uses if heard.time - use.time < _MEASURED} if heard else {}


def _segments(workspace: WorkspacePaths) -> list[tuple[int, Path]]:
    return segments(workspace.journal) if workspace.journal.is_dir() else []


def _stat(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does: inode, modification time, size; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  (asked for five times a second)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _not_taken(workspace: WorkspacePaths, state: State, unreadable: list[Path]) -> Iterator[JobRecord]:
    """Records of jobs that are submitted and that no controller has taken yet.

    A submission that may not be read says nothing of others: it is added to `unreadable`.
    """
    for sweep in workspace.sweep_names():
        taken = state.submissions.get(sweep, 0)
        if not os.access(workspace.sweep(sweep), os.R_OK | os.X_OK):
            unreadable.append(workspace.sweep(sweep))
            continue
        for number, folder in workspace.submissions(sweep):
            if number <= taken:
                continue
            try:
                jobs = read_jobs(workspace, folder)
            except PermissionError:
                unreadable.append(folder)
                continue
            for job in jobs:
                known = state.jobs.get(job.id)
                if known is None:
                    yield _waiting(job)
                elif known.state.is_final and known.job.identity in job.former[-1:]:  # it is to go on
                    yield replace(known, job=job, state=JobState.PENDING, finished_at=None, marks=Marks())


def _waiting(job: Job) -> JobRecord:
    state = JobState.HELD if job.held else JobState.WAITING if job.depends_on else JobState.PENDING
    return JobRecord(job=job, state=state, priority=job.priority, reason=NOT_TAKEN, changed_at=job.submitted_at)


def _decode(path: Path, kind: type[_Info]) -> _Info:
    try:
        return msgspec.json.decode(read_bytes(path), type=kind)
    except (FileNotFoundError, PermissionError):  # of somebody whose files are closed: `doctor` names them
        return kind()
    except msgspec.MsgspecError as error:
        raise UserError(f"cannot be read: {error}", file=path) from error
