"""Where a workspace's nodes come from, by its terry.yaml: one of the places that put adapters together."""

from __future__ import annotations

from terry.cluster.config.node_values import node_name
from terry.cluster.config.nodes import NodesConfig, NodeSetup, SlurmGroup
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.addresses import LOOPBACK, own_address, ssh_hostname
from terry.cluster.nodes.hosts import ReachableNodes
from terry.cluster.nodes.remote import NodeAccess, SshNode, ThisNode
from terry.cluster.ports import NodeProvider
from terry.cluster.ray.daemons import NodeResources, own_name
from terry.cluster.ray.head import HeadPlace
from terry.cluster.slurm.commands import Slurm
from terry.cluster.slurm.provider import SlurmNodes


def is_here(host: str) -> bool:
    """True for a host that is this node."""
    return node_name(host) == own_name()


def head_place(nodes: NodesConfig, host: str | None) -> HeadPlace:
    """How Ray's head is started on this node, which terry.yaml calls `host`, or does not name.

    Only where other nodes are to join does it listen on an address that they can reach. Raises UserError.
    """
    setup: NodeSetup | None = nodes.hosts.get(host) if host else nodes.here
    name = node_name(host) if host else own_name()
    offered = NodeResources(name=name, cpus=0, gpus=()) if setup is None else NodeResources.of(setup, name)
    if not nodes.has_others:
        return HeadPlace(offered=offered, address=LOOPBACK)
    other = next((h for h in nodes.hosts if h != host and not is_here(h)), None)
    towards = ssh_hostname(other) if other else None
    return HeadPlace(offered=offered, address=own_address(setup.interface if setup else None, towards))


def own_nodes(workspace: WorkspacePaths, nodes: NodesConfig, host: str | None) -> NodeProvider | None:
    """What brings this node, which terry.yaml calls `host`, or does not name; None where it is no node of ours."""
    setup: NodeSetup | None = nodes.hosts.get(host) if host else nodes.here
    name = node_name(host) if host else own_name()
    return ReachableNodes(str(workspace.root), [ThisNode(name=name, setup=setup)]) if setup else None


def providers_of(
    workspace: WorkspacePaths, nodes: NodesConfig, head: str, *, with_here: bool = False
) -> list[NodeProvider]:
    """All that bring nodes. `head`: the node of Ray's head, which needs no bringing.

    with_here: this node may be one of them (where `up` is called, and Ray's head is elsewhere).
    """
    reachable: list[NodeAccess] = [
        SshNode(host=host, setup=group) for host, group in nodes.hosts.items() if node_name(host) != head
    ]
    if with_here and nodes.here is not None and own_name() != head:
        reachable.append(ThisNode(name=own_name(), setup=nodes.here))
    found: list[NodeProvider] = [ReachableNodes(str(workspace.root), reachable)]
    groups = [group for group in nodes.groups if isinstance(group, SlurmGroup)]
    if groups and not with_here:  # one asks Slurm for nodes, the keeper: two would ask for twice as many
        found.append(SlurmNodes(workspace, groups, Slurm(workspace)))
    return found
