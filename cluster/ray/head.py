"""The Ray head of a workspace: start it as a daemon, know whether it is well, end all of it and nothing else."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from terry.cluster.files import durable, origin
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host import hardware as node_probe
from terry.cluster.host.addresses import LOOPBACK
from terry.cluster.host.processes import Process, boot_id, in_session, kill_all, with_environment
from terry.cluster.host.versions import installed
from terry.cluster.ports import ClusterKey
from terry.cluster.ray.daemons import (
    HEAD_VARIABLE,
    NodeResources,
    await_start,
    executable,
    instance,
    launch,
    own_name,
    ports_for,
    ray_environment,
    ray_start,
    users_token,
)


class Head(msgspec.Struct, frozen=True, kw_only=True, rename={"incarnation": "life"}):
    """head.json: the Ray cluster that serves a workspace."""

    host: str
    boot_id: str
    address: str  #: host:port of the GCS
    incarnation: str = ""  #: another with each start
    name: str = ""  #: of its node
    versions: dict[str, str] = {}
    session: int = 0  #: session id (setsid) of all its processes
    gcs: tuple[int, int] = (0, 0)  #: pid and start time of gcs_server
    raylet: tuple[int, int] = (0, 0)  #: pid and start time of the raylet
    started_at: datetime
    foreign: bool = False  #: of a Ray cluster that others have started: it is used, and neither started nor ended
    asks_token: bool = False  #: a foreign one, and it was seen to ask for a token

    @property
    def processes(self) -> tuple[Process, ...]:
        """The two without which there is no cluster; none of a foreign one."""
        return () if self.foreign else (Process(*self.gcs), Process(*self.raylet))

    @property
    def is_open(self) -> bool:
        """True if other nodes can reach it."""
        return not self.address.startswith(LOOPBACK)

    @property
    def is_here(self) -> bool:
        """True if it was started on this node since it booted: only then its pids mean something."""
        return self.host == socket.gethostname() and self.boot_id == boot_id()


def _all_of_this_node() -> NodeResources:
    return NodeResources(name=own_name(), cpus=node_probe.cpu_cores(), gpus=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPlace:
    """Where a head is to listen, and what its node offers."""

    address: str = LOOPBACK
    offered: NodeResources = field(default_factory=_all_of_this_node)


def read_head(workspace: WorkspacePaths) -> Head | None:
    """The head as last recorded. None in a copy of a workspace: what is recorded there is the original's."""
    if origin.is_copy(workspace):
        return None
    try:
        return msgspec.json.decode(durable.read_bytes(workspace.head), type=Head)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def is_well(head: Head | None) -> bool:
    """True if GCS and raylet run on this node (or are foreign) and the port answers. Takes under a millisecond."""
    if head is None or not head.is_here or not all(p.alive for p in head.processes):
        return False
    host, _, port = head.address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def key_of(workspace: WorkspacePaths, head: Head) -> ClusterKey:
    """What a node needs to join this head. Raises OSError, UserError where the token cannot be read."""
    own = "" if head.foreign else workspace.token.read_text(encoding="ascii").strip()
    token = users_token(asks_token=head.asks_token) if head.foreign else own
    return ClusterKey(
        workspace=str(workspace.root),
        address=head.address,
        incarnation=head.incarnation,
        token=token,
        versions=head.versions or dict(installed()),
        foreign=head.foreign,
    )


def adopt_head(workspace: WorkspacePaths, address: str, before: Head | None = None) -> Head:
    """Record a Ray cluster that others have started as the one that serves the workspace. Raises RuntimeError.

    before: the head that was recorded until now. Of the same cluster, it was only silent for a while: its nodes stay.
    """
    is_same = before is not None and before.foreign and before.address == address
    head = Head(
        host=socket.gethostname(),
        boot_id=boot_id(),
        address=address,
        incarnation=before.incarnation if before is not None and is_same else secrets.token_hex(8),
        started_at=datetime.now(UTC),
        foreign=True,
        asks_token=before.asks_token if before is not None and is_same else False,
    )
    if not is_well(head):
        raise RuntimeError(f"nobody answers at {address}, which terry.yaml gives as a Ray cluster's address")
    durable.make_folder(workspace.cluster)
    durable.write_json(workspace.head, head)
    return head


def ensure_token(workspace: WorkspacePaths) -> None:
    """Make the cluster's token, readable by its owner alone; anew where it is of a user whose cluster is gone."""
    if not os.access(workspace.token, os.R_OK):
        durable.make_folder(workspace.cluster)
        durable.write_bytes(workspace.token, secrets.token_hex(32).encode(), mode=0o600)


def start_head(workspace: WorkspacePaths, place: HeadPlace | None = None) -> Head:
    """Start Ray's head and record it. Nothing of an earlier head may be left (see `end_head`).

    Without a place: on loopback, with all of this node's devices.
    """
    ensure_token(workspace)
    place = place or HeadPlace()
    (port, client_port), ports = ports_for(place.offered, place.address, special=2)
    command = [
        *ray_start(workspace, place.address, place.offered, ports),
        "--head",
        f"--port={port}",
        f"--ray-client-server-port={client_port}",
        "--include-dashboard=false",
        "--no-monitor",  # it would ask for more nodes: that is ours to do
    ]
    starter = launch(command, ray_environment(workspace, place.address), place.offered)
    try:
        found = await_start(starter, ("gcs_server", "raylet"))
        head = _head(starter.pid, f"{place.address}:{port}", place.offered.name, found)
        durable.write_json(workspace.head, head)
    except BaseException:  # what is not recorded would never be found again
        kill_all(lambda: in_session(starter.pid), timeout_s=10.0)
        raise
    return head


def _head(session: int, address: str, name: str, found: dict[str, Process]) -> Head:
    gcs, raylet = found["gcs_server"], found["raylet"]
    return Head(
        host=socket.gethostname(),
        boot_id=boot_id(),
        address=address,
        incarnation=secrets.token_hex(8),
        name=name,
        versions=dict(installed()),
        session=session,
        gcs=(gcs.pid, gcs.start),
        raylet=(raylet.pid, raylet.start),
        started_at=datetime.now(UTC),
    )


def end_head(workspace: WorkspacePaths) -> None:
    """End every process of the recorded head, as far as it ran on this node since boot, and forget it."""
    head = read_head(workspace)
    if head is None:
        end_unrecorded(workspace)
        return
    end_processes(head)
    workspace.head.unlink(missing_ok=True)


def end_processes(head: Head) -> None:
    """End every process of a head, as far as it ran on this node since boot."""
    if not head.is_here or head.foreign:
        return
    started = oldest_start(*head.processes)
    left = kill_all(lambda: [p for p in in_session(head.session) if p.start >= started], timeout_s=15.0)
    if left:
        raise RuntimeError(f"processes of the Ray cluster do not end: {[p.pid for p in left]}")


def end_unrecorded(workspace: WorkspacePaths) -> None:
    """End daemons of the workspace's cluster here: a starter that was killed before it could record leaves some."""
    sessions = {os.getsid(p.pid) for p in _marked(workspace)} - {os.getsid(0)}
    left = kill_all(lambda: [p for session in sessions for p in in_session(session)], timeout_s=15.0)
    if left:
        raise RuntimeError(f"processes of an unrecorded Ray cluster do not end: {[p.pid for p in left]}")


def _marked(workspace: WorkspacePaths) -> list[Process]:
    """Only daemons of Ray itself: whoever else has the variable (a driver) ends with them."""
    daemons = {"gcs_server", "raylet"}
    return [p for p in with_environment(HEAD_VARIABLE, instance(workspace)) if executable(p.pid) in daemons]


def oldest_start(*daemons: Process) -> int:
    """Start time (clock ticks) before which no process of a session with these daemons can have begun."""
    # A session id is a pid: it can be used again once the session is empty. Ours began before its daemons, by seconds.
    ticks = os.sysconf("SC_CLK_TCK")
    return min(daemon.start for daemon in daemons) - 60 * ticks
