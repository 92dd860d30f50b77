"""The fake provider of nodes keeps the contract."""

from __future__ import annotations

import pytest

from terry.cluster.ports import ClusterKey, NodeProvider
from tests.contract.node_contract import NodeContract, NodeLab
from tests.fakes.nodes import FakeNodes


class FakeNodeLab(FakeNodes):
    """The provider of all processes is the world itself."""

    names = ("seawolf", "quattro")

    def __init__(self) -> None:
        super().__init__(*self.names)

    def new_provider(self) -> NodeProvider:
        return self

    def key(self) -> ClusterKey:
        return ClusterKey(workspace="/w", address="10.0.0.1:1", incarnation="one", token="secret", versions={})


class TestFakeNodes(NodeContract):
    """In memory."""

    @pytest.fixture
    def lab(self) -> NodeLab:
        return FakeNodeLab()
