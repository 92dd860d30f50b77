"""What every NodeProvider must do. A subclass of NodeContract with a fixture `lab` runs all of it on one adapter."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import pytest

from terry.cluster.ports import ClusterKey, ClusterView, NodeProvider, NodeReport, NodeState


class NodeLab(Protocol):
    """A head, and two nodes beside it, on which nothing of the cluster runs when a test begins."""

    names: tuple[str, str]

    def new_provider(self) -> NodeProvider:
        """A provider that knows of nothing yet, as another process would make it."""
        ...

    def key(self) -> ClusterKey:
        """How the head is joined."""
        ...

    def incarnation(self, name: str) -> object:
        """Another with each start of the node's part in the cluster; false where it has none."""
        ...

    def kill(self, name: str) -> None:
        """What runs on the node for the cluster dies."""
        ...

    def cut(self, name: str) -> None:
        """The node cannot be reached for the rest of the test."""
        ...


def reconcile(lab: NodeLab, provider: NodeProvider, members: Collection[str] = ()) -> dict[str, NodeReport]:
    """What came of it, by name."""
    view = ClusterView(key=lab.key(), members=frozenset(members))
    return {report.name: report for report in provider.reconcile(view)}


class NodeContract:
    """The contract."""

    @pytest.fixture
    def lab(self) -> NodeLab:
        """To be given by the subclass."""
        raise NotImplementedError

    def test_nodes_come_stay_come_back_and_go(self, lab: NodeLab) -> None:
        provider = lab.new_provider()
        came = reconcile(lab, provider)
        assert {name: report.state for name, report in came.items()} == dict.fromkeys(lab.names, NodeState.JOINED)
        incarnations = {name: lab.incarnation(name) for name in lab.names}
        assert all(incarnations.values())

        # Whoever is in is not even asked; whoever is not seen yet is asked, and left alone.
        assert reconcile(lab, provider, lab.names) == {}
        again = reconcile(lab, lab.new_provider())
        assert {report.state for report in again.values()} == {NodeState.PRESENT}
        assert {name: lab.incarnation(name) for name in lab.names} == incarnations

        # One dies: it alone is brought again.
        first, second = lab.names
        lab.kill(first)
        back = reconcile(lab, lab.new_provider(), [second])
        assert {name: report.state for name, report in back.items()} == {first: NodeState.JOINED}
        assert lab.incarnation(first) not in (incarnations[first], 0, None)
        assert lab.incarnation(second) == incarnations[second]

        # All end; what has ended can be ended again.
        for _ in range(2):
            assert {report.state for report in lab.new_provider().end()} == {NodeState.ENDED}
            assert not any(lab.incarnation(name) for name in lab.names)

    def test_a_node_that_cannot_be_reached_holds_up_no_other(self, lab: NodeLab) -> None:
        lost, other = lab.names
        lab.cut(lost)
        found = reconcile(lab, lab.new_provider())
        assert found[lost].state is NodeState.UNREACHABLE
        assert found[lost].problem
        assert found[lost].fix, "what to do about it"
        assert found[other].state is NodeState.JOINED
        ended = {report.name: report.state for report in lab.new_provider().end()}
        assert ended == {lost: NodeState.UNREACHABLE, other: NodeState.ENDED}
