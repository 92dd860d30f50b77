"""What is known of the nodes: `cluster/nodes/<name>.json` (what came of asking each to join) and `members.json`.

members.json is written by the controller's side (which nodes Ray counts as alive), a node's file by who asked it last.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.ports import NodeReport


class ClusterMember(msgspec.Struct, frozen=True, kw_only=True):
    """A node as Ray has it."""

    name: str
    node_id: str  #: another with each start
    address: str
    labels: tuple[str, ...] = ()


class ClusterMembers(msgspec.Struct, frozen=True, kw_only=True, rename={"incarnation": "life"}):
    """members.json."""

    incarnation: str  #: of the head
    nodes: tuple[ClusterMember, ...] = ()


def write_report(workspace: WorkspacePaths, report: NodeReport) -> None:
    """Keep what is known of a node."""
    path = workspace.node_report(report.name)
    if not path.parent.is_dir():
        durable.make_folder(path.parent)
    durable.write_json(path, report, sync=False)


def reports(workspace: WorkspacePaths) -> dict[str, NodeReport]:
    """What is known of each node, by name."""
    found = {}
    for path in sorted(workspace.node_reports.glob("*.json")):
        try:
            report = msgspec.json.decode(durable.read_bytes(path), type=NodeReport)
        except (OSError, msgspec.MsgspecError):  # just replaced, or of another version
            continue
        found[report.name] = report
    return found


def forget(workspace: WorkspacePaths, names: Iterable[str]) -> None:
    """Remove what is known of nodes that do not belong to the workspace any more."""
    for name in names:
        workspace.node_report(name).unlink(missing_ok=True)


def write_members(workspace: WorkspacePaths, members: ClusterMembers) -> None:
    """Say which nodes there are."""
    durable.write_json(workspace.members, members, sync=False)


def read_members(workspace: WorkspacePaths, incarnation: str) -> frozenset[str] | None:
    """Names of the nodes in this life of the head; None where nothing is known of it yet."""
    try:
        found = msgspec.json.decode(durable.read_bytes(workspace.members), type=ClusterMembers)
    except (OSError, msgspec.MsgspecError):
        return None
    return frozenset(node.name for node in found.nodes) if found.incarnation == incarnation else None
