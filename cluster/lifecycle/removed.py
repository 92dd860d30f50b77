"""Hosts that terry.yaml no longer names: they get no new job, what runs there moves, and then they are taken out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from terry.cluster.config.node_values import node_name
from terry.cluster.config.nodes import NodesConfig, NodeSetup, SlurmGroup
from terry.cluster.files import inbox, live
from terry.cluster.files.live import Live
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.nodes.hosts import ReachableNodes
from terry.cluster.nodes.records import forget, reports
from terry.cluster.nodes.remote import NodeAccess, SshNode
from terry.cluster.ports import ClusterView, NodeReport
from terry.cluster.slurm.plan import in_group

#: Why its devices are drained; they are given back when the host is named again.
REASON = "its host is no longer in terry.yaml"
_PROBLEM = "it is no longer in terry.yaml: it gets no new job, what runs there moves, and then it leaves"
_FIX = "name its host in terry.yaml again to keep it"


def removed_nodes(
    nodes: NodesConfig, known: Mapping[str, NodeReport], members: Iterable[str], head: str
) -> list[NodeReport]:
    """Members that ssh has brought and that terry.yaml does not name. Each with what is said of it."""
    named = {node_name(host) for host in nodes.hosts} | {head}
    slurm = [group for group in nodes.groups if isinstance(group, SlurmGroup)]
    there = set(members)
    return [
        msgspec.structs.replace(report, problem=_PROBLEM, fix=_FIX)
        for name, report in known.items()
        if report.host and name in there and name not in named and not any(in_group(group, name) for group in slurm)
    ]


class RemovedHosts:
    """The keeper's care for them. What was asked for already is seen on disk: nothing need be remembered."""

    def __init__(self, workspace: WorkspacePaths) -> None:
        self._workspace = workspace
        self._setups: dict[str, NodeSetup] = {}  # of hosts that were named while we looked

    def tend(self, nodes: NodesConfig, view: ClusterView, head: str) -> list[NodeReport]:
        """One round; what is to be said of them."""
        self._setups.update(nodes.hosts)
        shown = live.read(self._workspace)
        if shown is None:
            return []
        self._take_back({node_name(host) for host in nodes.hosts}, shown)
        found = removed_nodes(nodes, reports(self._workspace), view.members, head)
        return [left for report in found if (left := self._let_go(report, shown)) is not None]

    def _let_go(self, report: NodeReport, shown: Live) -> NodeReport | None:
        """Drain it; once nothing runs there, end it. What is to be said of it; None once it is gone."""
        mine = [known for known in shown.devices if known.device.node == report.name and known.online]
        for known in mine:
            if not known.drained:
                inbox.send(self._workspace, inbox.Drain(device=known.device.id, reason=REASON))
        devices = {known.device.id for known in mine}
        busy = any(load.device_id in devices and load.idle_since is None for load in shown.loads)
        if busy or not all(known.drained for known in mine):
            return report
        access: list[NodeAccess] = [SshNode(host=report.host, setup=self._setups.get(report.host, NodeSetup()))]
        (answer,) = ReachableNodes(str(self._workspace.root), access).end()
        if answer.problem:
            return msgspec.structs.replace(report, problem=f"{REASON}, and it cannot be ended: {answer.problem}")
        forget(self._workspace, [report.name])
        return None

    def _take_back(self, named: set[str], shown: Live) -> None:
        for known in shown.devices:
            if known.drained and known.drain_reason == REASON and known.device.node in named:
                inbox.send(self._workspace, inbox.Undrain(device=known.device.id))
