"""What a node is found to be when it is asked to join: versions, devices, clock, whether it sees the workspace.

Read without importing Ray or torch: those imports take seconds and memory that nobody needs yet.
"""

from __future__ import annotations

import importlib.util
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host import hardware as node_probe
from terry.cluster.host.versions import installed, mismatch
from terry.cluster.ports import ClusterKey, GpuFacts, NodeFacts

#: Clocks may differ by so much (seconds): leases and logs of several nodes are compared.
CLOCK_MAX_S = 5.0


def facts(workspace: WorkspacePaths, key: ClusterKey, address: str) -> NodeFacts:
    """What this node is."""
    return NodeFacts(
        host=socket.gethostname(),
        address=address,
        versions=dict(installed()),
        cuda=torch_cuda(),
        cores=node_probe.cpu_cores(),
        gpus=tuple(GpuFacts(index=g.index, uuid=g.uuid, model=g.model) for g in node_probe.gpus()),
        sees_workspace=sees(workspace, key),
        clock=datetime.now(UTC),
    )


def sees(workspace: WorkspacePaths, key: ClusterKey) -> bool:
    """True where the workspace's folder here is the one of the head, not another by the same name."""
    try:
        recorded = msgspec.json.decode(workspace.head.read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return bool(recorded.get("life") == key.incarnation)


def misfit(found: NodeFacts, key: ClusterKey) -> tuple[str, str] | None:
    """What keeps a node from joining, and how to fix it; None where nothing does."""
    if wrong := mismatch(key.versions, found.versions):
        what, _, fix = wrong.partition("; ")
        return what, fix
    return None


def clock_problem(found: NodeFacts, asked: datetime, answered: datetime) -> tuple[str, str] | None:
    """Whether the node's clock is off, by when it was asked and had answered."""
    early, late = (asked - found.clock).total_seconds(), (found.clock - answered).total_seconds()
    off = max(early, late)
    if off <= CLOCK_MAX_S:
        return None
    return f"its clock is {off:.0f} s {'behind' if early > late else 'ahead'}", "set its clock (chrony, ntpd)"


def torch_cuda() -> str:
    """The CUDA version that torch was built for; empty for a build without CUDA, or without torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^cuda(?:: [^=]+)? = '([\d.]+)'", text, re.MULTILINE)
    return found[1] if found else ""
