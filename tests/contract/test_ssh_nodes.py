"""Nodes by ssh keep the contract of whoever brings nodes: real sshd, a real Ray head, real raylets."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec
import pytest

from terry.cluster.config.nodes import NodeSetup
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.nodes.hosts import ReachableNodes
from terry.cluster.nodes.remote import Answer, SshNode, run_program
from terry.cluster.ports import ClusterKey, NodeProvider
from terry.cluster.ray.head import key_of, read_head
from tests.contract.node_contract import NodeContract, NodeLab
from tests.testbed.beds import Bed, why_not

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(bool(why_not()), reason=why_not())]

_START = """
import sys
from pathlib import Path
from terry.cluster.ray.head import HeadPlace, start_head
from terry.cluster.ray.daemons import NodeResources
from terry.cluster.files.paths import WorkspacePaths
place = HeadPlace(address="10.77.0.1", offered=NodeResources(name="head", cpus=0))
start_head(WorkspacePaths(Path(sys.argv[1])), place)
"""


class FromTheHead(SshNode):
    """ssh as it is called on the head's host: the test itself is not in the bed's network."""

    bed: Bed

    def run(self, arguments: list[str], data: bytes, timeout_s: float) -> Answer:
        return run_program([str(self.bed.state / "bin" / "on"), "head", *self.command(arguments)], data, timeout_s)


class SshLab:
    """A head with two nodes."""

    names = ("seawolf", "quattro")

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.workspace = WorkspacePaths(bed.shared / "ws")
        FromTheHead.bed = bed

    def new_provider(self) -> NodeProvider:
        nodes = [FromTheHead(host=name, setup=NodeSetup(cpus=1)) for name in self.names]
        return ReachableNodes(str(self.workspace.root), nodes)

    def key(self) -> ClusterKey:
        head = read_head(self.workspace)
        assert head is not None
        return key_of(self.workspace, head)

    def incarnation(self, name: str) -> object:
        """The raylet's pid and start, while it lives."""
        record = self.bed.on(name, "cat", f"/tmp/terry-0-{self.workspace.id}/node.json")
        if record.returncode != 0:
            return None
        pid, start = msgspec.json.decode(record.stdout.encode())["raylet"]
        alive = self.bed.on(name, "kill", "-0", str(pid)).returncode == 0
        return (pid, start) if alive else None

    def kill(self, name: str) -> None:
        assert self.bed.on(name, "pkill", "-9", "-x", "raylet").returncode == 0

    def cut(self, name: str) -> None:
        self.bed.cut(name)


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    found = Bed(tmp_path_factory.mktemp("bed"))
    found.up("head", "seawolf", "quattro")
    workspace = found.shared / "ws"
    done = found.on("head", sys.executable, "-c", _START, str(workspace))
    assert done.returncode == 0, done.stderr
    yield found
    found.down()


class TestSshNodes(NodeContract):
    """On a bed."""

    @pytest.fixture
    def lab(self, bed: Bed) -> Iterator[NodeLab]:
        found = SshLab(bed)
        yield found
        for name in found.names:
            bed.uncut(name)
