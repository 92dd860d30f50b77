"""A fake NodeProvider: nodes in memory, which a test can cut off, kill, and look into (tests/contract)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from terry.cluster.ports import ClusterView, NodeReport, NodeState


@dataclass(slots=True)
class _Node:
    reachable: bool = True
    incarnation: int = 0  # of its part in the cluster; 0: it takes none
    head: str = ""  # life of the head that it has joined


class FakeNodes:
    """A NodeProvider with a world of its own."""

    def __init__(self, *names: str) -> None:
        self._nodes = {name: _Node() for name in names}
        self._incarnations = 0

    # NodeProvider

    def reconcile(self, view: ClusterView) -> tuple[NodeReport, ...]:
        """See NodeProvider."""
        missing = [name for name in self._nodes if name not in view.members]
        return tuple(self._bring(name, view.key.incarnation) for name in missing)

    def end(self) -> tuple[NodeReport, ...]:
        """See NodeProvider."""
        return tuple(self._end(name) for name in self._nodes)

    # the world, for tests

    def incarnation(self, name: str) -> int:
        """Another with each start of the node's part in the cluster; 0 where it has none."""
        return self._nodes[name].incarnation

    def kill(self, name: str) -> None:
        """What runs on the node for the cluster dies."""
        self._nodes[name].incarnation = 0

    def cut(self, name: str) -> None:
        """The node cannot be reached."""
        self._nodes[name].reachable = False

    # inside

    def _bring(self, name: str, head: str) -> NodeReport:
        node = self._nodes[name]
        if not node.reachable:
            return self._report(name, NodeState.UNREACHABLE)
        if node.incarnation and node.head == head:
            return self._report(name, NodeState.PRESENT)
        self._incarnations += 1
        node.incarnation, node.head = self._incarnations, head
        return self._report(name, NodeState.JOINED)

    def _end(self, name: str) -> NodeReport:
        node = self._nodes[name]
        if not node.reachable:
            return self._report(name, NodeState.UNREACHABLE)
        node.incarnation = 0
        return self._report(name, NodeState.ENDED)

    @staticmethod
    def _report(name: str, state: NodeState) -> NodeReport:
        lost = state is NodeState.UNREACHABLE
        problem, fix = ("its cable is cut", "plug it in") if lost else ("", "")
        return NodeReport(name=name, state=state, problem=problem, fix=fix, time=datetime.now(UTC))
