"""What is said of a workspace's machines, by terry.yaml, what came of asking them, and whom Ray counts as alive."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.lease import acquire
from terry.cluster.files.paths import Workspace
from terry.cluster.host.addresses import free_ports, own_address, own_addresses
from terry.cluster.host.processes import Process
from terry.cluster.lifecycle.overview import Condition, machines
from terry.cluster.nodes.records import Member, Members, write_members, write_report
from terry.cluster.ports import NodeFacts, NodeReport, NodeState
from terry.cluster.ray.head import Head
from terry.cluster.ray.listening import Listener, listeners
from terry.cluster.slurm import next_head
from terry.logs.text.nodes import machine_lines

NOW = datetime.now(UTC)
YAML = "nodes: {lab: {kind: ssh, hosts: [seawolf, quattro, porto, lost, new], labels: fast}}\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """seawolf is the head; quattro takes part, porto did, lost cannot be reached, new was never asked."""
    found = Workspace(tmp_path)
    found.cluster.mkdir(parents=True)
    found.config.write_text(YAML)
    acquire(found, NOW)
    head = Head(
        host="seawolf",
        boot_id="b",
        address="10.0.0.1:6379",
        life="one",
        name="seawolf",
        session=1,
        gcs=(1, 1),
        raylet=(2, 2),
        started_at=NOW,
    )
    durable.write_json(found.head, head)
    nodes = [Member(name=name, node_id=name, address="10.0.0.1") for name in ("seawolf", "quattro")]
    write_members(found, Members(life="one", nodes=tuple(nodes)))
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
    write_report(found, NodeReport(name="lost", state=NodeState.UNREACHABLE, trouble="no route", mend="plug it in"))
    return found


SLURM = "head: slurm\nnodes: {queue: {kind: slurm}}\n"


def test_slurm_jobs_that_are_still_to_come(workspace: Workspace) -> None:
    """A node that has just come is not one that waits; who is the head next is said without trouble."""
    workspace.config.write_text(SLURM)
    nodes = [Member(name=name, node_id=name, address="10.0.0.1") for name in ("seawolf", "queue-1")]
    write_members(workspace, Members(life="one", nodes=tuple(nodes)))
    for name in ("queue-1", "queue-2"):
        write_report(workspace, NodeReport(name=name, state=NodeState.WAITING, trouble="Slurm job 4 waits"))
    next_head.write(workspace, "9", "3")
    found = {
        m.name: (m.condition, m.trouble) for m in machines(workspace) if m.name not in {"quattro", "porto", "lost"}
    }
    assert found == {
        "seawolf": (Condition.HEAD, ""),
        "queue-1": (Condition.UP, ""),
        "queue-2": (Condition.WAITING, "Slurm job 4 waits"),
        "next head": (Condition.STANDBY, ""),
    }
    assert any("next head" in line and "Slurm job 9" in line for line in machine_lines(machines(workspace)))
    workspace.config.write_text(SLURM.partition("\n")[2])
    assert "next head" not in {machine.name for machine in machines(workspace)}


def test_each_machine_with_what_is_wrong_and_how_to_mend_it(workspace: Workspace) -> None:
    found = {machine.name: machine for machine in machines(workspace)}
    assert {name: machine.condition for name, machine in found.items()} == {
        "seawolf": Condition.HEAD,
        "quattro": Condition.UP,
        "porto": Condition.AWAY,
        "lost": Condition.UNREACHABLE,
        "new": Condition.UNKNOWN,
    }
    lines = machine_lines(list(found.values()))
    row = next(line for line in lines if line.startswith("quattro"))
    assert row.split() == ["quattro", "up", "10.0.0.2", "8", "0", "3.11.7", "2.60.0", "missing", "fast"]
    assert lines[lines.index("lost: no route") + 1] == "  to mend it: plug it in"
    assert "porto: Ray does not see it" in lines


def test_members_of_an_earlier_head_do_not_count(workspace: Workspace) -> None:
    write_members(workspace, Members(life="before", nodes=(Member(name="quattro", node_id="q", address="10.0.0.2"),)))
    found = {machine.name: machine.condition for machine in machines(workspace)}
    assert found["quattro"] is Condition.AWAY


def test_a_cluster_that_is_down_has_no_troubles(workspace: Workspace) -> None:
    workspace.lease.unlink()
    assert {machine.condition for machine in machines(workspace)} == {Condition.DOWN}


def test_one_machine_alone_is_no_list(workspace: Workspace) -> None:
    workspace.config.write_text("nodes: {here: {kind: local}}\n")
    assert machines(workspace) == []


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
    with pytest.raises(UserError, match="no address by which other machines could reach it"):
        own_address("lo", None)


def test_ports_within_a_range() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        assert port not in free_ports(1, "10.0.0.1", (port, min(port + 20, 65535)))
        with pytest.raises(UserError, match="has only 0 free ports"):
            free_ports(1, "10.0.0.1", (port, port))
    assert len(set(free_ports(3, "127.0.0.1"))) == 3


def test_nodes_that_slurm_gives(workspace: Workspace) -> None:
    """One that waits says why; one that was let go is not missed."""
    workspace.config.write_text("nodes: {queue: {kind: slurm, labels: fast}}\n")
    for name, state, trouble in (
        ("queue-1", NodeState.WAITING, "Slurm job 7 waits: Resources"),
        ("queue-2", NodeState.ENDED, ""),
        ("queue-3", NodeState.UNFIT, "Slurm says: invalid partition"),
    ):
        write_report(workspace, NodeReport(name=name, state=state, trouble=trouble, mend="" if "7" in trouble else "x"))
    found = {machine.name: machine for machine in machines(workspace) if machine.name.startswith("queue")}
    conditions = {name: machine.condition for name, machine in found.items()}
    assert conditions == {"queue-1": Condition.WAITING, "queue-3": Condition.UNFIT}
    lines = machine_lines([found["queue-1"]])
    assert lines[-1] == "queue-1: Slurm job 7 waits: Resources", "nothing to mend"


def test_labels_of_the_machine_on_which_up_is_called(workspace: Workspace) -> None:
    """It has no host in terry.yaml: it is where the head is, unless `head:` says otherwise."""
    both = "nodes: {here: {kind: local, labels: mine}, lab: {kind: ssh, hosts: [quattro], labels: fast}}\n"
    for text, expected in ((both, ("mine",)), (f"head: seawolf\n{both}", ())):
        workspace.config.write_text(text)
        found = {machine.name: machine.labels for machine in machines(workspace)}
        assert (found["seawolf"], found["quattro"]) == (expected, ("fast",))


def test_a_narrow_terminal_keeps_labels_and_loses_versions(workspace: Workspace) -> None:
    lines = machine_lines(machines(workspace), width=60)
    assert lines[0].endswith("PYTHON  LABELS")
    assert max(map(len, lines[:6])) <= 60
    workspace.config.write_text(YAML.replace(", labels: fast", ""))
    assert machine_lines(machines(workspace), width=72)[0].endswith("TORCH"), "where there are no labels"
