"""Why a job waits, in one line for people: dependencies, back-off, limits, devices, memory, whose turn it is. Pure."""

from __future__ import annotations

from datetime import datetime

from terry.cluster.core.model import Device, DeviceKind, JobRecord, JobState
from terry.cluster.core.policy import Limit, Policy, lookup
from terry.cluster.core.state import EPSILON, Demand, State, demand_of
from terry.cluster.scheduling.fitting import jobs_on, matches, memory_lacking
from terry.cluster.scheduling.turns import Shares, Turn, Turns


def why_waiting(state: State, job_id: str, now: datetime, policy: Policy | None = None) -> str:
    """One line for people: why the job does not run now. Empty where it runs or has ended."""
    record = state.jobs[job_id]
    if record.state is JobState.WAITING:
        return _why_dependencies(state, record)
    if record.state is JobState.HELD:
        return f"held: {record.reason}" if record.reason else "held"
    if record.state is not JobState.PENDING:
        return ""
    if record.not_before is not None and record.backs_off(now):
        return f"backs off until {record.not_before.astimezone():%H:%M:%S}: {record.reason}"
    return _Why(state, record, now, policy or Policy()).text()


def is_for_devices(reason: str) -> bool:
    """Whether `why_waiting` has said that devices are lacking: who says why none comes adds it."""
    lacking = ("waits for a GPU", "waits for CPU cores", "waits for a device to itself", "all ")
    return reason.startswith(lacking) or " busy but for " in reason


def _why_dependencies(state: State, record: JobRecord) -> str:
    open_ones = [d for d in record.job.depends_on if not state.is_completed(d)]
    if record.job.minimum is not None:
        open_ones = [d for d in open_ones if not state.is_broken(d)]
    if not open_ones:
        return "starts in a moment"
    first = state.jobs.get(open_ones[0])
    more = f" and {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
    return f"waits for {open_ones[0]} ({first.state if first else 'unknown'}){more}"


class _Why:
    """The reasons of one PENDING job, the weightiest first."""

    def __init__(self, state: State, record: JobRecord, now: datetime, policy: Policy) -> None:
        self._state, self._record, self._policy, self._when = state, record, policy, now
        self._demand: Demand = demand_of(record)
        self._shares = Shares(state, now, policy)
        self._noun = "a GPU" if self._demand.kind is DeviceKind.GPU else "CPU cores"

    def text(self) -> str:
        """The line."""
        demand = self._demand
        of_kind = [r for r in self._state.devices.values() if r.device.kind is demand.kind]
        online = [r for r in of_kind if r.online]
        matching = [r for r in online if matches(r.device, demand)]
        able = [r for r in matching if r.device.capacity + EPSILON >= demand.share]
        usable = [r for r in able if not r.drained]
        back = [r for r in of_kind if r.given_back and not r.drained and matches(r.device, demand)]
        if back and not matching:
            which = f"{back[0].device.id} is" if len(back) == 1 else f"{len(back)} that were given back are"
            return f"waits for {self._noun}: {which} taken again as soon as nobody else holds it in Ray"
        if not online:
            none = "none is online" if not of_kind else f"none of {len(of_kind)} is online"
            return f"waits for {self._noun}: {none}"
        if not matching:
            wanted = " and ".join(f"{k} {v!r}" for k, v in (("node", demand.node), ("device", demand.device)) if v)
            seen = " and sees the workspace" if wanted and demand.at_home else ""
            what = f"matches {wanted}{seen}" if wanted else "is on a node that sees the workspace"
            return f"waits for {self._noun}: none online {what}"
        if not able:
            largest = max(r.device.capacity for r in matching)
            return f"waits for {self._noun}: it asks for {demand.share:g}, and the largest device has {largest:g}"
        if not usable:
            return f"waits for {self._noun}: all that match are drained ({able[0].drain_reason})"
        blocked = [r for r in usable if r.blocked]
        if len(blocked) == len(usable):
            more = f", and so are {len(blocked) - 1} more" if len(blocked) > 1 else ""
            return f"waits for {self._noun}: {blocked[0].blocked}{more}"
        return self._limited() or self._busy([r.device for r in usable if not r.blocked], len(blocked))

    def _limited(self) -> str:
        job = self._record.job
        for what, name, sweep in (("user", job.owner, ""), ("sweep", job.sweep, job.sweep)):
            limit = self._shares.limit_of(self._demand, job.owner, sweep)
            if limit is not None:
                return f"at a limit of the {what} {name}: {self._over(limit, sweep)}"
        return ""

    def _over(self, limit: Limit, sweep: str) -> str:
        """Which figure of a limit is reached, in words."""
        kind, owner = self._demand.kind, self._record.job.owner
        rate, most = self._state.ledger.rate((kind, owner, sweep)), limit.of(kind)
        if most is not None and rate + self._demand.share > most + EPSILON:
            noun = "GPUs" if kind is DeviceKind.GPU else "CPU cores"
            return f"{rate:g} of at most {most:g} {noun} in use"
        return f"{self._state.ledger.jobs(owner, sweep)} of at most {limit.jobs} jobs run"

    def _busy(self, devices: list[Device], blocked: int = 0) -> str:
        demand, state = self._demand, self._state
        free = sum(state.free(d.id) for d in devices)
        many = f"{len(devices)} GPU{'s' if len(devices) > 1 else ''}"
        what = many if demand.kind is DeviceKind.GPU else f"{sum(d.capacity for d in devices):g} cores"
        if demand.exclusive and free > EPSILON:
            return f"waits for a device to itself ({what} in use by others)"
        if free + EPSILON < demand.share:
            others = f", {blocked} more in use by others" if blocked else ""
            all_busy = f"all {what} busy" if free <= EPSILON else f"{what} busy but for {free:g}; it asks for "
            return self._whose_turn((all_busy if free <= EPSILON else f"{all_busy}{demand.share:g}") + others)
        fitting = [d for d in devices if state.free(d.id) + EPSILON >= demand.share]
        return self._unfit(fitting) or self._whose_turn("") or "starts in a moment"

    def _unfit(self, devices: list[Device]) -> str:
        """Why none of the devices with enough free takes it, where none does."""
        if not devices:
            return self._whose_turn("what is free lies on several devices, on none enough")
        if all(self._node_is_full(d.node) for d in devices):
            return f"at a limit of the node {devices[0].node}: {jobs_on(self._state, devices[0].node)} jobs run there"
        if all(self._lacks_memory(d) for d in devices):
            need = (self._state.expected_memory(self._record.job) or 0.0) / 1e9
            known = f" (jobs like it needed {need:.1f} GB)" if need else ""
            return f"no GPU with a free share has memory enough beside what runs there{known}"
        return ""

    def _node_is_full(self, node: str) -> bool:
        limit = lookup(self._policy.node_limits, node)
        return limit is not None and limit.jobs is not None and jobs_on(self._state, node) >= limit.jobs

    def _lacks_memory(self, device: Device) -> bool:
        there = [self._state.jobs[job_id] for job_id in self._state.on_device.get(device.id, ())]
        return bool(there) and memory_lacking(self._state, device, [*there, self._record]) > 0.0

    def _had(self, owner: str, lately: str = "") -> str:
        """What somebody has had of his share, in figures that he can check: by these, and his weight, turns go."""
        key, gpu = (self._demand.kind, owner, ""), self._demand.kind is DeviceKind.GPU
        ledger, weight = self._state.ledger, lookup(self._policy.user_weights, owner) or 1.0
        weighs = f" (weight {weight:g})" if weight != 1.0 else ""
        had = f"{ledger.used(key, self._when.timestamp()) / 3600:.1f}"
        hours = f" {'GPU' if gpu else 'core'}-hours{lately}" if lately else ""
        verb = " has had" if lately else ""
        return f"{owner}{weighs}{verb} {had}{hours} ({ledger.rate(key):g} {'GPUs' if gpu else 'cores'} now)"

    def _whose_turn(self, so_far: str) -> str:
        """Who goes first, and why: priority, age, his share, or order. Else what is known so far."""
        record, first = self._record, self._first()
        if first is None or first.record.job.id == record.job.id:
            return so_far
        before = f"{so_far}; " if so_far else ""
        job = first.record.job
        if first.record.priority < record.priority:
            return f"{before}waits behind {job.id}, which has gained priority by waiting long"
        if first.record.priority > record.priority:
            return f"{before}waits behind jobs of priority {first.record.priority} (it has {record.priority})"
        if job.owner != record.job.owner and self._score(job.owner) < self._score(record.job.owner):
            return f"{before}waits for its share: {self._had(job.owner, ' lately')}, {self._had(record.job.owner)}"
        return so_far or f"waits behind {job.id}, whose turn it is"

    def _first(self) -> Turn | None:
        """The job for a device of its kind whose turn it is."""
        turns = Turns(self._state, self._when, self._policy)
        while (turn := turns.next()) is not None and turn.demand.kind is not self._demand.kind:
            turns.close(turn.demand)
        return turn

    def _score(self, owner: str) -> float:
        return self._shares.score(self._demand.kind, owner)
