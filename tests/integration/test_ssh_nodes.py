"""The lab by ssh, on real hosts: a login host that only submits, two nodes that train, a cable that is cut.

One bed and one workspace for all tests, in their order: starting a cluster takes longer than what is to be seen.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest

from terry.cluster.core.model import EndReason
from terry.cluster.nodes.records import reports
from terry.cluster.ports import NodeState
from tests.testbed.beds import ROOT, Bed, why_not
from tests.testbed.lab import Lab

pytestmark = [pytest.mark.timeout(600), pytest.mark.skipif(bool(why_not()), reason=why_not())]

#: Trainings that take long enough for things to happen meanwhile.
LONG = 150


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    bed = Bed(tmp_path_factory.mktemp("bed"))
    bed.up("login", "seawolf", "quattro", "stranger")
    yield Lab(bed)
    bed.down()


@pytest.fixture(scope="module")
def reference(lab: Lab) -> dict[str, set[str]]:
    """Weights of a sweep that nothing disturbed: each cell trained once on each node."""
    lab.submit("reference", epochs=LONG, on=["seawolf", "quattro"])
    lab.finish("reference")
    lab.until(lambda: "quattro" in reports(lab.workspace))  # it may run jobs before its `join` has answered
    return lab.weights("reference")


def test_submit_on_the_login_host_brings_the_nodes_and_uses_both(lab: Lab, reference: dict[str, set[str]]) -> None:
    for job in lab.trainings("reference"):
        record = lab.state().jobs[job]
        assert [a.node for a in record.attempts] == [record.job.resources.node], "each where it was to run"
    used = [attempt.node for job in lab.trainings("reference") for attempt in lab.attempts(job)]
    assert sorted(used) == ["quattro", "quattro", "seawolf", "seawolf"], "each cell on each node"
    assert {name: len(found) for name, found in reference.items()} == {"gru": 1, "lstm": 1}, "the same on both nodes"
    assert lab.processes("login") == [], "a login host needs no Ray"
    assert lab.members() == {"seawolf", "quattro"}
    assert lab.head().host == "seawolf"


def test_the_token_is_private_on_every_node(lab: Lab, reference: dict[str, set[str]]) -> None:
    token, folder = lab.workspace.token.read_text(), f"/tmp/terry-0-{lab.workspace.id}"
    for host in ("seawolf", "quattro"):
        found = lab.bed.on(host, "sh", "-c", f"stat -c '%a %U' {folder} {folder}/token; cat {folder}/token").stdout
        assert found == f"700 root\n600 root\n{token}"
        assert token not in lab.bed.on(host, "ps", "axeww").stdout, "in no command line, no environment"


def test_up_again_touches_nothing(lab: Lab, reference: dict[str, set[str]]) -> None:
    hosts = ("login", "seawolf", "quattro")
    before, head = lab.lasting(*hosts), lab.head()
    assert {"raylet/raylet", "ray::AgentActor", "terry.cluster.agent.forkserver"} <= set(before["quattro"].values())
    assert {"gcs_server", "ray::ControllerActor"} <= set(before["seawolf"].values())
    assert "already up" in lab.run("up")
    assert (lab.lasting(*hosts), lab.head()) == (before, head)


def test_without_the_token_no_port_does_anything(lab: Lab, reference: dict[str, set[str]]) -> None:
    """From a node beside them, and as another user on one of them: every method of every service of Ray."""
    ports = {"10.77.0.2": lab.ports("seawolf"), "10.77.0.3": lab.ports("quattro")}
    assert all(len(found) >= 4 for found in ports.values()), "raylet, object manager, runtime env agent, a worker"
    private = [str(lab.workspace.token), f"/tmp/terry-0-{lab.workspace.id}/token", str(lab.workspace.lease)]
    for host, targets in (("stranger", ports), ("seawolf", {"127.0.0.1": ports["10.77.0.2"]})):
        found = lab.intrude(host, targets, private)
        assert found["readable"] == []
        for kind in ("none", "wrong"):
            for port, answers in found[kind].items():
                let_in = {what: answer for what, answer in answers.items() if answer not in _REFUSED}
                assert let_in.keys() <= {"/grpc.health.v1.Health/Check"}, (host, kind, port, let_in)
                assert set(answers.values()) & {*_TURNED_AWAY, "ConnectionRefusedError"}, (port, answers)
    gcs = lab.head().address
    control = lab.intrude("stranger", {"10.77.0.2": [int(gcs.rpartition(":")[2])]}, [], lab.workspace.token.read_text())
    assert control["control"] == "OK", "with the token it is let in"
    assert lab.members() == {"seawolf", "quattro"}


_TURNED_AWAY = {"UNAUTHENTICATED", "401", "403"}
#: The same; a service or a path that is not there; gRPC on a port of HTTP and the other way round; nobody listens.
_REFUSED = {
    *(*_TURNED_AWAY, "UNIMPLEMENTED", "UNAVAILABLE", "404", "405"),
    *("BadStatusLine", "RemoteDisconnected", "ConnectionResetError", "ConnectionRefusedError"),
}


@pytest.mark.skipif(shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin") is None, reason="nftables is missing")
def test_the_lines_for_a_firewall_keep_strangers_out_and_the_nodes_together(
    lab: Lab, reference: dict[str, set[str]]
) -> None:
    """Those of the page, for these two nodes and all ports but that of ssh."""
    page = (ROOT / "docs" / "how-to" / "ssh.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("nft ")]
    text = "\n".join(lines).replace("10.77.0.0/24", "'{ 10.77.0.2, 10.77.0.3 }'").replace("20000-20100", "1024-65535")
    gcs = int(lab.head().address.rpartition(":")[2])
    assert _reaches(lab, "stranger", gcs) == "reached"
    for host in ("seawolf", "quattro"):
        done = lab.bed.on(host, "sh", "-ec", text)
        assert done.returncode == 0, done.stderr
    assert _reaches(lab, "stranger", gcs) == "TimeoutError"
    lab.submit("behind", epochs=20, on=["seawolf", "quattro"])
    lab.finish("behind")
    assert lab.members() == {"seawolf", "quattro"}
    for host in ("seawolf", "quattro"):
        assert lab.bed.on(host, "nft", "delete", "table", "inet", "filter").returncode == 0


def _reaches(lab: Lab, host: str, port: int) -> str:
    """`reached`, or the error of a connection to seawolf."""
    script = f"""
import socket
try:
    socket.create_connection(("10.77.0.2", {port}), timeout=3)
    print("reached")
except OSError as error:
    print(type(error).__name__)
"""
    return lab.bed.on(host, sys.executable, "-c", script).stdout.strip()


def test_a_cable_is_cut_and_the_runs_go_on_elsewhere(lab: Lab, reference: dict[str, set[str]]) -> None:
    lab.submit("cut", epochs=LONG, training__log_every=[19, 21])
    job = lab.until(lambda: lab.on_node("cut", "quattro"))[0]
    lab.signal("STOP", "quattro", job)  # those beside it go on, cut off
    lab.bed.cut("quattro")
    lab.until(lambda: "quattro" not in lab.members())
    lab.until(lambda: _moved(lab, job))
    assert "node quattro was lost" in lab.run("explain", job)
    lab.until(lambda: lab.report("quattro").state is NodeState.UNREACHABLE)
    assert "No route to host" in (words := lab.run("nodes")) or "timed out" in words
    lab.until(lambda: not _at_work(lab, "quattro"))  # what was cut off ends by itself
    lab.bed.uncut("quattro")
    lab.until(lambda: "quattro" in lab.members())
    lab.finish("cut")
    assert lab.weights("cut") == reference
    lab.assert_each_done_once("cut")
    assert any(a.end and a.end.reason is EndReason.NODE_LOST for a in lab.attempts(job))

    lab.submit("after", epochs=20, resources__node=["quat*"])
    lab.finish("after")
    assert {a.node for job in lab.trainings("after") for a in lab.attempts(job)} == {"quattro"}, "it is used again"


def _at_work(lab: Lab, host: str) -> list[str]:
    """All but Ray's log monitor, which does nothing, and is ended when the node comes back."""
    return [line for line in lab.processes(host) if "log_monitor" not in line]


def _moved(lab: Lab, job: str) -> bool:
    """It runs on the other node, or is done already; from its checkpoint, not from nothing."""
    last = lab.attempts(job)[-1]
    return last.number > 1 and last.node == "seawolf" and bool(lab.checkpoints(job, 1))


def test_the_heads_host_dies_and_up_makes_another_the_head(lab: Lab, reference: dict[str, set[str]]) -> None:
    lab.submit("crash", epochs=LONG)
    lab.until(lambda: lab.on_node("crash", "seawolf") or lab.on_node("crash", "quattro"))
    lab.bed.crash("seawolf")
    said = lab.run("up")
    assert "seawolf: " in said
    assert lab.head().host == "quattro"
    lab.bed.up("login", "seawolf", "quattro")
    assert "seawolf: joined" in lab.run("up")
    lab.finish("crash")
    assert lab.weights("crash") == reference
    lab.assert_each_done_once("crash")
    assert lab.head().host == "quattro", "the head stays where it is"


def test_down_leaves_nothing_on_any_node(lab: Lab, reference: dict[str, set[str]]) -> None:
    lab.run("down")
    for host in ("seawolf", "quattro"):
        assert lab.processes(host) == []
        left = lab.bed.on(host, "ls", f"/tmp/terry-0-{lab.workspace.id}").stdout.split()
        assert set(left) <= {"controller.lock", "keeper.lock", "node.lock"}, "no token, nothing of Ray"
