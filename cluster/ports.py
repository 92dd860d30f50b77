"""What the controller needs from the world, as Protocols. Adapters fulfil them; so do the fakes in tests.fakes.pool.

Every adapter and its fake pass the same contract suite (tests/contract).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from terry.cluster.core.model import AttemptEnd, Device, DeviceUse, Progress, StopGoal
from terry.cluster.scheduling.demand import Need


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> datetime:
        """Now, aware, UTC: for people, and for the times of events."""
        ...

    def monotonic(self) -> float:
        """Seconds by a clock that nobody sets: for pace and patience."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOrder:
    """All that an agent needs to start one attempt. Travels as JSON."""

    epoch: int  #: of the controller that gives the order; an agent refuses an older one
    job_id: str
    sweep: str
    attempt: int
    entrypoint: str
    workspace: str  #: absolute path
    spec_path: str  #: the line of jobs.jsonl that holds the configuration: file relative to the workspace ...
    spec_offset: int
    spec_length: int
    device_id: str
    share: float  #: of the device's capacity: GPUs or cores
    threads: int  #: CPU threads of the process
    memory_share: float = 1.0  #: of a GPU's memory that the process may use
    mps: bool = False  #: through NVIDIA's MPS
    first_attempt: int = 1  #: checkpoints and metrics of attempts before this one are ignored (--from-scratch)
    identity: str = ""  #: of the job: the run's folder must not be that of another one
    former: tuple[str, ...] = ()  #: identities that it had before it was extended
    result_from: int = 0  #: results that attempts before this one handed in are not the end; 0: as `first_attempt`
    time_limit_s: float | None = None
    hang_after_s: float | None = None
    light: bool = False  #: forked from the small forkserver


class Started(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The attempt's process runs."""

    job_id: str
    attempt: int
    pid: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The attempt could not be started; no process of it exists."""

    job_id: str
    attempt: int
    message: str
    blocked: bool = False  #: the device takes no jobs for now; the job is not to blame


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The attempt's process is gone: confirmed."""

    job_id: str
    attempt: int
    end: AttemptEnd


class Appeared(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A device takes jobs. `running` are the attempts that its agent knows: all others on this device are gone."""

    device: Device
    running: tuple[tuple[str, int], ...] = ()
    blocked: str = ""  #: why it takes none just now, for people


class Blocked(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A device takes no new jobs until further notice: somebody else uses it. What runs on it goes on."""

    device_id: str
    reason: str  #: for people; empty: it takes jobs again


class Vanished(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A device takes no jobs for now: its agent does not answer, or gave the device back."""

    device_id: str
    reason: str
    given_back: bool = False  #: to others who share it: it is taken again when jobs wait


class NodeDied(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Ray says that the node is dead."""

    node: str
    node_id: str


Report = Started | Refused | Ended | Appeared | Blocked | Vanished | NodeDied


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """What a pool has to say since it was last asked."""

    reports: tuple[Report, ...] = ()
    progress: tuple[Progress, ...] = field(default=())
    uses: tuple[DeviceUse, ...] = ()  #: of devices of which something was measured since


class DevicePool(Protocol):
    """The devices that can run jobs now, and what happens on them.

    Reports may come twice (after a controller's death) and late: the state machine ignores what is not current.
    A report is offered again to the next controller until `acknowledge`d.
    """

    def attach(self, epoch: int, holder: str = "") -> None:
        """Take over all agents for the controller of this epoch; each answers with an Appeared report.

        holder: tells two controllers of one number apart (a restored backup counts epochs anew); the first is obeyed.
        """
        ...

    def poll(self, timeout_s: float) -> Poll:
        """Wait until something is reported, `wake` is called, or the time is over."""
        ...

    def wake(self) -> None:
        """Make a waiting `poll` return (from another thread)."""
        ...

    def acknowledge(self) -> None:
        """All that `poll` returned so far stands in the journal."""
        ...

    @property
    def borrows(self) -> bool:
        """True where devices are shared with others, so that `need` has to be told."""
        ...

    def need(self, need: Need) -> None:
        """Hear what waits and what is idle, about once a second, nothing being placed meanwhile.

        A pool that `borrows` takes and gives back devices by it; all others ignore it.
        """
        ...

    def launch(self, order: LaunchOrder) -> None:
        """Start an attempt. Never blocks; idempotent by (job, attempt). Answered by Started, Refused or Ended."""
        ...

    def stop(self, job_id: str, attempt: int, goal: StopGoal) -> None:
        """Ask an attempt to stop, with SIGTERM, then SIGKILL. Never blocks. Answered by Ended."""
        ...


class ClusterKey(msgspec.Struct, frozen=True, kw_only=True, rename={"incarnation": "life"}):
    """All that lets a node join a workspace's Ray cluster. It holds the token: never in a command line."""

    workspace: str  #: absolute path
    address: str  #: host:port of the head
    incarnation: str  #: another with each start of the head
    token: str
    versions: dict[str, str]  #: of the head, see terry.cluster.host.versions
    foreign: bool = False  #: of a Ray cluster that others have started; its token may be empty: it asks for none


class NodeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """How one node is to join. Travels as JSON on standard input, or in a file of mode 0600."""

    key: ClusterKey
    name: str  #: of the node, in lists and device ids
    cpus: int | None = None  #: cores to be used; None: all that the system grants
    use: tuple[str, ...] = ()  #: devices, see nodes_file.DeviceChoice
    leave_out: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    interface: str | None = None
    ports: tuple[int, int] | None = None  #: first and last


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU of a node."""

    index: int
    uuid: str
    model: str


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a node was found to be."""

    host: str
    address: str  #: by which the others reach it
    versions: dict[str, str]
    cuda: str  #: that torch was built for; empty: none
    cores: int
    gpus: tuple[GpuFacts, ...]
    sees_workspace: bool
    clock: datetime  #: when this was found, by the node's own clock


class NodeState(StrEnum):
    """What came of asking a node to join."""

    JOINED = "joined"  #: it is in the cluster now
    WAITING = "waiting"  #: asked for; it comes when Slurm has room
    PRESENT = "present"  #: it was there already; nothing was touched
    UNREACHABLE = "unreachable"
    UNFIT = "unfit"  #: reached, but it cannot take part
    ENDED = "ended"  #: nothing of the cluster runs there any more


class NodeReport(msgspec.Struct, frozen=True, kw_only=True, rename={"problem": "trouble", "fix": "mend"}):
    """What is known of one node."""

    name: str
    state: NodeState
    host: str = ""  #: as terry.yaml has it
    problem: str = ""  #: what is wrong; empty where nothing is
    fix: str = ""  #: what to do about it
    facts: NodeFacts | None = None
    time: datetime | None = None  #: when it was asked

    @property
    def is_in(self) -> bool:
        """True where the node takes part."""
        return self.state in {NodeState.JOINED, NodeState.PRESENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """The cluster as it is: what a provider goes by."""

    key: ClusterKey
    members: frozenset[str]  #: names of the nodes that Ray counts as alive


class NodeProvider(Protocol):
    """Where nodes come from. Calls may be repeated at any time and change nothing that is right."""

    def reconcile(self, view: ClusterView) -> tuple[NodeReport, ...]:
        """Bring in what should be there and is not. Never raises for a node: its report says what is wrong."""
        ...

    def end(self) -> tuple[NodeReport, ...]:
        """End all of the workspace's cluster on these nodes, whatever state it is in."""
        ...
