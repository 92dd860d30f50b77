"""What the views draw: a snapshot of everything a person may want to see, as plain values.

Nothing here reads a file or a clock. `terry.logs.view.build` builds a View; dashboard, status and tests use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

import msgspec

from terry.cluster.core.model import DeviceKind, EndReason, JobState
from terry.logs.view.eta import Eta

#: Figures that are older (seconds) are said to be: the controller renews them every 5 s at least.
OLD_S = 12.0


class Attention(IntEnum):
    """How much a job needs a person; the highest stands first."""

    DONE = 0
    QUEUED = 1
    HELD = 2
    RUNNING = 3
    TROUBLED = 4  #: it runs or waits after a crash
    FAILED = 5


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """One job as it is shown: what `status --json` prints. The fields down to `run_dir` are promised."""

    id: str
    sweep: str
    kind: str
    state: JobState
    end_reason: EndReason | None  #: of the newest attempt that ended
    attempt: int  #: number of the newest attempt; 0 before the first
    restarts: int
    step: int | None
    total_steps: int | None
    epoch: float | None
    loss: float | None
    node: str | None  #: where it runs, or ran last
    device: str | None
    eta_seconds: float | None  #: until its end, for jobs that run
    run_dir: str
    valid_loss: float | None
    tokens_per_s: float | None
    elapsed_s: float | None  #: of all attempts
    reason: str  #: why it is held, failed, cancelled or waits
    message: str  #: how the newest ended attempt ended, in one line
    phase: str  #: what it does just now: `training`, `validating`
    priority: int
    labels: dict[str, str]
    changed_at: datetime | None
    attention: Attention
    note: str = ""  #: what somebody has said of it
    tags: tuple[str, ...] = ()
    starred: bool = False
    archived: bool = False
    removed: bool = False  #: its files are gone
    replaced_by: str | None = None  #: the job that stands for it now: submitted again, mended

    @property
    def fraction(self) -> float:
        """Share of the job's steps that are done, 0 to 1."""
        if self.state is JobState.COMPLETED:
            return 1.0
        return min(1.0, self.step / self.total_steps) if self.step and self.total_steps else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepView:
    """One sweep as it is shown."""

    name: str
    counts: dict[JobState, int]
    restarts: int
    fraction: float  #: share of the work that is done, 0 to 1: jobs count alike, running ones in part
    eta: Eta | None  #: until the last job that is not held has ended

    @property
    def total(self) -> int:
        """Number of jobs."""
        return sum(self.counts.values())

    @property
    def final(self) -> int:
        """Number of jobs that are COMPLETED, FAILED or CANCELLED."""
        return sum(n for state, n in self.counts.items() if state.is_final)


class DeviceCondition(StrEnum):
    """Whether a device takes jobs."""

    ONLINE = "online"
    DRAINED = "drained"
    BLOCKED = "blocked"  #: somebody else uses it
    OFFLINE = "offline"
    GIVEN_BACK = "given back"  #: to others who share it; it is taken again when jobs wait


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """One device as it is shown."""

    id: str
    node: str
    kind: DeviceKind
    model: str
    capacity: float  #: GPUs or cores
    used: float
    condition: DeviceCondition
    reason: str  #: why it is drained or blocked, or what is special about it
    jobs: tuple[str, ...]  #: ids of the jobs on it
    utilisation: float | None = None  #: 0 to 1, where it is measured
    memory_used_bytes: int | None = None
    memory_bytes: int | None = None
    temperature_c: float | None = None


class Severity(IntEnum):
    """How an event is shown."""

    PLAIN = 0
    GOOD = 1
    WARNING = 2
    BAD = 3


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TimelineEntry:
    """Something that happened to a job, in words."""

    time: datetime
    job_id: str
    text: str
    severity: Severity = Severity.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerView:
    """Who runs the queue, as far as the files say."""

    alive: bool
    unsure: bool = False  #: it was not seen to live, for as short as it was watched
    starting: bool = False  #: none lives, but one is being started on this node
    problem: str = ""  #: why that does not succeed
    successor: str = ""  #: none lives, but this Slurm job is to go on
    host: str = ""
    epoch: int = 0
    age_s: float | None = None  #: seconds since it was last heard of; None: never

    @property
    def advice(self) -> str:
        """The sentence and what to do, where nobody runs the queue and nobody is about to."""
        coming = self.alive or self.unsure or self.starting or self.successor
        return "" if coming else f"{self.sentence}; `terry-cluster up` starts one"

    @property
    def sentence(self) -> str:
        """In words, for a status line."""
        from terry.logs.format import duration

        if self.alive:
            silent = self.age_s is not None and self.age_s > OLD_S
            return f"controller on {self.host}" + (f", figures {duration(self.age_s)} old" if silent else "")
        if self.unsure:
            return f"the controller on {self.host} gave no sign of life while it was watched; ask again"
        if self.starting:
            return "a controller is being started" + (f"; problem: {self.problem}" if self.problem else "")
        if self.age_s is None:
            return "no controller has run here yet"
        next_one = f"; Slurm job {self.successor} goes on as soon as Slurm lets it" if self.successor else ""
        return f"no controller: shown is what was known {duration(self.age_s)} ago{next_one}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What the page of one job shows beyond its row."""

    job_id: str
    steps: tuple[int, ...] = ()  #: of the loss curve
    losses: tuple[float, ...] = ()  #: as many as `steps`
    restarts: tuple[int, ...] = ()  #: steps at which later attempts began
    log: tuple[str, ...] = ()  #: last lines of its output
    story: tuple[str, ...] = ()  #: `explain`, in lines


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a screen shows, at one moment."""

    now: datetime
    workspace: str
    controller: ControllerView
    jobs: tuple[JobView, ...] = ()
    sweeps: tuple[SweepView, ...] = ()
    devices: tuple[DeviceView, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()  #: oldest first
    losses: dict[str, tuple[float, ...]] = field(default_factory=dict)  #: recent losses of jobs, by id
    detail: Detail | None = None  #: of the job whose page is open
    absent: tuple[str, ...] = ()  #: what keeps nodes away while jobs wait, the weightiest first
    notice: str = ""  #: one more line for the person who looks, e.g. that the file system does not answer

    @property
    def all_final(self) -> bool:
        """True once nothing will change by itself: every job is final (and there is one)."""
        return bool(self.jobs) and all(job.state.is_final for job in self.jobs)
