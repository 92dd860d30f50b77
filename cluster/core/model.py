"""What the runner knows: jobs, attempts, devices, nodes. Values only: no clock, no files, no Ray.

Everything here is immutable and is written to the journal as JSON (terry.cluster.core.events), so fields may be added
with a default, never renamed or given another meaning. What is replaced at every event is a msgspec Struct rather than
a dataclass: replacing a field costs 0.3 instead of 5 microseconds, and a journal is replayed that much faster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec


class _Name(StrEnum):
    """Names that are keys of many dictionaries: hashed as the strings they are, quicker than Enum does."""

    __hash__ = str.__hash__


class JobState(_Name):
    """Where a job stands. *Why* an attempt ended is an EndReason, never another state."""

    WAITING = "waiting"  #: has dependencies that are not completed
    PENDING = "pending"  #: may be placed as soon as a device is free (and not before `not_before`)
    HELD = "held"  #: a person, or a full disk, holds it back
    STARTING = "starting"  #: placed on a device; its process is not known to run yet
    RUNNING = "running"  #: its process runs
    STOPPING = "stopping"  #: asked to stop; its end is not confirmed yet
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def holds_device(self) -> bool:
        """True where a share of a device is granted to the job."""
        return self in _ON_DEVICE

    @property
    def is_final(self) -> bool:
        """True where nothing but a person's `resubmit` changes the state."""
        return self in _FINAL


_ON_DEVICE = frozenset({JobState.STARTING, JobState.RUNNING, JobState.STOPPING})
_FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


class EndReason(_Name):
    """Why an attempt ended, from evidence."""

    SUCCESS = "success"
    CRASHED = "crashed"  #: ended by a signal of its own making: SIGSEGV, SIGABRT, SIGBUS, ...
    EXCEPTION = "exception"  #: an uncaught Python exception, or a non-zero exit of unknown meaning
    DEVICE_OUT_OF_MEMORY = "device_out_of_memory"
    HOST_OUT_OF_MEMORY = "host_out_of_memory"  #: SIGKILL by the kernel's or the cgroup's out-of-memory killer
    KILLED = "killed"  #: SIGKILL from outside, no sign of memory pressure
    NOT_FINITE = "not_finite"  #: NaN or infinity in loss or gradients, `on_nan` exhausted
    HUNG = "hung"  #: no step for too long; ended for its stack
    TIME_LIMIT = "time_limit"
    NODE_LOST = "node_lost"
    AGENT_LOST = "agent_lost"  #: the agent (or its forkserver) died and its jobs with it
    PREEMPTED = "preempted"  #: asked to make room; wrote a checkpoint
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DISK_FULL = "disk_full"
    DISK_LOST = "disk_lost"  #: the workspace's file system reports errors, or is not mounted
    LAUNCH_ERROR = "launch_error"  #: could not be started, or its device is not usable
    DEVICE_BLOCKED = "device_blocked"  #: not started: somebody else uses the device just now
    BAD_INPUT = "bad_input"  #: the job says that its configuration or input cannot work; trying again is no use
    STOPPED_EARLY = "stopped_early"  #: ended by the sweep's own rule (ASHA): a success of the rule, not of the run


#: Ends of a job that is done.
SUCCESSES = frozenset({EndReason.SUCCESS, EndReason.STOPPED_EARLY})


class StopGoal(StrEnum):
    """What shall become of a job that is asked to stop."""

    CANCEL = "cancel"
    PAUSE = "pause"
    PREEMPT = "preempt"


class DeviceKind(_Name):
    """What a device is."""

    GPU = "gpu"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job asks for. Exactly one of `gpus` and `cpus` is above zero."""

    gpus: float = 0.0  #: GPUs: 1 or more whole ones (only 1 today), or a share below 1
    cpus: float = 0.0  #: CPU cores, for a job without a GPU
    node: str | None = None  #: glob that the node's name must match
    device: str | None = None  #: glob that the device's model must match (`*H100*`)
    exclusive: bool = False  #: the device to itself, whatever the share
    mps: bool = False  #: computes beside its neighbours through NVIDIA's MPS
    at_home: bool = False  #: only where the workspace's own files are seen: it reads or writes more than its run's

    @property
    def kind(self) -> DeviceKind:
        """The kind of device that is asked for."""
        return DeviceKind.GPU if self.gpus > 0 else DeviceKind.CPU

    @property
    def share(self) -> float:
        """How much of a device's capacity the job takes: GPUs or cores."""
        return self.gpus if self.gpus > 0 else self.cpus


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How many failures in a row, without a new checkpoint between them, are forgiven; per cause."""

    crash: int = 5  #: signals, hangs, SIGKILL from outside
    exception: int = 1  #: after the first step; before it an exception is a bug and final
    device_out_of_memory: int = 1  #: the next attempt has the device to itself
    host_out_of_memory: int = 1  #: the next attempt has fewer neighbours
    launch: int = 3  #: attempts that could not be started
    disk: int = 20  #: attempts that found the workspace's file system gone; then the job is HELD, not FAILED
    backoff_s: float = 1.0  #: wait after the second failure in a row (the first is tried again at once); doubles
    backoff_max_s: float = 300.0  #: the longest wait


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecRef:
    """Where a job's full configuration stands: one line of a submission's jobs.jsonl."""

    path: str  #: relative to the workspace
    offset: int  #: first byte of the line
    length: int  #: bytes, without the newline


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One unit of work, as submitted. Its terms change only by `TermsChanged`, its configuration only by `Extended`."""

    id: str  #: unique in the workspace, a safe file name: `cells-0007`
    sweep: str
    kind: str  #: what it is to its owner: prepare, train, evaluate, sample ...; opaque to the runner
    identity: str  #: sha256 of the resolved configuration (hex): the same work is never added twice
    entrypoint: str  #: `package.module:function`, called with a RunContext
    resources: Resources
    spec: SpecRef
    submitted_at: datetime
    owner: str = ""  #: user name of the submitter
    priority: int = 0  #: higher goes first
    held: bool = False  #: submitted with --hold
    depends_on: tuple[str, ...] = ()  #: ids of jobs that must be COMPLETED first
    #: where given, it goes on once all of these have ended and so many are COMPLETED; without it all must be
    minimum: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    labels: dict[str, str] = field(default_factory=dict)  #: the settings in which the jobs of its sweep differ
    time_limit_s: float | None = None
    hang_after_s: float | None = None  #: seconds without a step that count as hung; None: the default rule
    threads: int | None = None  #: CPU threads of the process; None: from its share
    light: bool = False  #: its process needs little: it is forked from a small forkserver, which is there early
    replaces: str = ""  #: id of the job of the same settings that was submitted before it, with other code
    former: tuple[str, ...] = ()  #: identities that it had before it was extended, the oldest first


class Marks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What people have said of a job. It decides nothing about how the job runs."""

    note: str = ""  #: one line of text
    tags: tuple[str, ...] = ()  #: sorted, each once
    starred: bool = False
    archived: bool = False  #: left out of the views; only a job that has ended
    removed_at: datetime | None = None  #: its files were removed then; its history stays
    leaving: tuple[str, ...] | None = None  #: checkpoints that are still to be removed; empty: the whole folder

    @property
    def put_away(self) -> bool:
        """True where the views leave the job out."""
        return self.archived or self.removed_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU, or a node's CPU cores: what the scheduler places jobs on."""

    id: str  #: `quattro:2` or `quattro:cpu`; unique in the cluster
    node: str  #: name of the node
    node_id: str  #: Ray's id of the node's present life
    kind: DeviceKind
    capacity: float  #: GPUs: 1.0; CPU: cores
    model: str = ""  #: `NVIDIA H100`, or the processor's name
    uuid: str = ""  #: the GPU's UUID; empty for CPU
    memory_bytes: int = 0
    host_cores: int = 0  #: CPU cores of its node, where known
    away: bool = False  #: its node does not see the workspace: files are sent there and back
    agent: str = ""  #: incarnation of its agent: changes whenever the agent process is a new one
    labels: tuple[str, ...] = ()  #: of its node, as terry.yaml has them

    def is_on(self, pattern: str | None) -> bool:
        """True where its node has this name, or this label (a glob). None: anywhere."""
        return pattern is None or any(fnmatchcase(name, pattern) for name in (self.node, *self.labels))

    def is_a(self, pattern: str | None) -> bool:
        """True for this model: a glob, or a part of its name such as `H100`. None: any."""
        return pattern is None or is_model(self.model, pattern)


def is_model(model: str, pattern: str) -> bool:
    """True where a device's model is meant by `pattern`: a glob, or without one a part of the name."""
    return fnmatchcase(model, pattern) or pattern.casefold() in model.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A share of one device, granted to one attempt."""

    device: str  #: Device.id
    node: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended, with the evidence in short; the whole of it lies in the attempt's folder."""

    reason: EndReason
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""  #: one line for people: `SIGSEGV in embedding backward`
    step: int | None = None  #: last step known to be done
    checkpoint_step: int | None = None  #: step of the newest valid checkpoint after the end
    first_step_done: bool = False  #: an exception before the first step is a bug, not bad luck
    device_fault: str = ""  #: evidence that the device itself is broken (an Xid error): it will be drained
    max_rss_bytes: int = 0
    cpu_s: float = 0.0
    device_memory_bytes: int = 0  #: most of the GPU's memory that was seen in use meanwhile, by whomever


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One process that tried a job."""

    number: int  #: 1, 2, ...; never reused, also across series
    series: int  #: counts resubmissions by a person, from 1
    device: str
    node: str
    placed_at: datetime
    started_at: datetime | None = None
    pid: int | None = None
    ended_at: datetime | None = None
    end: AttemptEnd | None = None
    decision: str = ""  #: what was done about it, in words: `goes on from step 41,000 on quattro:3 in 2 s`


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Failures in a row without a new checkpoint between them: what RetryPolicy is held against."""

    crash: int = 0
    exception: int = 0
    device_out_of_memory: int = 0
    host_out_of_memory: int = 0
    launch: int = 0
    disk: int = 0
    checkpoint_step: int | None = None  #: newest checkpoint when a failure was last counted


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A job and all that happened to it. Replaced, never changed, and only by state_machine.apply."""

    job: Job
    state: JobState
    series: int = 1
    attempts: tuple[Attempt, ...] = ()  #: the newest; of a very long history the oldest are left out
    allocation: Allocation | None = None
    goal: StopGoal | None = None  #: only while STOPPING
    not_before: datetime | None = None  #: back-off: may not be placed earlier
    budget: Budget = Budget()
    avoid_devices: tuple[str, ...] = ()  #: devices on which it crashed; not used while another is there
    exclusive: bool = False  #: next time with the device to itself (after out of memory)
    from_scratch: bool = False  #: the next attempt ignores all checkpoints that are there
    first_attempt: int = 1  #: checkpoints and metrics of attempts before this one do not count
    earlier_attempts: int = 0  #: number of the newest attempt of a queue that was lost: its folder is there
    cancelled_by: str = ""  #: the dependency because of which it is CANCELLED; comes back when that is resubmitted
    reason: str = ""  #: why it is HELD, FAILED, CANCELLED or waits, for people
    priority: int = 0
    changed_at: datetime | None = None  #: when the state last changed
    finished_at: datetime | None = None
    marks: Marks = Marks()

    @property
    def attempt(self) -> int:
        """Number of the newest attempt; 0 before the first."""
        return self.attempts[-1].number if self.attempts else self.earlier_attempts

    @property
    def restarts(self) -> int:
        """Attempts after the first."""
        return max(0, self.attempt - 1)

    def backs_off(self, now: datetime) -> bool:
        """Whether it is too early to place it. Not where the clock says that it began to wait in the future."""
        if self.not_before is None or now >= self.not_before:
            return False
        return self.changed_at is None or now >= self.changed_at


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """A device as the queue sees it."""

    device: Device
    online: bool = True
    drained: bool = False
    drain_reason: str = ""
    blocked: str = ""  #: why its agent takes no jobs for now: somebody else computes on it; empty: it takes them
    crashes: tuple[tuple[datetime, str], ...] = ()  #: (when, job id) of recent crashes on it
    #: it is away because it was given back to its owners, who get it back when jobs wait; no fault
    given_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """How busy a device is, by whomever. Lives in live.json and the dashboard, never in the journal."""

    device_id: str
    time: datetime  #: when it was measured
    utilisation: float | None = None  #: 0 to 1: of a GPU's time, or of all cores of the node
    memory_used_bytes: int | None = None  #: of the GPU, or of the node
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running attempt is. Lives in live.json and the dashboard, never in the journal."""

    job_id: str
    attempt: int
    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    valid_loss: float | None = None
    tokens_per_s: float | None = None
    steps_per_s: float | None = None
    checkpoint_step: int | None = None
    phase: str = ""  #: `training`, `validating`, `reading` ...
    time: datetime | None = None  #: when the job said so
