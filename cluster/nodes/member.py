"""A node's part in a workspace's Ray cluster whose head is elsewhere: join it, end all of it and nothing else.

Idempotent: a node that takes part is left alone. One that belongs to an earlier life of the cluster, or was cut off
and is taken for dead by the head (Ray lets no dead node come back), is ended and started anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from terry.cluster.agent.marks import AGENT_VARIABLE
from terry.cluster.config.node_values import DeviceChoice
from terry.cluster.config.nodes import NodeSetup
from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.addresses import own_address
from terry.cluster.host.locks import Lock
from terry.cluster.host.processes import Process, boot_id, in_session, kill_all, with_environment_prefix
from terry.cluster.nodes.facts import facts, misfit
from terry.cluster.ports import NodeFacts, NodeOrder, NodeReport, NodeState
from terry.cluster.ray.daemons import (
    NodeResources,
    await_start,
    guest_environment,
    instance,
    launch,
    others_raylet,
    ports_for,
    ray_environment,
    ray_start,
    runtime_folder,
)
from terry.cluster.ray.head import Head, end_unrecorded, key_of, oldest_start, read_head

_LOCK_WAIT_S = 60.0


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True, rename={"incarnation": "life"}):
    """node.json in the runtime folder: Ray's daemon of this node."""

    boot_id: str
    incarnation: str  #: of the head that it joined
    session: int  #: session id (setsid) of all its processes
    raylet: tuple[int, int]  #: pid and start time
    started_at: datetime

    @property
    def process(self) -> Process:
        """The raylet."""
        return Process(*self.raylet)

    @property
    def is_alive(self) -> bool:
        """True while the raylet runs."""
        return self.boot_id == boot_id() and self.process.alive


def read_record(workspace: WorkspacePaths) -> NodeRecord | None:
    """What was recorded here last."""
    try:
        return msgspec.json.decode(_record(workspace).read_bytes(), type=NodeRecord)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def join(order: NodeOrder, *, anew: bool = False) -> NodeReport:
    """Make this node a member of the cluster. `anew`: the head does not count it as alive, so begin anew.

    Never raises for what a person has to fix: the report says it. Raises TimeoutError where another join is stuck.
    """
    workspace = WorkspacePaths(Path(order.key.workspace))
    with _alone(workspace):
        try:
            return _join(workspace, order, anew=anew)
        except UserError as error:
            return _report(order, NodeState.UNFIT, str(error), "correct it in terry.yaml")
        except (RuntimeError, OSError) as error:
            return _report(order, NodeState.UNFIT, f"Ray does not start there: {error}", "see Ray's words")


def _join(workspace: WorkspacePaths, order: NodeOrder, *, anew: bool) -> NodeReport:
    host = order.key.address.rpartition(":")[0]
    found = facts(workspace, order.key, own_address(order.interface, host))
    if wrong := misfit(found, order.key):
        return _report(order, NodeState.UNFIT, *wrong, facts=found)
    head = read_head(workspace)
    # A Slurm job is a node of its own, also where it stands beside the head.
    beside = instance(workspace) != workspace.id or order.key.foreign
    if not beside and head is not None and head.is_here and head.incarnation == order.key.incarnation:
        return _report(order, NodeState.PRESENT, facts=found)
    record = read_record(workspace)
    if record is not None and record.incarnation == order.key.incarnation and record.is_alive and not anew:
        return _report(order, NodeState.PRESENT, facts=found)
    if order.key.foreign and others_raylet(workspace, order.key.address):
        taken = f"it is a node of the Ray cluster at {order.key.address} already, and is used as it is"
        return _report(order, NodeState.UNFIT, taken, "leave it out of terry.yaml", facts=found)
    _end(workspace)
    _start(workspace, order, found.address)
    return _report(order, NodeState.JOINED, facts=found)


def _start(workspace: WorkspacePaths, order: NodeOrder, address: str) -> None:
    setup = NodeSetup(
        devices=DeviceChoice(use=order.use, leave_out=order.leave_out),
        cpus=order.cpus,
        labels=order.labels,
        ports=f"{order.ports[0]}-{order.ports[1]}" if order.ports else None,
    )
    offered = NodeResources.of(setup, order.name)
    if order.key.foreign:
        environment = guest_environment(workspace, order.key.token)
    else:
        durable.write_bytes(runtime_folder(workspace) / "token", order.key.token.encode(), mode=0o600)
        environment = ray_environment(workspace, order.key.address)
    _, ports = ports_for(offered, address, special=0)
    command = [*ray_start(workspace, address, offered, ports), f"--address={order.key.address}"]
    starter = launch(command, environment, offered)
    try:
        raylet = await_start(starter, ("raylet",))["raylet"]
        record = NodeRecord(
            boot_id=boot_id(),
            incarnation=order.key.incarnation,
            session=starter.pid,
            raylet=(raylet.pid, raylet.start),
            started_at=datetime.now(UTC),
        )
        durable.write_json(_record(workspace), record)
    except BaseException:  # what is not recorded would never be found again
        kill_all(lambda: in_session(starter.pid), timeout_s=10.0)
        raise


def leave(workspace: WorkspacePaths) -> None:
    """End all of the workspace's cluster on this node, jobs as well. The head's node is not for this."""
    with _alone(workspace):
        _end(workspace)
        folder = runtime_folder(workspace)
        (folder / "token").unlink(missing_ok=True)
        shutil.rmtree(folder / "ray", ignore_errors=True)  # Ray's own logs and sockets: one set a start


def _end(workspace: WorkspacePaths) -> None:
    record = read_record(workspace)
    if record is not None and record.boot_id == boot_id():
        started = oldest_start(record.process)
        left = kill_all(lambda: [p for p in in_session(record.session) if p.start >= started], timeout_s=15.0)
        if left:
            raise RuntimeError(f"processes of an earlier start do not end: {[p.pid for p in left]}")
    end_unrecorded(workspace)
    # The kernel ends agents' processes with their agents; whatever a job has started by itself may still be there.
    kill_all(lambda: with_environment_prefix(AGENT_VARIABLE, f"{instance(workspace)}/"), timeout_s=10.0)
    _record(workspace).unlink(missing_ok=True)


@contextmanager
def _alone(workspace: WorkspacePaths) -> Iterator[None]:
    """One at a time on this node: `up` and the keeper may ask at the same moment."""
    lock = Lock.take(runtime_folder(workspace) / "node.lock", _LOCK_WAIT_S)
    try:
        yield
    finally:
        lock.release()


def _record(workspace: WorkspacePaths) -> Path:
    return runtime_folder(workspace) / "node.json"


def _report(
    order: NodeOrder, state: NodeState, problem: str = "", fix: str = "", facts: NodeFacts | None = None
) -> NodeReport:
    return NodeReport(name=order.name, state=state, problem=problem, fix=fix, facts=facts, time=datetime.now(UTC))


def end_reported(name: str) -> NodeReport:
    """The report of a node on which nothing is left."""
    return NodeReport(name=name, state=NodeState.ENDED, time=datetime.now(UTC))


def head_report(workspace: WorkspacePaths, head: Head) -> NodeReport:
    """The report of the head's own node."""
    found = facts(workspace, key_of(workspace, head), head.address.rpartition(":")[0])
    return NodeReport(name=head.name, state=NodeState.PRESENT, facts=found, time=datetime.now(UTC))
