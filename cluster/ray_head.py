"""The Ray head of a workspace: start it as a daemon, know whether it is well, end all of it and nothing else.

Ray's command line is used for the start; everything after that goes by the session id of that command (setsid), which
all of the cluster's processes share. `ray stop` is never used: it ends other people's clusters.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from terry.cluster import durable, node_probe
from terry.cluster.errors import UserError
from terry.cluster.processes import Process, boot_id, in_session, kill_all, with_environment
from terry.cluster.workspace import Workspace

_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 90.0
_OBJECT_STORE_BYTES = 80_000_000  # nothing large travels through Ray

#: Marks all processes of a workspace's Ray cluster, for the case that its head is not recorded.
HEAD_VARIABLE = "TERRY_HEAD"

#: For every Ray process of ours: no tokenless access, no surprises, deaths noticed in seconds instead of minutes.
RAY_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
    "RAY_worker_oom_score_adjustment": "0",  # Ray would offer agents and controller to the kernel before any job
    "RAY_memory_monitor_refresh_ms": "0",  # jobs are watched by their agents, and named when memory ends
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_grpc_client_keepalive_time_ms": "5000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_grpc_keepalive_time_ms": "5000",
    "RAY_grpc_keepalive_timeout_ms": "5000",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # with a loopback address: everything listens on loopback only
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """head.json: the Ray cluster that serves a workspace."""

    host: str
    boot_id: str
    address: str  #: host:port of the GCS
    session: int  #: session id (setsid) of all its processes
    gcs: tuple[int, int]  #: pid and start time of gcs_server
    raylet: tuple[int, int]  #: pid and start time of the raylet
    started_at: datetime

    @property
    def processes(self) -> tuple[Process, Process]:
        """The two without which there is no cluster."""
        return Process(*self.gcs), Process(*self.raylet)

    @property
    def is_here(self) -> bool:
        """True if it was started on this machine since it booted: only then its pids mean something."""
        return self.host == socket.gethostname() and self.boot_id == boot_id()


def runtime_folder(workspace: Workspace) -> Path:
    """Private folder on this machine's own disk, with a short path (Unix sockets allow 107 bytes), made if missing."""
    folder = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) <= 12 else "/tmp") / (  # noqa: S108
        f"terry-{os.getuid()}-{workspace.id}"
    )
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UserError(f"{folder} belongs to somebody else; it should be a private folder of yours: have it removed")
    folder.chmod(0o700)
    return folder


def read_head(workspace: Workspace) -> Head | None:
    """The head as last recorded."""
    try:
        return msgspec.json.decode(workspace.head.read_bytes(), type=Head)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def is_well(head: Head | None) -> bool:
    """True if GCS and raylet run on this machine and the port answers. Takes less than a millisecond."""
    if head is None or not head.is_here or not all(p.alive for p in head.processes):
        return False
    host, _, port = head.address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def ray_environment(workspace: Workspace) -> dict[str, str]:
    """Our environment with Ray's settings, for all that starts or joins the workspace's cluster."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    mine = {"RAY_AUTH_TOKEN_PATH": str(local_token(workspace)), HEAD_VARIABLE: workspace.id}
    return {**environment, **RAY_SETTINGS, **mine}


def local_token(workspace: Workspace) -> Path:
    """A copy of the token on this machine's own disk, made new where it has to be.

    Every process of Ray reads it when it starts. One that could not, for the workspace's file system is away, would die
    at once, and Ray waits a whole minute for it before it starts another.
    """
    path = runtime_folder(workspace) / "token"
    with contextlib.suppress(FileNotFoundError):
        token = workspace.token.read_bytes()
        if not path.exists() or path.read_bytes() != token:
            durable.write_bytes(path, token, mode=0o600)
    return path


def ensure_token(workspace: Workspace) -> None:
    """Make the cluster's token, readable by its owner alone."""
    if not workspace.token.exists():
        durable.make_folder(workspace.cluster)
        durable.write_bytes(workspace.token, secrets.token_hex(32).encode(), mode=0o600)


def start_head(workspace: Workspace) -> Head:
    """Start Ray's head on loopback and record it. Nothing of an earlier head may be left (see `end_head`)."""
    ensure_token(workspace)
    port, client_port = _free_ports(2)
    starter = subprocess.Popen(
        _command(workspace, port, client_port),
        env=ray_environment(workspace),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
    )
    try:
        head = _await_start(starter, f"{_LOOPBACK}:{port}")
        durable.write_json(workspace.head, head)
    except BaseException:  # what is not recorded would never be found again
        kill_all(lambda: in_session(starter.pid), timeout_s=10.0)
        raise
    return head


def _await_start(starter: subprocess.Popen[bytes], address: str) -> Head:
    try:
        output, _ = starter.communicate(timeout=_START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        output = b"(no answer in time)"
    head = _recognise(starter.pid, address) if starter.returncode == 0 else None
    if head is None:
        said = output.decode(errors="replace")[-2000:]
        raise RuntimeError(f"ray start failed (exit code {starter.returncode}): {said}")
    return head


def _command(workspace: Workspace, port: int, client_port: int) -> list[str]:
    ray = Path(sys.executable).with_name("ray")
    return [
        *([str(ray)] if ray.exists() else [sys.executable, "-m", "ray.scripts.scripts"]),
        "start",
        "--head",
        f"--node-ip-address={_LOOPBACK}",
        f"--port={port}",
        f"--ray-client-server-port={client_port}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--dashboard-agent-listen-port=0",
        f"--num-cpus={node_probe.cpu_cores()}",
        f"--num-gpus={node_probe.count_gpus()}",
        "--include-dashboard=false",
        f"--temp-dir={runtime_folder(workspace) / 'ray'}",
        f"--object-store-memory={_OBJECT_STORE_BYTES}",
        "--disable-usage-stats",
    ]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((_LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _recognise(session: int, address: str) -> Head | None:
    by_name = {_executable(p.pid): p for p in in_session(session)}
    gcs, raylet = by_name.get("gcs_server"), by_name.get("raylet")
    if gcs is None or raylet is None:
        return None
    return Head(
        host=socket.gethostname(),
        boot_id=boot_id(),
        address=address,
        session=session,
        gcs=(gcs.pid, gcs.start),
        raylet=(raylet.pid, raylet.start),
        started_at=datetime.now(UTC),
    )


def _executable(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:  # it has ended
        return ""


def end_head(workspace: Workspace) -> None:
    """End every process of the recorded head, as far as it ran on this machine since boot, and forget it."""
    head = read_head(workspace)
    if head is None:
        _end_unrecorded(workspace)
        return
    if head.is_here:
        started = _oldest_start(head)
        left = kill_all(lambda: [p for p in in_session(head.session) if p.start >= started], timeout_s=15.0)
        if left:
            raise RuntimeError(f"processes of the Ray cluster do not end: {[p.pid for p in left]}")
    workspace.head.unlink(missing_ok=True)


def _end_unrecorded(workspace: Workspace) -> None:
    """A starter that was killed before it could record its head leaves one behind."""
    sessions = {os.getsid(p.pid) for p in _marked(workspace)} - {os.getsid(0)}
    left = kill_all(lambda: [p for session in sessions for p in in_session(session)], timeout_s=15.0)
    if left:
        raise RuntimeError(f"processes of an unrecorded Ray cluster do not end: {[p.pid for p in left]}")


def _marked(workspace: Workspace) -> list[Process]:
    """Only daemons of Ray itself: whoever else has the variable (a driver) ends with them."""
    daemons = {"gcs_server", "raylet"}
    return [p for p in with_environment(HEAD_VARIABLE, workspace.id) if _executable(p.pid) in daemons]


def _oldest_start(head: Head) -> int:
    # A session id is a pid: it can be used again once the session is empty. Ours began before its GCS, by seconds.
    ticks = os.sysconf("SC_CLK_TCK")
    return min(head.gcs[1], head.raylet[1]) - 60 * ticks
