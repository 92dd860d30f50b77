"""A Ray cluster that others have started is used, and is left as it was."""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from terry.cluster.core.model import JobRecord, JobState
from terry.cluster.host.addresses import LOOPBACK, free_ports
from terry.cluster.host.processes import in_session, kill_all
from tests.faults.workspace_under_fire import UnderFire

pytestmark = pytest.mark.timeout(400)


class Others:
    """Their Ray, with a token of their own."""

    def __init__(self, folder: Path) -> None:
        token = folder / "their-token"
        token.write_text(secrets.token_hex(32))
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        port, client = free_ports(2, LOOPBACK)
        self.address = f"{LOOPBACK}:{port}"
        self.folder = f"/tmp/theirs-{port}"  # short: Unix sockets allow 107 bytes
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", f"--node-ip-address={LOOPBACK}"),
            *(f"--port={port}", f"--ray-client-server-port={client}", "--num-cpus=2", "--num-gpus=0"),
            *("--include-dashboard=false", "--object-store-memory=80000000", "--disable-usage-stats"),
            *("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"),
            f"--temp-dir={self.folder}",
        ]
        env = {**os.environ, **self.environment, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        starter = subprocess.Popen(command, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
        assert starter.wait(timeout=120) == 0
        self.session = starter.pid

    def daemons(self) -> list[str]:
        """Command lines of their daemons, without those of workers."""
        lines = [Path(f"/proc/{p.pid}/cmdline").read_bytes().decode() for p in in_session(self.session)]
        return sorted(line for line in lines if "ray::" not in line and "default_worker" not in line)

    def end(self) -> None:
        assert kill_all(lambda: in_session(self.session), timeout_s=15.0) == []
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Others]:
    found = Others(tmp_path)
    yield found
    found.end()


_HOLDER = """
import sys, ray
ray.init(address=sys.argv[1], _node_ip_address="127.0.0.1", namespace="theirs", log_to_driver=False)

@ray.remote(num_cpus=2)
class Holder:
    def there(self):
        return "held"

holder = Holder.remote()  # without a name it would end at once
print(ray.get(holder.there.remote()), flush=True)
sys.stdin.read()
"""


class Holder:
    """Another user's program, which takes both cores in Ray as soon as it can."""

    def __init__(self, others: Others) -> None:
        env = {**os.environ, **others.environment, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        command = [sys.executable, "-c", _HOLDER, others.address]
        self._program = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def wait(self) -> None:
        assert self._program.stdout is not None
        assert select.select([self._program.stdout], [], [], 90.0)[0], "the cores were not given back"
        assert self._program.stdout.readline() == "held\n"

    def end(self) -> None:
        self._program.communicate(timeout=60)


def test_a_sweep_on_a_ray_cluster_of_others(tmp_path: Path, others: Others, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    place = UnderFire(tmp_path)
    place.workspace.root.mkdir(mode=0o700)
    place.workspace.config.write_text(_nodes(others, "1 h"))
    before = others.daemons()
    try:
        _without_a_token(place, monkeypatch)
        # As a `ray.init` of this node has left it: nothing is to be set.
        shutil.copy(others.environment["RAY_AUTH_TOKEN_PATH"], home / ".ray" / "auth_token")
        _guests(place)
        _give_back(place, others)
    finally:
        place.run("down", check=False)
    assert place.everything() == []
    place.until(lambda: not _agents(others))
    assert others.daemons() == before, "theirs goes on as it was"


def _without_a_token(place: UnderFire, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for is said at once, and nothing is left that would try on for ever."""
    began = time.monotonic()
    said = place.run("up", check=False)
    assert said.returncode == 2
    assert "asks for a token, and there is none here: `export RAY_AUTH_MODE=token" in said.stderr.splitlines()[-1]
    with monkeypatch.context() as other:
        other.setenv("RAY_AUTH_MODE", "token")
        other.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        assert "refuses the token in RAY_AUTH_TOKEN" in place.run("up", check=False).stderr.splitlines()[-1]
    assert time.monotonic() - began < 2 * 110.0, "120 s each is what was waited for in silence"
    assert place.keeper() is None


def _nodes(others: Others, idle_after: str) -> str:
    return f"nodes: {{grown: {{kind: ray, address: '{others.address}', idle_after: {idle_after}}}}}\n"


def _guests(place: UnderFire) -> None:
    place.submit("guests", epochs=20)
    place.finish("guests")
    place.assert_each_done_once("guests")
    assert json.loads(place.workspace.head.read_text())["foreign"]
    assert place.everything(), "agents, forkserver, keeper"


def _give_back(place: UnderFire, others: Others) -> None:
    """What is idle goes back to them, and is asked for again when jobs wait: they come first."""
    assert [device["condition"] for device in place.json("nodes")] == ["online"]
    place.workspace.config.write_text(_nodes(others, "1 s"))
    holder = Holder(others)
    try:
        holder.wait()
        place.until(lambda: not _agents(others))
        place.until(lambda: [device["condition"] for device in place.json("nodes")] == ["given back"])
        place.workspace.config.write_text(_nodes(others, "1 h"))
        place.submit("again", epochs=20)
        job = place.until(lambda: next((i for i, r in place.state().jobs.items() if _waits(r)), ""))
        place.until(lambda: "as soon as nobody else holds it in Ray" in place.run("explain", job).stdout)
        assert place.run("doctor", check=False).returncode == 0
    finally:
        holder.end()
    place.finish("again")
    assert "no cluster watches" not in place.run("doctor", check=False).stdout, "the agent is theirs to watch"
    place.assert_each_done_once("again")
    assert place.workspace.controller_log.read_text().count("Traceback") == 0


def _waits(record: JobRecord) -> bool:
    return record.job.sweep == "again" and record.state is JobState.PENDING


def _agents(others: Others) -> list[int]:
    return [p.pid for p in in_session(others.session) if "ray::AgentActor" in _title(p.pid)]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
