"""The actor of a device: hosts its agent, which knows nothing of Ray."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import ray

from terry.cluster.actors.home import RayHome
from terry.cluster.actors.process import job_environment, log_to, run_for_ever
from terry.cluster.agent.agent import DeviceAgent
from terry.cluster.agent.forkserver_link import JobProcesses
from terry.cluster.agent.gate import DeviceGate
from terry.cluster.agent.gpu import NvmlGpu
from terry.cluster.agent.gpu_lock import lock_of
from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.agent.reports import AgentReply
from terry.cluster.away.courier import Courier
from terry.cluster.away.home import is_seen, until_seen
from terry.cluster.core.model import Device, DeviceKind, StopGoal
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host import hardware as node_probe
from terry.cluster.host import versions
from terry.cluster.nodes.records import reports
from terry.cluster.ports import LaunchOrder
from terry.cluster.ray.daemons import instance, runtime_folder
from terry.cluster.ray.head import read_head

_log = logging.getLogger("terry.cluster.actors.agent")

#: How often an agent that does not see the workspace looks whether it does.
_LOOK_FOR_HOME_S = 5.0


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every agent of a workspace is started with."""

    workspace: str  #: absolute path
    runtime: JobRuntime
    mark: str = ""  #: what the workspace is known by (terry.cluster.away.home); empty: it is seen everywhere
    namespace: str = ""  #: where the controller is found
    versions: dict[str, str] = msgspec.field(default_factory=dict)  #: of the head, which those of a node must match


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The node on which an agent stands."""

    node: str  #: its name
    node_id: str  #: Ray's id of its present life
    labels: tuple[str, ...] = ()


@ray.remote
class AgentActor:
    """Hosts a DeviceAgent."""

    def __init__(self, settings: bytes, place: bytes, kind: str, amount: float) -> None:
        self._settings = msgspec.json.decode(settings, type=AgentSettings)
        stands = msgspec.json.decode(place, type=Place)
        self._ready = threading.Event()
        self._agent: DeviceAgent
        gpu_ids: list[int | str] = list(ray.get_gpu_ids())
        run_for_ever("agent", lambda: self._serve(stands, DeviceKind(kind), amount, gpu_ids))

    def _serve(self, place: Place, kind: DeviceKind, amount: float, gpu_ids: list[int | str]) -> None:
        device = describe_device(place, kind, amount, gpu_ids)
        workspace = WorkspacePaths(Path(self._settings.workspace))
        courier = self._courier_for(workspace)
        device = replace(device, away=courier is not None)
        log = (courier.local if courier else workspace).agent_log(device.id)
        log.parent.mkdir(parents=True, exist_ok=True)
        log_to(log)
        environment = {**job_environment(), "CUDA_VISIBLE_DEVICES": device.uuid}
        mark = f"{instance(workspace)}/{device.id}"
        gpu = NvmlGpu(device.uuid) if kind is DeviceKind.GPU else None
        lock = lock_of(device.uuid) if kind is DeviceKind.GPU else None
        before = _at_join(workspace, place.node) if courier is None else None
        unfit = _unfit(place.node, kind, self._settings.versions, before)
        processes = JobProcesses(runtime=self._settings.runtime, environment=environment, log=log, mark=mark)
        self._agent = DeviceAgent(device, processes, DeviceGate(device, mark, gpu, lock, unfit), courier)
        self._agent.clear_predecessors()  # before `hello` says that nothing runs here
        if courier is not None:
            courier.tidy()
            threading.Thread(target=self._until_home, args=(workspace, self._agent), name="home", daemon=True).start()
        self._ready.set()
        self._agent.run()

    def _courier_for(self, workspace: WorkspacePaths) -> Courier | None:
        """For a node that does not see the workspace, though there may be a folder of its path: it is probed."""
        if not self._settings.mark or is_seen(workspace, self._settings.mark):
            return None
        return Courier(RayHome(self._settings.namespace), WorkspacePaths(runtime_folder(workspace) / "away"))

    def _until_home(self, workspace: WorkspacePaths, agent: DeviceAgent) -> None:
        """An agent that began while the workspace's disk was away ends once it is there: Ray starts the next."""
        until_seen(workspace, self._settings.mark, lambda: agent.is_idle, lambda: time.sleep(_LOOK_FOR_HOME_S))
        _log.warning("the workspace is seen here now: beginning anew")
        os._exit(1)

    def _hosted(self) -> DeviceAgent:
        if not self._ready.wait(30.0):
            raise TimeoutError("the agent has not started within 30 s")
        return self._agent

    def hello(self, epoch: int, holder: str = "") -> bytes:
        """See DeviceAgent."""
        return _encode(self._hosted().hello(epoch, holder))

    def poll(self, epoch: int, incarnation: str, acknowledged: int, seen: int, timeout_s: float) -> bytes:
        """See DeviceAgent."""
        return _encode(self._hosted().poll(epoch, incarnation, acknowledged, seen, timeout_s))

    def launch(self, order: bytes) -> None:
        """See DeviceAgent."""
        self._hosted().launch(msgspec.json.decode(order, type=LaunchOrder))

    def stop(self, epoch: int, job_id: str, attempt: int, goal: str) -> None:
        """See DeviceAgent."""
        self._hosted().stop(epoch, job_id, attempt, StopGoal(goal))


def _encode(reply: AgentReply) -> bytes:
    return msgspec.json.encode(reply)


def _at_join(workspace: WorkspacePaths, node: str) -> dict[str, str] | None:
    """Which versions the node had when it joined, or those of the head, where it is the head's; None: not known."""
    head = read_head(workspace)
    if head is not None and head.is_here and not head.foreign:
        return head.versions
    report = reports(workspace).get(node)
    return report.facts.versions if report is not None and report.facts is not None else None


def _unfit(node: str, kind: DeviceKind, wanted: dict[str, str], before: dict[str, str] | None = None) -> str:
    """Why no job must be placed on a device of this node, whoever uses it; empty where any may."""
    here = versions.installed()
    why = versions.mismatch(wanted, here, before) or (versions.lacks_cuda(here) if kind is DeviceKind.GPU else "")
    return f"{node}: {why}" if why else ""


def describe_device(place: Place, kind: DeviceKind, amount: float, gpu_ids: list[int | str]) -> Device:
    """The device that Ray has given to this process."""
    if kind is DeviceKind.CPU:
        return Device(
            id=f"{place.node}:cpu",
            node=place.node,
            node_id=place.node_id,
            labels=place.labels,
            kind=kind,
            capacity=amount,
            model=node_probe.cpu_model(),
            memory_bytes=node_probe.memory_bytes(),
            host_cores=node_probe.cpu_cores(),
        )
    index = int(gpu_ids[0])
    gpu = next(g for g in node_probe.gpus() if g.index == index)
    return Device(
        id=f"{place.node}:{index}",
        node=place.node,
        node_id=place.node_id,
        labels=place.labels,
        kind=kind,
        capacity=1.0,
        model=gpu.model,
        uuid=gpu.uuid,
        memory_bytes=gpu.memory_bytes,
        host_cores=node_probe.cpu_cores(),
    )
