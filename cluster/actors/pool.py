"""The DevicePool on Ray: one detached, named, restartable agent actor a device, found again by each controller.

All of it runs in the controller's thread: Ray calls back into a queue, and `poll` works the queue off. A call to an
agent may fail or be lost at any time. Then the agent is asked `hello` again once no launch is under way, and its
answer (Appeared, with the attempts that it knows) lets the controller put right whatever went missing.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import ray
from ray.exceptions import ActorDiedError, ActorUnschedulableError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from terry.cluster.actors.agent import AgentActor, AgentSettings, Place
from terry.cluster.actors.borrowing import Slot, plan_slots
from terry.cluster.agent.reports import AgentReply, StaleOrder
from terry.cluster.core.model import Device, DeviceKind, DeviceUse, Progress, StopGoal
from terry.cluster.errors import LostLease
from terry.cluster.nodes.records import ClusterMember
from terry.cluster.ports import Appeared, LaunchOrder, NodeDied, Poll, Report, Vanished
from terry.cluster.ray.daemons import LABEL_PREFIX, NAME_LABEL, START_LABEL
from terry.cluster.scheduling.demand import Need

_log = logging.getLogger(__name__)

_SCAN_NODES_S = 1.0
_POLL_S = 30.0
_RETRY_S = 0.3
#: Whoever has not looked for so long (stopped, frozen, a node's snapshot) was away himself: others were not silent.
_AWAY_S = 10.0
_SILENT_S = 120.0  # longer than a restart takes under load, with torch to import, and than a pause of its process


@dataclass(slots=True, eq=False)
class _Agent:
    """What the pool knows of one agent actor."""

    node: str
    node_id: str
    kind: DeviceKind
    handle: Any
    device: Device | None = None  #: None until its first answer
    taken_at: datetime | None = None  #: of a slot
    attached: bool = False
    asking: bool = False  #: a hello or poll is under way
    asked_at: float = 0.0  #: monotonic; when it was sent
    ask_at: float = 0.0  #: monotonic; not before, after a failure
    launches: int = 0  #: under way
    stops: dict[tuple[str, int], StopGoal] = field(default_factory=dict)  #: not known to have arrived
    seen: int = 0  #: newest report taken in
    returned: int = 0  #: newest report given to the controller
    acknowledged: int = 0  #: newest report in the journal


class RayPool:
    """See the module. One per controller life."""

    def __init__(
        self,
        settings: AgentSettings,
        namespace: str,
        members: Callable[[tuple[ClusterMember, ...]], None] | None = None,
        idle_after: Callable[[], float] | None = None,
    ) -> None:
        """`members` is told which nodes there are, whenever that has changed.

        idle_after: on a cluster of others, after how many seconds without a job a device of theirs is given back.
        """
        self._settings = settings
        self._idle_after = idle_after
        self._slots: dict[str, Slot] = {}  # by the agent's name: what is taken and given back
        self._found: frozenset[str] = frozenset()  # names of agents that were there before us
        self._reported: set[str] = set()  # devices of slots of which it was said that they were given back
        self._report_members = members
        self._namespace = namespace
        self._epoch, self._holder = 0, ""
        self._agents: dict[str, _Agent] = {}  # by actor name
        self._nodes: dict[str, ClusterMember] = {}  # by node id, those alive
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._scanned = 0.0
        self._looked = time.monotonic()
        self._reports: list[Report] = []
        self._progress: dict[str, Progress] = {}
        self._uses: dict[str, DeviceUse] = {}

    # DevicePool

    def attach(self, epoch: int, holder: str = "") -> None:
        """Take over all agents; create those that are missing."""
        self._epoch, self._holder = epoch, holder
        if self._idle_after is not None:
            self._found = _agents_there(self._namespace)
        self._scan_nodes()

    def poll(self, timeout_s: float) -> Poll:
        """See DevicePool. Raises LostLease where an agent obeys a newer controller."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._keep_asking()
            woken = self._take_one(max(0.0, min(deadline - time.monotonic(), _SCAN_NODES_S / 2)))
            while not self._queue.empty():
                woken = self._take_one(0.0) or woken
            if woken or self._reports or self._progress or time.monotonic() >= deadline:
                return self._hand_over()

    def wake(self) -> None:
        """Make a waiting `poll` return."""
        self._queue.put(None)

    def acknowledge(self) -> None:
        """All that `poll` has returned stands in the journal."""
        for agent in self._agents.values():
            agent.acknowledged = agent.returned

    @property
    def borrows(self) -> bool:
        """See DevicePool: on a Ray cluster of others."""
        return self._idle_after is not None

    def need(self, need: Need) -> None:
        """Take devices of others for what waits, give back those that have long had nothing to do."""
        if self._idle_after is None or not self._slots:
            return
        plan = plan_slots([self._now(slot, need.time) for slot in self._slots.values()], need, self._idle_after())
        for name in plan.give_back:
            self._give_back(name)
        for name in plan.take:
            self._start_agent(self._slots[name], need.time)
            self._slots[name] = replace(self._slots[name], tried=True)
        self._report_what_is_back(need)

    def launch(self, order: LaunchOrder) -> None:
        """Send the order to the device's agent."""
        agent = self._agent_of(order.device_id)
        if agent is None or order.epoch != self._epoch:
            return  # it is away (when it appears again the controller orders anew), or the order is not ours
        agent.launches += 1
        self._call(agent.handle.launch.remote(msgspec.json.encode(order)), partial(self._launched, agent))

    def stop(self, job_id: str, attempt: int, goal: StopGoal) -> None:
        """Ask every agent that may have the attempt."""
        for agent in self._agents.values():
            agent.stops[(job_id, attempt)] = goal
            if agent.attached:
                self._send_stop(agent, (job_id, attempt), goal)

    def node_is_dead(self, node_id: str) -> bool:
        """True for a node that is not in the cluster: it died, or belonged to an earlier cluster, which is gone."""
        return node_id not in self._nodes

    # nodes

    def _keep_asking(self) -> None:
        now = time.monotonic()
        away, self._looked = now - self._looked, now
        if away > _AWAY_S:
            self._was_away(away)
        if now - self._scanned >= _SCAN_NODES_S:
            self._scan_nodes()
        for agent in self._agents.values():
            if not agent.asking and now >= agent.ask_at:
                self._ask(agent)
        for name, agent in list(self._agents.items()):
            waits = name in self._slots and agent.device is None  # in Ray: somebody else holds the device
            if agent.asking and not waits and now - agent.asked_at > _POLL_S + _SILENT_S:
                self._replace(name, agent)

    def _was_away(self, away_s: float) -> None:
        """Begin to wait anew for answers that were asked for before."""
        _log.warning("this process was away for %.0f s: waiting for its agents anew", away_s)
        for agent in self._agents.values():
            agent.asked_at += away_s

    def _scan_nodes(self) -> None:
        self._scanned = time.monotonic()
        before = dict(self._nodes)
        alive = _newest_of_each_name(_ray_nodes())
        for node_id in [i for i in self._nodes if i not in alive]:
            self._node_died(node_id)
        for node_id, node in alive.items():
            if node_id not in self._nodes:
                self._nodes[node_id] = self._member(node)
            self._ensure_agents(node_id, node["Resources"], shared=NAME_LABEL not in (node.get("Labels") or {}))
        if self._report_members is not None and (before != self._nodes or not before):
            self._report_members(tuple(self._nodes.values()))

    def _member(self, node: dict[str, Any]) -> ClusterMember:
        labels: dict[str, str] = node.get("Labels") or {}
        name = labels.get(NAME_LABEL) or str(node["NodeManagerHostname"]).split(".")[0]
        if name in {member.name for member in self._nodes.values()}:
            name = f"{name}-{node['NodeID'][:4]}"
        return ClusterMember(
            name=name,
            node_id=node["NodeID"],
            address=node["NodeManagerAddress"],
            labels=tuple(sorted(k.removeprefix(LABEL_PREFIX) for k in labels if k.startswith(LABEL_PREFIX))),
        )

    def _node_died(self, node_id: str) -> None:
        name = self._nodes.pop(node_id).name
        for key in [k for k, a in self._agents.items() if a.node_id == node_id]:
            del self._agents[key]
        self._slots = {name: slot for name, slot in self._slots.items() if slot.node_id != node_id}
        self._reports.append(NodeDied(node=name, node_id=node_id))

    def _ensure_agents(self, node_id: str, resources: dict[str, float], *, shared: bool) -> None:
        """An agent on each device. Nodes of others have slots instead; what they need is known by `need`."""
        wanted = [(f"agent-{node_id}-gpu{i}", DeviceKind.GPU, 1.0) for i in range(int(resources.get("GPU", 0)))]
        if cores := resources.get("CPU", 0.0):
            wanted.append((f"agent-{node_id}-cpu", DeviceKind.CPU, cores))
        node = self._nodes[node_id]
        for name, kind, amount in wanted:
            slot = Slot(name=name, node=node.name, node_id=node_id, labels=node.labels, kind=kind, amount=amount)
            if self._idle_after is not None and shared:
                if name not in self._slots:
                    self._slots[name] = replace(slot, tried=name in self._found)
                if name not in self._found:
                    continue
                self._found -= {name}
            if name not in self._agents:
                self._start_agent(slot)

    def _start_agent(self, slot: Slot, now: datetime | None = None) -> None:
        handle = self._create(slot.name, slot.node_id, slot.kind, slot.amount)
        self._agents[slot.name] = _Agent(slot.node, slot.node_id, slot.kind, handle, taken_at=now)

    def _replace(self, name: str, agent: _Agent) -> None:
        """End an agent whose answer is lost, and its jobs with it: the next scan of the nodes creates another."""
        _log.warning("agent of %s: no answer for %.0f s: replacing it", agent.node, _POLL_S + _SILENT_S)
        ray.kill(agent.handle)
        del self._agents[name]
        if agent.attached and agent.device:
            self._reports.append(Vanished(device_id=agent.device.id, reason="its agent did not answer"))

    def _create(self, name: str, node_id: str, kind: DeviceKind, amount: float) -> Any:
        member = self._nodes[node_id]
        place = Place(node=member.name, node_id=node_id, labels=member.labels)
        # A detached actor outlives the controller; with hard affinity it dies for good with its node.
        return AgentActor.options(  # type: ignore[attr-defined]
            name=name,
            namespace=self._namespace,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            max_concurrency=16,
            num_cpus=amount if kind is DeviceKind.CPU else 0,
            num_gpus=amount if kind is DeviceKind.GPU else 0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        ).remote(msgspec.json.encode(self._settings), msgspec.json.encode(place), kind.value, amount)

    # devices of others

    def _now(self, slot: Slot, now: datetime) -> Slot:
        agent = self._agents.get(slot.name)
        if agent is None:
            return slot
        agent.taken_at = agent.taken_at or now
        return replace(slot, device=agent.device.id if agent.device else "", taken_at=agent.taken_at)

    def _give_back(self, name: str) -> None:
        """End the agent of a device on which nothing runs, or that still waits for it."""
        agent = self._agents.pop(name)
        agent.attached = False
        ray.kill(agent.handle)
        if agent.device is not None:
            self._gone_back(agent.device.id)

    def _gone_back(self, device_id: str) -> None:
        _log.info("%s: nothing has run on it for long: given back", device_id)
        self._reports.append(Vanished(device_id=device_id, reason="nothing has run on it for long", given_back=True))
        self._reported.add(device_id)

    def _report_what_is_back(self, need: Need) -> None:
        """Also of what an earlier controller gave back just before it died."""
        agents = {a.device.id for a in self._agents.values() if a.device}
        awaited = {(a.node_id, a.kind) for a in self._agents.values() if a.device is None}
        back = {(s.node_id, s.kind) for s in self._slots.values()} - awaited
        away = {d.id for d in need.devices if d.id not in agents and (d.node_id, d.kind) in back}
        self._reported -= agents
        for device_id in sorted(away - self._reported):
            self._gone_back(device_id)

    # calls and their answers

    def _ask(self, agent: _Agent) -> None:
        if agent.attached:
            assert agent.device is not None
            ref = agent.handle.poll.remote(self._epoch, agent.device.agent, agent.acknowledged, agent.seen, _POLL_S)
        elif agent.launches == 0:  # its answer must know of every launch that was sent
            ref = agent.handle.hello.remote(self._epoch, self._holder)
        else:
            return
        agent.asking, agent.asked_at = True, time.monotonic()
        self._call(ref, partial(self._answered, agent))

    def _call(self, ref: Any, then: Any) -> None:
        ref.future().add_done_callback(lambda future: self._queue.put((then, future)))

    def _take_one(self, timeout_s: float) -> bool:
        """Work off one answer. True if `wake` was called."""
        try:
            item = self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return False
        if item is None:
            return True
        then, future = item
        then(future)
        return False

    def _answered(self, agent: _Agent, future: Future[bytes]) -> None:
        agent.asking = False
        if agent not in self._agents.values():
            return
        try:
            reply = msgspec.json.decode(future.result(), type=AgentReply)
        except RayError as error:
            self._failed(agent, error)
            return
        if agent.device and agent.device.agent != reply.device.agent:  # another life of the agent's process
            agent.seen = agent.returned = agent.acknowledged = 0
            if agent.attached:  # restarted unnoticed: begin with a hello, which knows of every launch
                agent.device, agent.attached = reply.device, False
                return
        self._take_in(agent, reply)

    def _take_in(self, agent: _Agent, reply: AgentReply) -> None:
        first = not agent.attached
        agent.device, agent.attached = reply.device, True
        fresh = [report for number, report in reply.reports if number > agent.seen]
        agent.seen = max([agent.seen, *(number for number, _ in reply.reports)])
        # Ends first: an attempt whose end is reported is not missing from `running`, it is over.
        self._reports += fresh
        if first:
            self._reports.append(Appeared(device=reply.device, running=reply.running, blocked=reply.blocked))
            for key, goal in list(agent.stops.items()):
                self._send_stop(agent, key, goal)
        self._progress.update({p.job_id: p for p in reply.progress})
        if reply.use is not None:
            self._uses[reply.use.device_id] = reply.use

    def _launched(self, agent: _Agent, future: Future[None]) -> None:
        agent.launches -= 1
        self._check_call(agent, future)

    def _send_stop(self, agent: _Agent, key: tuple[str, int], goal: StopGoal) -> None:
        ref = agent.handle.stop.remote(self._epoch, key[0], key[1], goal.value)
        self._call(ref, partial(self._stopped, agent, key))

    def _stopped(self, agent: _Agent, key: tuple[str, int], future: Future[None]) -> None:
        if self._check_call(agent, future):
            agent.stops.pop(key, None)

    def _check_call(self, agent: _Agent, future: Future[None]) -> bool:
        try:
            future.result()
        except RayError as error:
            self._failed(agent, error)
            return False
        return True

    def _failed(self, agent: _Agent, error: Exception) -> None:
        if isinstance(error, RayTaskError) and isinstance(error.cause, StaleOrder):
            raise LostLease(str(error.cause)) from error
        _log.warning("agent of %s: %s", agent.device.id if agent.device else agent.node, error)
        if agent.attached and agent.device:
            self._reports.append(Vanished(device_id=agent.device.id, reason="its agent does not answer"))
        agent.attached = False
        agent.ask_at = time.monotonic() + _RETRY_S
        if isinstance(error, ActorDiedError | ActorUnschedulableError):  # perhaps for good: found again, or made anew
            self._agents = {name: known for name, known in self._agents.items() if known is not agent}

    def _agent_of(self, device_id: str) -> _Agent | None:
        return next((a for a in self._agents.values() if a.attached and a.device and a.device.id == device_id), None)

    def _hand_over(self) -> Poll:
        for agent in self._agents.values():
            agent.returned = agent.seen
        poll = Poll(
            reports=tuple(self._reports), progress=tuple(self._progress.values()), uses=tuple(self._uses.values())
        )
        self._reports, self._progress, self._uses = [], {}, {}
        return poll


def _agents_there(namespace: str) -> frozenset[str]:
    named: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
    return frozenset(actor["name"] for actor in named if actor["namespace"] == namespace)


def gcs_address() -> str:
    """host:port of the head of the cluster in which we are."""
    return str(ray.get_runtime_context().gcs_address)


def _newest_of_each_name(nodes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Nodes that are alive, by id. A node that was restarted may count as alive twice for some seconds."""
    alive = sorted((n for n in nodes if n["Alive"]), key=lambda n: int((n.get("Labels") or {}).get(START_LABEL, 0)))
    newest = {(n.get("Labels") or {}).get(NAME_LABEL, n["NodeID"]): n["NodeID"] for n in alive}
    return {n["NodeID"]: n for n in alive if n["NodeID"] in newest.values()}


def _ray_nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes
