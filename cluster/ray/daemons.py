"""Starting Ray's daemons on this node: settings, private folder, command, session. For head and other nodes alike.

Ray's command line is used for the start; everything after that goes by the session id of that command (setsid), which
all of its processes share. `ray stop` is never used: it ends other people's clusters.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from terry.cluster.config.nodes import NodeSetup
from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host import hardware as node_probe
from terry.cluster.host.addresses import LOOPBACK, free_ports
from terry.cluster.host.device_choice import chosen_gpus, uses_cpu
from terry.cluster.host.processes import Process, in_session, with_environment

_START_TIMEOUT_S = 90.0
_OBJECT_STORE_BYTES = 80_000_000  # nothing large travels through Ray

#: Marks all processes of a workspace's Ray cluster, for the case that their start is not recorded.
HEAD_VARIABLE = "TERRY_HEAD"

#: The Slurm job in which we are a node: several of one workspace may share a computer, and know nothing of each other.
INSTANCE_VARIABLE = "TERRY_INSTANCE"

#: Labels of a node in Ray: what it is called, and one for each label of terry.yaml.
NAME_LABEL, LABEL_PREFIX = "terry-node", "terry-label-"

#: When it was started (milliseconds): of two nodes of one name the older one is gone, known to be dead or not.
START_LABEL = "terry-start"

#: What a program of ours ends with where a person has to fix something; its last line of errors says what.
USER_ERROR = 2

#: For every Ray process of ours: no tokenless access, no surprises, deaths noticed in seconds instead of minutes.
RAY_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
    "RAY_worker_oom_score_adjustment": "0",  # Ray would offer agents and controller to the kernel before any job
    "RAY_task_events_report_interval_ms": "0",  # the GCS would keep a record of each call: 6 KiB a job
    "RAY_enable_worker_prestart": "0",  # else a process for each core: 0.8 s and 60 MB each, and we use two
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
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}


#: Of these what concerns a node alone: how nodes watch each other is decided by whoever has started the cluster.
_GUEST_SETTINGS = {
    "RAY_enable_worker_prestart",
    "RAY_worker_niceness",
    "RAY_worker_oom_score_adjustment",
    "RAY_memory_monitor_refresh_ms",
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL",
    "RAY_USAGE_STATS_ENABLED",
    "RAY_DEDUP_LOGS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResources:
    """What a node offers to Ray, and under which names and ports."""

    name: str  #: of the node
    cpus: int  #: cores; 0: no CPU device
    gpus: tuple[int, ...] | None = ()  #: indexes; None: all, as they are
    labels: tuple[str, ...] = ()
    ports: tuple[int, int] | None = None

    @classmethod
    def of(cls, setup: NodeSetup, name: str) -> NodeResources:
        """What this node offers, by its group's settings."""
        choice = setup.devices
        return cls(
            name=name,
            cpus=min(setup.cpus or node_probe.cpu_cores(), node_probe.cpu_cores()) if uses_cpu(choice.leave_out) else 0,
            gpus=_gpus(choice.use, choice.leave_out),
            labels=setup.labels,
            ports=setup.port_range,
        )


def _gpus(use: Collection[str], leave_out: Collection[str]) -> tuple[int, ...] | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and not use and not leave_out:
        return None
    return tuple(chosen_gpus(node_probe.gpus(), use, leave_out, visible))


def own_name() -> str:
    """What a node is called that has no name in terry.yaml."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().split(".")[0])


def instance(workspace: WorkspacePaths) -> str:
    """What marks folders and processes of the workspace's cluster on this node."""
    own = os.environ.get(INSTANCE_VARIABLE)
    return f"{workspace.id}-{own}" if own else workspace.id


def runtime_folder(workspace: WorkspacePaths, *, make: bool = True) -> Path:
    """Private folder on this node's own disk, with a short path (Unix sockets allow 107 bytes), made if missing.

    make=False: only its path, for whoever just looks.
    """
    folder = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) <= 12 else "/tmp") / (  # noqa: S108
        f"terry-{os.getuid()}-{instance(workspace)}"
    )
    if not make:
        return folder
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UserError(f"{folder} belongs to somebody else; it should be a private folder of yours: have it removed")
    folder.chmod(0o700)
    return folder


def foreign_environment(workspace: WorkspacePaths, address: str, *, asks_token: bool = False) -> dict[str, str]:
    """Our environment for a driver of a cluster that others have started: their token is the user's affair.

    asks_token: the cluster was seen to ask for one. It is then used where the user has left open whether to.
    """
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if address.startswith(LOOPBACK) else {}
    auth = {"RAY_AUTH_MODE": "token"} if asks_token and not os.environ.get("RAY_AUTH_MODE") else {}
    return {**os.environ, **loopback, **auth, HEAD_VARIABLE: workspace.id}


def guest_environment(workspace: WorkspacePaths, token: str) -> dict[str, str]:
    """Our environment for Ray's daemon of a node of ours that joins a cluster of others, with their token."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    auth = {"RAY_AUTH_MODE": "disabled"}
    if token:
        path = runtime_folder(workspace) / "token"
        durable.write_bytes(path, token.encode(), mode=0o600)
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    settings = {key: value for key, value in RAY_SETTINGS.items() if key in _GUEST_SETTINGS}
    mine = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", HEAD_VARIABLE: instance(workspace)}
    return {**environment, **settings, **auth, **mine}


def token_file() -> Path:
    """Where Ray looks for the user's token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def has_token() -> bool:
    """Whether the user has a token for Ray clusters, whatever RAY_AUTH_MODE says."""
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or token_file().is_file()


def users_token(*, asks_token: bool = False) -> str:
    """The user's token for Ray clusters, as Ray finds it; empty where none is to be used. Raises UserError.

    asks_token: see `foreign_environment`.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode != "token" and not (asks_token and not mode):
        return ""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = token_file()
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        wrong = f"RAY_AUTH_MODE is `token`, but the token cannot be read: {error}; RAY_AUTH_TOKEN_PATH says where it is"
        raise UserError(wrong) from error


def others_raylet(workspace: WorkspacePaths, address: str) -> bool:
    """Whether a Ray daemon that we have not started makes this node a member of the cluster with this head."""
    ours = {process.pid for process in with_environment(HEAD_VARIABLE, instance(workspace))}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in ours and executable(int(entry.name)) == "raylet":
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                heads = [word.partition("=")[2] for word in words if word.startswith("--gcs-address=")]
                if any(_resolved(head) == _resolved(address) for head in heads):
                    return True
    return False


def _resolved(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    try:
        return socket.gethostbyname(host), port
    except OSError:
        return host, port


def ray_environment(workspace: WorkspacePaths, address: str = LOOPBACK) -> dict[str, str]:
    """Our environment with Ray's settings, for all that starts or joins the workspace's cluster.

    address: of the cluster's head. On loopback everything listens on loopback only: a side effect of that setting.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    mine = {
        "RAY_AUTH_TOKEN_PATH": str(local_token(workspace)),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if address.startswith(LOOPBACK) else "1",
        HEAD_VARIABLE: instance(workspace),
    }
    return {**environment, **RAY_SETTINGS, **mine}


def local_token(workspace: WorkspacePaths) -> Path:
    """A copy of the token on this node's own disk, made new where it has to be.

    Every process of Ray reads it when it starts. One that could not, for the workspace's file system is away, would die
    at once, and Ray waits a whole minute for it before it starts another.
    """
    path = runtime_folder(workspace) / "token"
    with contextlib.suppress(FileNotFoundError):
        token = workspace.token.read_bytes()
        if not path.exists() or path.read_bytes() != token:
            durable.write_bytes(path, token, mode=0o600)
    return path


def ray_start(
    workspace: WorkspacePaths, address: str, offered: NodeResources, ports: tuple[int, ...] | None
) -> list[str]:
    """The part of `ray start` that head and other nodes have in common. `ports`: three that are free, and a range."""
    ray = Path(sys.executable).with_name("ray")
    started = f"{START_LABEL}={time.time_ns() // 1_000_000}"
    labels = [f"{NAME_LABEL}={offered.name}", started, *(f"{LABEL_PREFIX}{label}=1" for label in offered.labels)]
    return [
        *([str(ray)] if ray.exists() else [sys.executable, "-m", "ray.scripts.scripts"]),
        "start",
        f"--node-ip-address={address}",
        *_port_options(ports),
        "--dashboard-agent-listen-port=0",
        f"--num-cpus={offered.cpus}",
        f"--num-gpus={node_probe.count_gpus() if offered.gpus is None else len(offered.gpus)}",
        f"--labels={','.join(labels)}",
        f"--temp-dir={runtime_folder(workspace) / 'ray'}",
        f"--object-store-memory={_OBJECT_STORE_BYTES}",
        "--disable-usage-stats",
        "--include-log-monitor=false",  # it would send output to drivers, and ours hears of none
    ]


def _port_options(ports: tuple[int, ...] | None) -> list[str]:
    if ports is None:
        return ["--min-worker-port=0", "--max-worker-port=0"]
    manager, objects, environments, *workers = ports
    return [
        f"--node-manager-port={manager}",
        f"--object-manager-port={objects}",
        f"--runtime-env-agent-port={environments}",
        f"--worker-port-list={','.join(map(str, workers))}",
    ]


def ports_for(offered: NodeResources, address: str, special: int) -> tuple[list[int], tuple[int, ...] | None]:
    """`special` ports of one's own, and those for Ray's daemons and workers: all free ones of the range, if any."""
    if offered.ports is None:
        return free_ports(special, address), None
    found = free_ports(special + 8, address, offered.ports)
    return found[:special], tuple(found[special:])


def launch(command: list[str], environment: dict[str, str], offered: NodeResources) -> subprocess.Popen[bytes]:
    """Run `ray start` in a session of its own."""
    shown = {} if offered.gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(map(str, offered.gpus))}
    return subprocess.Popen(
        command,
        env={**environment, **shown},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
    )


def await_start(starter: subprocess.Popen[bytes], daemons: Collection[str]) -> dict[str, Process]:
    """The daemons that `launch` has started, by name. Raises RuntimeError with what Ray has said."""
    try:
        output, _ = starter.communicate(timeout=_START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        output = b"(no answer in time)"
    by_name = {executable(p.pid): p for p in in_session(starter.pid)}
    if starter.returncode != 0 or not set(daemons) <= by_name.keys():
        printed = output.decode(errors="replace")[-2000:]
        raise RuntimeError(f"ray start failed (exit code {starter.returncode}): {printed}")
    return {name: by_name[name] for name in daemons}


def executable(pid: int) -> str:
    """Name of the program that a process runs; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


def daemons_here(workspace: WorkspacePaths) -> list[Process]:
    """All processes of the workspace's Ray on this node: daemons, agents, controller."""
    return with_environment(HEAD_VARIABLE, workspace.id)
