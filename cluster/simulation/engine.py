"""A cluster played through without a cluster: the real state machine and the real scheduler under a clock of events.

Nothing is written again here: events go through state_machine.apply, placements from plan. Only the world is
made up: how long a job runs, what crashes when, which node dies. Deterministic for a seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from time import perf_counter

from terry.cluster.core import events as e
from terry.cluster.core.capacity import Class
from terry.cluster.core.events import Event, Stop
from terry.cluster.core.model import AttemptEnd, Device, DeviceKind, EndReason, Job, JobState, StopGoal
from terry.cluster.core.policy import Policy
from terry.cluster.core.state_machine import State, follow
from terry.cluster.scheduling.plan import plan, why_waiting

#: When simulated time begins.
START = datetime(2026, 1, 1, tzinfo=UTC)
#: A job that is asked to leave writes its checkpoint so long (seconds).
GRACE_S = 5.0
#: Of so many jobs that never ran it is told why.
_UNPLACED_MOST = 20

_LEFT = {StopGoal.PREEMPT: EndReason.PREEMPTED, StopGoal.PAUSE: EndReason.PAUSED, StopGoal.CANCEL: EndReason.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A job that will be submitted."""

    at_s: float  #: seconds from the beginning
    job: Job
    seconds: float  #: that it runs on a device of speed 1, if nothing goes wrong
    memory_bytes: int = 0  #: of a GPU that it will be seen to use


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is made up."""

    devices: tuple[Device, ...]
    speeds: dict[str, float] = field(default_factory=dict)  #: model of device -> speed; default 1
    start_s: float = 0.0  #: from the grant of a device until the job works
    checkpoint_s: float = 60.0  #: of work between two checkpoints: what is after the last is lost at a crash
    crash_every_s: float | None = None  #: mean time of running between two crashes of one job
    node_fails_every_s: float | None = None  #: mean time between two deaths of one node
    node_back_after_s: float = 600.0
    undrain_after_s: float | None = None  #: somebody looks after a drained device then, and takes it back; None: nobody
    turn_s: float = 0.0  #: what happens within so long is decided about at once, as in a turn of the controller
    seed: int = 1


@dataclass(slots=True)
class SimulationOutcome:
    """What came of it. Times in seconds from the beginning."""

    jobs: int = 0
    completed: int = 0
    failed: int = 0
    makespan_s: float = 0.0  #: until the last job ended
    waits_s: dict[str, float] = field(default_factory=dict)  #: job -> from when it could run until it first ran
    user_waits_s: dict[str, list[float]] = field(default_factory=dict)  #: user -> of each of his jobs that ran
    ends_s: dict[str, float] = field(default_factory=dict)
    used_s: Counter[tuple[DeviceKind, str]] = field(default_factory=Counter)  #: kind, user -> device-seconds held
    capacity: dict[DeviceKind, float] = field(default_factory=dict)
    #: By kind: device-seconds of devices of such a model that a job waited for one, and how much of them was held.
    contended_there_s: dict[DeviceKind, float] = field(default_factory=dict)
    contended_used_s: dict[DeviceKind, float] = field(default_factory=dict)
    restarts: int = 0
    preempted: int = 0
    node_deaths: int = 0
    drained: int = 0  #: times that a device was drained
    events: int = 0
    plan_s: list[float] = field(default_factory=list)  #: real time that each turn of planning took
    unplaced: dict[str, str] = field(default_factory=dict)  #: job -> why it still waits


@dataclass(slots=True)
class _Running:
    attempt: int
    device: Class
    share: float
    placed_s: float
    began_s: float  # working, not starting
    speed: float
    done_s: float  # of its work, when it began
    leaves: StopGoal | None = None


class Simulation:
    """One play. `tick` is called with (simulated seconds, jobs ended) now and then; `probe` after each turn."""

    def __init__(
        self,
        world: World,
        arrivals: Iterable[Arrival],
        policy: Policy | None = None,
        *,
        probe: Callable[[Simulation], None] | None = None,
    ) -> None:
        """`arrivals` in order of time."""
        self.state, self.now_s = State(), 0.0
        self.outcome = SimulationOutcome()
        self._world, self._policy, self._probe = world, policy or Policy(), probe
        self._arrivals: Iterator[Arrival] = iter(arrivals)
        self._random = random.Random(world.seed)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._known: dict[str, Arrival] = {}
        self._running: dict[str, _Running] = {}
        self._done: dict[str, float] = {}  # job -> seconds of its work that a checkpoint holds
        self._ready: dict[str, float] = {}  # job -> since when it could run
        self._wake: float | None = None
        self._open = 0  # jobs that have not ended
        self._incarnations: Counter[str] = Counter()
        self._held: Counter[Class] = Counter()
        self._there: Counter[Class] = Counter()
        self._away: set[str] = set()  # nodes
        self._drained = 0  # devices that somebody will look after
        self._all_arrived = False

    @property
    def now(self) -> datetime:
        """Simulated time."""
        return START + timedelta(seconds=self.now_s)

    def run(self, tick: Callable[[float, int], None] | None = None) -> SimulationOutcome:
        """Play until all jobs have ended, or nothing can happen any more."""
        self._begin()
        turns = 0
        while self._heap and self._open:
            self._advance(self._heap[0][0] + self._world.turn_s)
            while self._heap and self._heap[0][0] <= self.now_s:
                heapq.heappop(self._heap)[2]()
            self._plan()
            if self._is_stuck():
                break
            if self._probe is not None:
                self._probe(self)
            turns += 1
            if tick is not None and turns % 1000 == 0:
                tick(self.now_s, len(self.outcome.ends_s))
        return self._finish()

    def _begin(self) -> None:
        self._record(
            e.PolicyApplied(
                time=self.now, half_life_s=self._policy.half_life_s, longest_first=self._policy.longest_first
            )
        )
        for device in self._world.devices:
            self._record(e.DeviceSeen(time=self.now, device=device))
            self._there[device.kind, device.model] += device.capacity  # type: ignore[assignment]
            self.outcome.capacity[device.kind] = self.outcome.capacity.get(device.kind, 0.0) + device.capacity
        for node in dict.fromkeys(device.node for device in self._world.devices):
            self._plan_death(node)
        self._next_arrival()

    def _finish(self) -> SimulationOutcome:
        outcome = self.outcome
        outcome.jobs = len(self.state.jobs)
        outcome.makespan_s = max(outcome.ends_s.values(), default=0.0)
        outcome.events = self.state.seq
        for record in self.state.jobs.values():
            outcome.completed += record.state is JobState.COMPLETED
            outcome.failed += record.state in {JobState.FAILED, JobState.CANCELLED}
            outcome.restarts += record.restarts
            if not record.state.is_final and len(outcome.unplaced) < _UNPLACED_MOST:
                outcome.unplaced[record.job.id] = why_waiting(self.state, record.job.id, self.now, self._policy)
        return outcome

    # events

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (seconds, next(self._numbers), action))

    def _record(self, event: Event) -> None:
        for applied, commands in follow(self.state, event):
            for command in commands:
                if isinstance(command, Stop):
                    self._leave(command)
            job_id = getattr(applied, "job_id", None)
            if isinstance(applied, e.DeviceDrained):
                self._look_after(applied.device_id)
            elif job_id is not None:
                self._account_for(job_id)

    def _account_for(self, job_id: str) -> None:
        """Keep account of since when a job could run, and of its end."""
        record = self.state.jobs[job_id]
        if record.state is JobState.PENDING and not record.attempts:
            self._ready[job_id] = self.now_s
        elif record.state.is_final and job_id not in self.outcome.ends_s:
            self.outcome.ends_s[job_id] = self.now_s
            self._open -= 1
            self._known.pop(job_id, None)
            self._done.pop(job_id, None)

    def _next_arrival(self) -> None:
        arrival = next(self._arrivals, None)
        self._all_arrived = arrival is None
        if arrival is not None:
            self._open += 1
            self._at(arrival.at_s, lambda: self._arrive(arrival))

    def _arrive(self, arrival: Arrival) -> None:
        job_id = arrival.job.id
        self._known[job_id] = arrival
        self._record(e.Submitted(time=self.now, job=arrival.job))
        self._account_for(job_id)
        self._next_arrival()

    # attempts

    def _plan(self) -> None:
        if self._wake is not None and self._wake <= self.now_s:
            self._wake = None
        while True:
            began = perf_counter()
            made = plan(self.state, self.now, self._policy)
            self.outcome.plan_s.append(perf_counter() - began)
            for placement in made.placements:
                self._place(placement.job_id, placement.allocation)
            for leave in made.preemptions:
                self.outcome.preempted += 1
                self._record(e.PreemptRequested(time=self.now, job_id=leave.job_id, reason=leave.reason))
            if len(made.placements) < self._policy.placements_per_turn:
                break
        if made.wake_at is not None:
            wake = (made.wake_at - START).total_seconds()
            if self._wake is None or wake < self._wake:
                self._wake = wake
                self._at(max(wake, self.now_s), lambda: None)

    def _place(self, job_id: str, allocation: object) -> None:
        attempt = self.state.jobs[job_id].attempt + 1
        self._record(e.Placed(time=self.now, job_id=job_id, attempt=attempt, allocation=allocation))  # type: ignore[arg-type]
        if attempt == 1:
            self._waited(job_id, self.now_s - self._ready.pop(job_id, self.now_s))
        self._record(e.AttemptStarted(time=self.now, job_id=job_id, attempt=attempt, pid=1))
        granted = self.state.jobs[job_id].allocation
        assert granted is not None
        device = self.state.devices[granted.device].device
        key, speed = (device.kind, device.model), self._world.speeds.get(device.model, 1.0)
        done = self._done.get(job_id, 0.0)
        run = _Running(attempt, key, granted.share, self.now_s, self.now_s + self._world.start_s, speed, done)
        self._running[job_id] = run
        self._held[key] += granted.share  # type: ignore[assignment]
        ends = run.began_s + max(0.0, self._known[job_id].seconds - done) / speed
        if self._world.crash_every_s is not None:
            crash = run.began_s + self._random.expovariate(1 / self._world.crash_every_s)
            if crash < ends:
                self._at(crash, lambda: self._end(job_id, attempt, EndReason.CRASHED))
                return
        self._at(ends, lambda: self._end(job_id, attempt, EndReason.SUCCESS))

    def _waited(self, job_id: str, seconds: float) -> None:
        self.outcome.waits_s[job_id] = seconds
        self.outcome.user_waits_s.setdefault(self.state.jobs[job_id].job.owner, []).append(seconds)

    def _leave(self, stop: Stop) -> None:
        run = self._running.get(stop.job_id)
        if run is not None and run.attempt == stop.attempt:
            first, run.leaves = run.leaves is None, stop.goal
            if first:
                self._at(self.now_s + GRACE_S, lambda: self._left(stop.job_id, stop.attempt))

    def _left(self, job_id: str, attempt: int) -> None:
        run = self._running.get(job_id)
        if run is not None and run.attempt == attempt and run.leaves is not None:
            self._end(job_id, attempt, _LEFT[run.leaves])

    def _end(self, job_id: str, attempt: int, reason: EndReason) -> None:
        run = self._running.get(job_id)
        if run is None or run.attempt != attempt:
            return  # it has left, or was lost with its node
        saved = self._stop_working(job_id, run, whole=reason in {EndReason.SUCCESS, EndReason.PREEMPTED})
        end = AttemptEnd(
            reason=reason,
            signal=signal.SIGSEGV if reason is EndReason.CRASHED else None,
            step=int(saved),
            checkpoint_step=int(saved) or None,
            first_step_done=True,
            device_memory_bytes=self._known[job_id].memory_bytes,
        )
        self._record(e.AttemptEnded(time=self.now, job_id=job_id, attempt=attempt, end=end))

    def _stop_working(self, job_id: str, run: _Running, *, whole: bool) -> float:
        """The job's process is gone; returns the seconds of its work that are saved: all, or up to a checkpoint."""
        del self._running[job_id]
        self._held[run.device] -= run.share  # type: ignore[assignment]
        owner = self.state.jobs[job_id].job.owner
        self.outcome.used_s[run.device[0], owner] += run.share * (self.now_s - run.placed_s)  # type: ignore[assignment]
        done = run.done_s + max(0.0, self.now_s - run.began_s) * run.speed
        saved = done if whole else max(run.done_s, done // self._world.checkpoint_s * self._world.checkpoint_s)
        self._done[job_id] = saved
        return saved

    # nodes

    def _plan_death(self, node: str) -> None:
        if self._world.node_fails_every_s is not None:
            after = self._random.expovariate(1 / self._world.node_fails_every_s)
            self._at(self.now_s + after, lambda: self._die(node))

    def _die(self, node: str) -> None:
        self.outcome.node_deaths += 1
        for device_id in self.state.nodes[node]:
            for job_id in self.state.on_device.get(device_id, ()):
                self._stop_working(job_id, self._running[job_id], whole=False)
        incarnation = self.state.devices[self.state.nodes[node][0]].device.node_id
        self._count_node(node, -1)
        self._record(e.NodeLost(time=self.now, node=node, node_id=incarnation))
        self._at(self.now_s + self._world.node_back_after_s, lambda: self._return(node))

    def _return(self, node: str) -> None:
        self._incarnations[node] += 1
        self._count_node(node, 1)
        for device in self._world.devices:
            if device.node == node:
                again = replace(device, node_id=f"{device.node_id}+{self._incarnations[node]}")
                self._record(e.DeviceSeen(time=self.now, device=again))
        self._plan_death(node)

    def _look_after(self, device_id: str) -> None:
        self.outcome.drained += 1
        if self._world.undrain_after_s is not None:
            self._drained += 1
            self._at(self.now_s + self._world.undrain_after_s, lambda: self._undrain(device_id))

    def _undrain(self, device_id: str) -> None:
        self._drained -= 1
        self._record(e.DeviceUndrained(time=self.now, device_id=device_id))

    def _count_node(self, node: str, sign: int) -> None:
        (self._away.discard if sign > 0 else self._away.add)(node)
        for device in self._world.devices:
            if device.node == node:
                self._there[device.kind, device.model] += sign * device.capacity  # type: ignore[assignment]

    # the meter

    def _advance(self, to_s: float) -> None:
        """Time goes by: what is there and held while jobs wait is counted."""
        seconds, outcome = to_s - self.now_s, self.outcome
        for key in self._wanted():
            for table, value in (
                (outcome.contended_used_s, self._held[key]),
                (outcome.contended_there_s, self._there[key]),
            ):
                table[key[0]] = table.get(key[0], 0.0) + value * seconds
        self.now_s = to_s

    def _wanted(self) -> set[Class]:
        """Kinds and models of devices that some job waits for."""
        return {
            key
            for demand in self.state.pending
            for key in self._there
            if key[0] is demand.kind and (demand.device is None or fnmatchcase(key[1], demand.device))
        }

    def used_s(self) -> Counter[tuple[DeviceKind, str]]:
        """Device-seconds that each user has held so far, also of what runs now."""
        used = Counter(self.outcome.used_s)
        for job_id, run in self._running.items():
            used[run.device[0], self.state.jobs[job_id].job.owner] += run.share * (self.now_s - run.placed_s)  # type: ignore[assignment]
        return used

    def _is_stuck(self) -> bool:
        """True where nothing is left that could change anything."""
        to_come = self._running or self._away or self._drained
        return not to_come and self._all_arrived and self._wake is None
