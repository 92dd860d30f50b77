"""Nodes of ours join a Ray cluster of others, on real hosts: one by ssh, and the one on which `up` is called."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from terry.cluster.ports import NodeState
from tests.testbed.beds import Bed, why_not
from tests.testbed.lab import Lab

pytestmark = [pytest.mark.timeout(400), pytest.mark.skipif(bool(why_not()), reason=why_not())]

#: Their head is on quattro, of which terry.yaml knows nothing but the address.
THEIRS = "10.77.0.3:6379"
NODES = f"""
nodes:
  grown: {{kind: ray, address: "{THEIRS}"}}
  here: {{kind: local, cpus: 1}}
  lab: {{kind: ssh, hosts: [seawolf], cpus: 1, labels: [ours]}}
"""
_START = """exec ray start --head --node-ip-address=10.77.0.3 --port=6379 --num-cpus=1 --include-dashboard=false \\
    --object-store-memory=80000000 >/tmp/started 2>&1 </dev/null"""
_ALIVE = """
import json, ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
actors = ray.util.list_named_actors(all_namespaces=True)
print(json.dumps([[n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]], len(actors)]))
"""


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    bed = Bed(tmp_path_factory.mktemp("bed"))
    bed.up("login", "seawolf", "quattro")
    token = bed.shared / "their-token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # after the hosts have started: ssh finds nothing of it on seawolf
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    yield Lab(bed, NODES)
    bed.down()


def test_nodes_of_ours_join_theirs_and_leave_it_as_it_was(lab: Lab) -> None:
    started = lab.bed.on("quattro", "sh", "-c", _START)
    assert started.returncode == 0, lab.bed.on("quattro", "cat", "/tmp/started").stdout
    said = lab.run("up")
    assert "seawolf: joined" in said
    lab.until(lambda: lab.members() == {"login", "seawolf", "quattro"})
    _trains_everywhere(lab)
    _token_is_private(lab)
    again = lab.lasting("login", "seawolf")
    assert "already up" in lab.run("up")
    assert lab.lasting("login", "seawolf") == again, "nothing was touched"
    lab.run("down")
    assert (lab.processes("login"), lab.processes("seawolf")) == ([], [])
    assert lab.report("seawolf").state is NodeState.ENDED
    lab.until(lambda: _alive(lab) == [["10.77.0.3"], 0])


def _trains_everywhere(lab: Lab) -> None:
    lab.submit("mixed", epochs=10, on=["login", "ours", "quattro"])
    lab.finish("mixed")
    lab.assert_each_done_once("mixed")
    for job in lab.trainings("mixed"):
        asked = lab.state().jobs[job].job.resources.node
        assert lab.attempts(job)[-1].node == ("seawolf" if asked == "ours" else asked)


def _token_is_private(lab: Lab) -> None:
    token, folder = (lab.bed.shared / "their-token").read_text(), f"/tmp/terry-0-{lab.workspace.id}"
    for host in ("login", "seawolf"):
        assert lab.bed.on(host, "sh", "-c", f"stat -c %a {folder} {folder}/token").stdout == "700\n600\n"
        assert token not in lab.bed.on(host, "ps", "axeww").stdout, "in no command line, no environment"
    assert not lab.workspace.token.exists(), "not on the shared disk"


def _alive(lab: Lab) -> Any:
    done = lab.bed.on("quattro", sys.executable, "-W", "ignore", "-c", _ALIVE, THEIRS)
    assert done.returncode == 0, done.stderr
    # Ray may print a word of its own at any time.
    return json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith(("[", "{"))))
