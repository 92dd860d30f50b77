"""The two actors: the agent of a device, and the host of the controller. Thin: what they host knows nothing of Ray.

Ray restarts them when their process dies (`max_restarts=-1`), but never after an exception in `__init__`: so `__init__`
only starts a thread, and whatever goes wrong in it ends the process after a pause.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import msgspec
import ray

from terry.cluster.actors.home import RayHome
from terry.cluster.agent.agent import AgentReply, DeviceAgent
from terry.cluster.agent.forkserver import load
from terry.cluster.agent.gpu import NvmlGpu
from terry.cluster.agent.gpu_lock import lock_of
from terry.cluster.agent.job_runtime import TERRY_JOBS, JobRuntime
from terry.cluster.away.courier import Courier
from terry.cluster.away.home import Home, is_seen
from terry.cluster.core.model import Device, DeviceKind, StopGoal
from terry.cluster.errors import UserError
from terry.cluster.files.durable import make_way
from terry.cluster.files.paths import Workspace
from terry.cluster.host import hardware as node_probe
from terry.cluster.host import versions
from terry.cluster.ports import LaunchOrder
from terry.cluster.ray.daemons import instance, runtime_folder

_log = logging.getLogger(__name__)

_PAUSE_S = 1.0
_PAUSE_FOR_PEOPLE_S = 20.0


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


def log_to(path: Path) -> None:
    """Send this process's log to a file of its own, at most about 10 MB."""
    make_way(path)
    handler = RotatingFileHandler(path, maxBytes=5_000_000, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("terry")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def run_for_ever(what: str, work: Callable[[], None]) -> None:
    """Run `work` in a permanent thread. If it fails, log it, pause, and end the process: Ray starts a new one."""

    def body() -> None:
        pause = _PAUSE_S
        try:
            work()
        except UserError as error:  # a damaged journal, say: a person has to mend it
            _log.error("%s: %s", what, error)
            pause = _PAUSE_FOR_PEOPLE_S
        except BaseException:
            _log.exception("%s failed", what)
        else:
            return
        time.sleep(pause)
        os._exit(1)

    threading.Thread(target=body, name=what, daemon=True).start()


def job_environment() -> dict[str, str]:
    """The environment that jobs inherit: ours without Ray's settings, above all without the path of the token."""
    return {
        k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TERRY_AGENT", "TERRY_HEAD", "TERRY_INSTANCE"))
    }


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
        workspace = Workspace(Path(self._settings.workspace))
        courier = self._courier_for(workspace)
        device = replace(device, away=courier is not None)
        log = (courier.local if courier else workspace).agent_log(device.id)
        log.parent.mkdir(parents=True, exist_ok=True)
        log_to(log)
        environment = {**job_environment(), "CUDA_VISIBLE_DEVICES": device.uuid}
        mark = f"{instance(workspace)}/{device.id}"
        gpu = NvmlGpu(device.uuid) if kind is DeviceKind.GPU else None
        lock = lock_of(device.uuid) if kind is DeviceKind.GPU else None
        unfit = _unfit(place.node, kind, self._settings.versions)
        self._agent = DeviceAgent(device, self._settings.runtime, environment, log, mark, gpu, lock, unfit, courier)
        self._agent.clear_predecessors()  # before `hello` says that nothing runs here
        if courier is not None:
            courier.tidy()
        self._ready.set()
        self._agent.run()

    def _courier_for(self, workspace: Workspace) -> Courier | None:
        """For a node that does not see the workspace, though there may be a folder of its path: it is probed."""
        if not self._settings.mark or is_seen(workspace, self._settings.mark):
            return None
        return Courier(RayHome(self._settings.namespace), Workspace(runtime_folder(workspace) / "away"))

    def _hosted(self) -> DeviceAgent:
        if not self._ready.wait(30.0):
            raise TimeoutError("the agent has not started within 30 s")
        return self._agent

    def hello(self, epoch: int) -> bytes:
        """See DeviceAgent."""
        return _encode(self._hosted().hello(epoch))

    def poll(self, epoch: int, life: str, acknowledged: int, seen: int, timeout_s: float) -> bytes:
        """See DeviceAgent."""
        return _encode(self._hosted().poll(epoch, life, acknowledged, seen, timeout_s))

    def launch(self, order: bytes) -> None:
        """See DeviceAgent."""
        self._hosted().launch(msgspec.json.decode(order, type=LaunchOrder))

    def stop(self, epoch: int, job_id: str, attempt: int, goal: str) -> None:
        """See DeviceAgent."""
        self._hosted().stop(epoch, job_id, attempt, StopGoal(goal))


def _encode(reply: AgentReply) -> bytes:
    return msgspec.json.encode(reply)


def _unfit(node: str, kind: DeviceKind, wanted: dict[str, str]) -> str:
    """Why no job must be placed on a device of this node, whoever uses it; empty where any may."""
    here = versions.installed()
    why = versions.mismatch(wanted, here) or (versions.lacks_cuda(here) if kind is DeviceKind.GPU else "")
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


def home_of(workspace: Workspace, runtime: JobRuntime = TERRY_JOBS) -> Home:
    """The workspace's side for nodes that do not see it."""

    def needed(root: str, order: LaunchOrder) -> list[str]:
        found: list[str] = load(runtime.needs)(root, order) if runtime.needs else []
        return found

    return Home(workspace, needed)


@ray.remote(concurrency_groups={"home": 4})  # type: ignore[call-overload]
class ControllerActor:
    """Hosts the controller of a workspace."""

    def __init__(self, workspace: str, namespace: str) -> None:
        self._state = "running"
        self._home = home_of(Workspace(Path(workspace)))
        run_for_ever("controller", lambda: self._serve(Workspace(Path(workspace)), namespace))

    def _serve(self, workspace: Workspace, namespace: str) -> None:
        from terry.cluster.actors.controller import run_controller

        log_to(workspace.controller_log)
        self._state = run_controller(workspace, namespace)
        _log.info("the controller is %s", self._state)

    @ray.method(concurrency_group="home")
    def home(self, what: str, given: tuple[Any, ...]) -> Any:
        """A call of a HomePort, for nodes that do not see the workspace."""
        if what == "needs":
            return msgspec.json.encode(self._home.needs(msgspec.json.decode(given[0], type=LaunchOrder)))
        calls: dict[str, Callable[..., Any]] = {
            "read": self._home.read,
            "begin": self._home.begin,
            "append": self._home.append,
            "stage": self._home.stage,
            "publish": self._home.publish,
            "discard": self._home.discard,
        }
        return calls[what](*given)

    def ping(self) -> tuple[str, int, str]:
        """What it does (`running`, `stopped`: a shutdown was asked for, `superseded`), pid, version of Python."""
        return self._state, os.getpid(), sys.version.split()[0]
