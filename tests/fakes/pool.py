"""Fakes of the ports, which fulfil the same contract as the real ones (tests/contract), in memory and without waiting.

FakePool is a small world: nodes, agents, processes. It outlives controllers, and with a random generator it is unkind:
reports come late, twice and out of order, orders get lost with the connection.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from terry.cluster.core.model import AttemptEnd, Device, EndReason, Progress, StopGoal
from terry.cluster.files.paths import AttemptFolder, WorkspacePaths
from terry.cluster.ports import (
    Appeared,
    Blocked,
    Ended,
    LaunchOrder,
    NodeDied,
    Poll,
    Refused,
    Report,
    Started,
    Vanished,
)
from terry.cluster.scheduling.demand import Need

_REASONS = {
    StopGoal.CANCEL: EndReason.CANCELLED,
    StopGoal.PAUSE: EndReason.PAUSED,
    StopGoal.PREEMPT: EndReason.PREEMPTED,
}

#: Job functions whose process ends by itself, by name; all others run until they are stopped, or `FakePool.end`.
SCRIPTS = {
    "succeed": AttemptEnd(reason=EndReason.SUCCESS, exit_code=0, first_step_done=True),
    "crash": AttemptEnd(reason=EndReason.CRASHED, signal=signal.SIGSEGV, message="SIGSEGV"),
    "fail": AttemptEnd(reason=EndReason.EXCEPTION, exit_code=1, message="ValueError: made to fail"),
}


class FakeClock:
    """A clock that a test moves."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """The time that was set."""
        return self._now

    def monotonic(self) -> float:
        """Grows with `advance` alone."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self._now += timedelta(seconds=seconds)


@dataclass(slots=True)
class _Process:
    order: LaunchOrder
    pid: int
    end: AttemptEnd | None  # by its script


@dataclass(slots=True)
class _Agent:
    device: Device
    alive: bool = True
    epoch: int = 0
    processes: dict[tuple[str, int], _Process] = field(default_factory=dict)
    blocked: str = ""
    reports: list[Report] = field(default_factory=list)  # not acknowledged yet


@dataclass(slots=True)
class _Delivery:
    report: Report
    agent: str | None  # device id, where the agent offers it again until it is acknowledged
    after: int  # polls


class FakePool:
    """A DevicePool with a world of its own."""

    def __init__(self, devices: Iterable[Device], chaos: random.Random | None = None) -> None:
        self._chaos = chaos
        self._agents = {d.id: _Agent(replace(d, agent=d.agent or f"{d.id}#1")) for d in devices}
        self._deliveries: list[_Delivery] = []
        self._returned: list[tuple[str, Report]] = []
        self._incarnations = 1
        self._pids = 1000
        self._epoch = 0

    # DevicePool

    def attach(self, epoch: int, holder: str = "") -> None:
        """See DevicePool. All that an earlier controller did not acknowledge is offered again."""
        self._epoch = epoch
        self._deliveries.clear()
        self._returned.clear()
        for agent in self._agents.values():
            if agent.alive:
                self._connect(agent)

    def poll(self, timeout_s: float) -> Poll:
        """See DevicePool. Never waits; processes with a script come to their end."""
        self._follow_scripts()
        for delivery in self._deliveries:
            delivery.after -= 1
        ready = [d for d in self._deliveries if d.after < 0]
        self._deliveries = [d for d in self._deliveries if d.after >= 0]
        self._returned += [(d.agent, d.report) for d in ready if d.agent is not None]
        return Poll(reports=tuple(d.report for d in ready), progress=self._progress())

    @property
    def borrows(self) -> bool:
        """All devices are its own."""
        return False

    def need(self, need: Need) -> None:
        """See DevicePool."""

    def wake(self) -> None:
        """Nothing waits here."""

    def acknowledge(self) -> None:
        """See DevicePool."""
        for device_id, report in self._returned:
            agent = self._agents[device_id]
            if report in agent.reports:
                agent.reports.remove(report)
        self._returned.clear()

    def launch(self, order: LaunchOrder) -> None:
        """See DevicePool."""
        agent = self._agents.get(order.device_id)
        if agent is None or not agent.alive or agent.epoch != self._epoch or order.epoch < agent.epoch:
            return
        if self._chance(0.05):
            self._lose_connection(agent)
            return
        key = (order.job_id, order.attempt)
        if key in agent.processes or any(_names(report, key) for report in agent.reports):
            return
        if agent.blocked:
            self._offer(agent, Refused(job_id=key[0], attempt=key[1], message=agent.blocked, blocked=True))
            return
        folder = _folder(order)
        if folder.launch.exists():
            self._offer(agent, Refused(job_id=key[0], attempt=key[1], message="this attempt was started before"))
            return
        folder.root.mkdir(parents=True, exist_ok=True)
        folder.launch.write_bytes(msgspec.json.encode({"order": order, "device": agent.device}))
        self._pids += 1
        agent.processes[key] = _Process(order, self._pids, SCRIPTS.get(order.entrypoint.rpartition(":")[2]))
        self._offer(agent, Started(job_id=key[0], attempt=key[1], pid=self._pids))

    def stop(self, job_id: str, attempt: int, goal: StopGoal) -> None:
        """See DevicePool. The process obeys at once."""
        for agent in self._agents.values():
            if agent.alive and agent.epoch == self._epoch and (job_id, attempt) in agent.processes:
                if self._chance(0.05):
                    self._lose_connection(agent)
                else:
                    self._end(agent, (job_id, attempt), AttemptEnd(reason=_REASONS[goal]))

    # the world, for tests

    @property
    def devices(self) -> list[Device]:
        """All devices, with the present life of their agents."""
        return [agent.device for agent in self._agents.values()]

    def running(self) -> dict[tuple[str, int], str]:
        """Processes that live: (job id, attempt) -> device id."""
        return {key: device_id for device_id, agent in self._agents.items() for key in agent.processes}

    def end(self, job_id: str, end: AttemptEnd) -> None:
        """Let all processes of a job end so."""
        for agent in self._agents.values():
            for key in [key for key in agent.processes if key[0] == job_id]:
                self._end(agent, key, end)

    def kill_agent(self, device_id: str) -> None:
        """The agent dies, and its processes with it; what it had not reported is lost but for exit.json."""
        agent = self._agents[device_id]
        agent.alive = False
        agent.processes.clear()
        agent.reports.clear()
        self._deliver(Vanished(device_id=device_id, reason="its agent died"), None)

    def restart_agent(self, device_id: str) -> None:
        """Another life of the agent begins."""
        agent = self._agents[device_id]
        self._incarnations += 1
        agent.alive = True
        agent.device = replace(agent.device, agent=f"{device_id}#{self._incarnations}")
        self._connect(agent)

    def kill_node(self, node: str) -> None:
        """The node dies with all agents on it."""
        incarnations = {agent.device.node_id for agent in self._on(node)}
        for agent in self._on(node):
            self.kill_agent(agent.device.id)
        for node_id in incarnations:
            self._deliver(NodeDied(node=node, node_id=node_id), None)

    def restore_node(self, node: str) -> None:
        """Another life of the node begins."""
        self._incarnations += 1
        for agent in self._on(node):
            agent.device = replace(agent.device, node_id=f"{node}@{self._incarnations}")
            self.restart_agent(agent.device.id)

    def block(self, device_id: str, reason: str) -> None:
        """Somebody else uses the device from now on; with an empty reason: no longer."""
        agent = self._agents[device_id]
        agent.blocked = reason
        self._offer(agent, Blocked(device_id=device_id, reason=reason))

    def is_alive(self, device_id: str) -> bool:
        """True where the device's agent lives."""
        return self._agents[device_id].alive

    # inside

    def _on(self, node: str) -> list[_Agent]:
        return [agent for agent in self._agents.values() if agent.device.node == node]

    def _connect(self, agent: _Agent) -> None:
        """The agent obeys this controller: it offers again what is not acknowledged, then says what it runs."""
        agent.epoch = self._epoch
        for report in agent.reports:
            self._deliver(report, agent.device.id)
        there = Appeared(device=agent.device, running=tuple(agent.processes), blocked=agent.blocked)
        self._deliver(there, None)

    def _lose_connection(self, agent: _Agent) -> None:
        self._deliver(Vanished(device_id=agent.device.id, reason="it did not answer"), None)
        self._connect(agent)

    def _offer(self, agent: _Agent, report: Report) -> None:
        agent.reports.append(report)
        self._deliver(report, agent.device.id)

    def _deliver(self, report: Report, agent: str | None) -> None:
        # What an agent says of itself keeps its order; the rest may overtake it.
        late = 0 if agent is None or self._chaos is None else self._chaos.randrange(4)
        self._deliveries.append(_Delivery(report, agent, late))
        if agent is not None and self._chance(0.1):
            self._deliveries.append(_Delivery(report, agent, late + 2))

    def _end(self, agent: _Agent, key: tuple[str, int], end: AttemptEnd) -> None:
        process = agent.processes.pop(key)
        _folder(process.order).exit.write_bytes(msgspec.json.encode(end))
        self._offer(agent, Ended(job_id=key[0], attempt=key[1], end=end))

    def _follow_scripts(self) -> None:
        for agent in self._agents.values():
            for key, process in list(agent.processes.items()):
                if process.end is not None:
                    self._end(agent, key, process.end)

    def _progress(self) -> tuple[Progress, ...]:
        return tuple(
            Progress(job_id=key[0], attempt=key[1], step=1)
            for agent in self._agents.values()
            for key in agent.processes
        )

    def _chance(self, probability: float) -> bool:
        return self._chaos is not None and self._chaos.random() < probability


def _folder(order: LaunchOrder) -> AttemptFolder:
    return WorkspacePaths(Path(order.workspace)).run(order.job_id).attempt(order.attempt)


def _names(report: Report, key: tuple[str, int]) -> bool:
    return isinstance(report, Started | Refused | Ended) and (report.job_id, report.attempt) == key


class FakeGpu:
    """A GpuDriver whose driver says what a test wants."""

    def __init__(self) -> None:
        self.pids: frozenset[int] = frozenset()
        self.pending: list[int] = []  #: Xid errors that were not asked for yet
        self.used = 0
        self.busy: float | None = None  #: utilisation, 0 to 1
        self.celsius: float | None = None

    def processes(self) -> frozenset[int]:
        """See GpuDriver."""
        return self.pids

    def xids(self) -> tuple[int, ...]:
        """See GpuDriver."""
        found, self.pending[:] = tuple(self.pending), []
        return found

    def memory_used(self) -> int:
        """See GpuDriver."""
        return self.used

    def utilisation(self) -> float | None:
        """See GpuDriver."""
        return self.busy

    def temperature(self) -> float | None:
        """See GpuDriver."""
        return self.celsius
