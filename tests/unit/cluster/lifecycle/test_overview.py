"""What is said of a workspace's nodes, by terry.yaml, what came of asking them, and whom Ray counts as alive."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.lease import acquire
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.addresses import free_ports, own_address, own_addresses
from terry.cluster.host.processes import Process
from terry.cluster.lifecycle.overview import Condition, node_views
from terry.cluster.nodes.records import ClusterMember, ClusterMembers, write_members, write_report
from terry.cluster.ports import NodeFacts, NodeReport, NodeState
from terry.cluster.ray.head import Head
from terry.cluster.ray.listening import Listener, listeners
from terry.cluster.slurm import next_head
from terry.logs.text.nodes import node_lines

NOW = datetime.now(UTC)
YAML = "nodes: {lab: {kind: ssh, hosts: [seawolf, quattro, porto, lost, new], labels: fast}}\n"


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    """seawolf is the head; quattro takes part, porto did, lost cannot be reached, new was never asked."""
    found = WorkspacePaths(tmp_path)
    found.cluster.mkdir(parents=True)
    found.config.write_text(YAML)
    acquire(found, NOW)
    head = Head(
        host="seawolf",
        boot_id="b",
        address="10.0.0.1:6379",
        incarnation="one",
        name="seawolf",
        session=1,
        gcs=(1, 1),
        raylet=(2, 2),
        started_at=NOW,
    )
    durable.write_json(found.head, head)
    nodes = [ClusterMember(name=name, node_id=name, address="10.0.0.1") for name in ("seawolf", "quattro")]
    write_members(found, ClusterMembers(incarnation="one", nodes=tuple(nodes)))
    facts = NodeFacts(
        host="quattro",
        address="10.0.0.2",
        versions={"python": "3.11.7", "ray": "2.60.0"},
        cuda="",
        cores=8,
        gpus=(),
        sees_workspace=True,
        clock=NOW,
    )
    write_report(found, NodeReport(name="quattro", state=NodeState.JOINED, facts=facts))
    write_report(found, NodeReport(name="porto", state=NodeState.JOINED))
    write_report(found, NodeReport(name="lost", state=NodeState.UNREACHABLE, problem="no route", fix="plug it in"))
    return found


SLURM = "head: slurm\nnodes: {queue: {kind: slurm}}\n"


def test_slurm_jobs_that_are_still_to_come(workspace: WorkspacePaths) -> None:
    """A node that has just come is not one that waits; who is the head next is shown without a problem."""
    workspace.config.write_text(SLURM)
    nodes = [ClusterMember(name=name, node_id=name, address="10.0.0.1") for name in ("seawolf", "queue-1")]
    write_members(workspace, ClusterMembers(incarnation="one", nodes=tuple(nodes)))
    for name in ("queue-1", "queue-2"):
        write_report(workspace, NodeReport(name=name, state=NodeState.WAITING, problem="Slurm job 4 waits"))
    next_head.write(workspace, "9", "3")
    found = {
        m.name: (m.condition, m.problem) for m in node_views(workspace) if m.name not in {"quattro", "porto", "lost"}
    }
    assert found == {
        "seawolf": (Condition.HEAD, ""),
        "queue-1": (Condition.UP, ""),
        "queue-2": (Condition.WAITING, "Slurm job 4 waits"),
        "next head": (Condition.STANDBY, ""),
    }
    assert any("next head" in line and "Slurm job 9" in line for line in node_lines(node_views(workspace)))
    workspace.config.write_text(SLURM.partition("\n")[2])
    assert "next head" not in {node.name for node in node_views(workspace)}


def test_each_node_with_what_is_wrong_and_how_to_fix_it(workspace: WorkspacePaths) -> None:
    found = {node.name: node for node in node_views(workspace)}
    assert {name: node.condition for name, node in found.items()} == {
        "seawolf": Condition.HEAD,
        "quattro": Condition.UP,
        "porto": Condition.AWAY,
        "lost": Condition.UNREACHABLE,
        "new": Condition.UNKNOWN,
    }
    lines = node_lines(list(found.values()))
    row = next(line for line in lines if line.startswith("quattro"))
    assert row.split() == ["quattro", "up", "10.0.0.2", "8", "0", "3.11.7", "2.60.0", "missing", "fast"]
    assert lines[lines.index("lost: no route") + 1] == "  to fix it: plug it in"
    assert "porto: Ray does not see it" in lines


def test_members_of_an_earlier_head_do_not_count(workspace: WorkspacePaths) -> None:
    write_members(
        workspace,
        ClusterMembers(incarnation="before", nodes=(ClusterMember(name="quattro", node_id="q", address="10.0.0.2"),)),
    )
    found = {node.name: node.condition for node in node_views(workspace)}
    assert found["quattro"] is Condition.AWAY


def test_a_cluster_that_is_down_has_no_problems(workspace: WorkspacePaths) -> None:
    workspace.lease.unlink()
    assert {node.condition for node in node_views(workspace)} == {Condition.DOWN}


def test_one_node_alone_is_no_list(workspace: WorkspacePaths) -> None:
    workspace.config.write_text("nodes: {here: {kind: local}}\n")
    assert node_views(workspace) == []


def test_listening_sockets_of_a_process() -> None:
    with socket.socket() as inside, socket.socket(socket.AF_INET6) as outside:
        inside.bind(("127.0.0.1", 0))
        outside.bind(("::", 0))
        ports = [each.getsockname()[1] for each in (inside, outside)]
        assert not {found.port for found in listeners([Process.current()])} & set(ports), "not before they listen"
        inside.listen()
        outside.listen()
        mine = {found.port: found for found in listeners([Process.current()])}
    assert (mine[ports[0]].address, mine[ports[0]].is_open) == ("127.0.0.1", False)
    assert (mine[ports[1]].address, mine[ports[1]].is_open) == ("::", True)
    assert mine[ports[0]].program == Path(f"/proc/{os.getpid()}/exe").readlink().name
    assert not Listener(1, "::ffff:127.0.0.1", "ray").is_open


def test_addresses_by_interface_and_network() -> None:
    assert own_addresses()["lo"] == "127.0.0.1"
    others = {name: address for name, address in own_addresses().items() if name != "lo"}
    for name, address in others.items():
        assert own_address(name, None) == address
        assert own_address(f"{address}/32", None) == address
    with pytest.raises(UserError, match="no interface or address 'eth77'; it has: lo 127"):
        own_address("eth77", None)
    with pytest.raises(UserError, match="no address by which other nodes could reach it"):
        own_address("lo", None)


def test_ports_within_a_range() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        assert port not in free_ports(1, "10.0.0.1", (port, min(port + 20, 65535)))
        with pytest.raises(UserError, match="has only 0 free ports"):
            free_ports(1, "10.0.0.1", (port, port))
    assert len(set(free_ports(3, "127.0.0.1"))) == 3


def test_nodes_that_slurm_gives(workspace: WorkspacePaths) -> None:
    """One that waits says why; one that was let go is not missed."""
    workspace.config.write_text("nodes: {queue: {kind: slurm, labels: fast}}\n")
    for name, state, problem in (
        ("queue-1", NodeState.WAITING, "Slurm job 7 waits: Resources"),
        ("queue-2", NodeState.ENDED, ""),
        ("queue-3", NodeState.UNFIT, "Slurm says: invalid partition"),
    ):
        write_report(workspace, NodeReport(name=name, state=state, problem=problem, fix="" if "7" in problem else "x"))
    found = {node.name: node for node in node_views(workspace) if node.name.startswith("queue")}
    conditions = {name: node.condition for name, node in found.items()}
    assert conditions == {"queue-1": Condition.WAITING, "queue-3": Condition.UNFIT}
    lines = node_lines([found["queue-1"]])
    assert lines[-1] == "queue-1: Slurm job 7 waits: Resources", "nothing to fix"


def test_labels_of_the_node_on_which_up_is_called(workspace: WorkspacePaths) -> None:
    """It has no host in terry.yaml: it is where the head is, unless `head:` says otherwise."""
    both = "nodes: {here: {kind: local, labels: mine}, lab: {kind: ssh, hosts: [quattro], labels: fast}}\n"
    for text, expected in ((both, ("mine",)), (f"head: seawolf\n{both}", ())):
        workspace.config.write_text(text)
        found = {node.name: node.labels for node in node_views(workspace)}
        assert (found["seawolf"], found["quattro"]) == (expected, ("fast",))


def test_a_narrow_terminal_keeps_labels_and_loses_versions(workspace: WorkspacePaths) -> None:
    lines = node_lines(node_views(workspace), width=60)
    assert lines[0].endswith("PYTHON  LABELS")
    assert max(map(len, lines[:6])) <= 60
    workspace.config.write_text(YAML.replace(", labels: fast", ""))
    assert node_lines(node_views(workspace), width=72)[0].endswith("TORCH"), "where there are no labels"
