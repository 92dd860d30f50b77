"""The Ray adapter keeps the contract: real Ray, real agents, real processes."""

from __future__ import annotations

import importlib
import logging
import os
import select
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.processes import find, in_session, kill
from terry.cluster.ports import Ended, Refused, Vanished
from terry.cluster.ray.daemons import ray_environment
from terry.cluster.ray.head import Head, end_head, start_head
from tests.contract.pool_contract import Action, PoolContract, Talk

if TYPE_CHECKING:
    from terry.cluster.ports import DevicePool

HELPERS = Path(__file__).parents[1] / "helpers"
RUNTIME = JobRuntime(entry="job_entries:main", environment={"PYTHONPATH": str(HELPERS)}, grace_s=2.0)
ENTRYPOINTS = {Action.SUCCEED: "print", Action.CRASH: "segfault", Action.FAIL: "fail", Action.WAIT: "wait"}

# Ray's own code leaves sockets and files to the collector.
pytestmark = [pytest.mark.filterwarnings("ignore::ResourceWarning"), pytest.mark.filterwarnings("default:::ray")]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray head of its own, with this process as a driver. Ray reads its settings once, when it is imported."""
    assert "ray" not in sys.modules, "another test has imported Ray in this process"
    workspace = WorkspacePaths(tmp_path_factory.mktemp("head"))
    found = start_head(workspace)
    before = dict(os.environ)
    os.environ.update(ray_environment(workspace))
    ray = importlib.import_module("ray")
    ray.init(address=found.address, _node_ip_address="127.0.0.1", log_to_driver=False, logging_level=logging.ERROR)
    yield found
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)
    end_head(workspace)
    assert in_session(found.session) == []


class RayLab:
    """A world of agents of its own for each test: a Ray namespace."""

    def __init__(self, workspace: WorkspacePaths, head: Head) -> None:
        self.workspace = workspace
        self._head = head
        self._namespace = f"lab-{uuid.uuid4().hex[:8]}"

    def new_pool(self, **versions: str) -> DevicePool:
        """As the next controller makes it. versions: of the head, where they are to be others."""
        from terry.cluster.actors.agent import AgentSettings
        from terry.cluster.actors.pool import RayPool

        settings = AgentSettings(workspace=str(self.workspace.root), runtime=RUNTIME, versions=versions)
        return RayPool(settings, self._namespace)

    def entrypoint(self, action: Action) -> str:
        """The helper that does it."""
        return ENTRYPOINTS[action]

    def kill_agent(self, device_id: str) -> None:
        """SIGKILL, and wait for the end."""
        pid = self.agent()
        fd = os.pidfd_open(pid)
        process = find(pid)
        assert process is not None
        kill([process])
        select.select([fd], [], [], 10.0)
        os.close(fd)

    def agent(self) -> int:
        """Pid of the one agent."""
        titles = {p.pid: Path(f"/proc/{p.pid}/cmdline").read_bytes() for p in in_session(self._head.session)}
        return next(pid for pid, title in titles.items() if title.startswith(b"ray::AgentActor"))

    def close(self) -> None:
        """End the agents for good: they hold the node's cores."""
        ray: Any = importlib.import_module("ray")
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["namespace"] == self._namespace:
                ray.kill(ray.get_actor(actor["name"], namespace=self._namespace), no_restart=True)


class TestLostAnswers:
    """What only Ray can do: not answer at all."""

    def test_an_agent_that_never_answers_is_replaced(
        self, tmp_path: Path, head: Head, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped, it neither answers nor dies; the next one takes orders."""
        from terry.cluster.actors import pool as ray_pool

        workspace = WorkspacePaths(tmp_path)
        workspace.cluster.mkdir(parents=True)
        lab = RayLab(workspace, head)
        try:
            talk = Talk(lab, epoch=1)
            first = talk.device()
            monkeypatch.setattr(ray_pool, "_POLL_S", 0.5)
            monkeypatch.setattr(ray_pool, "_SILENT_S", 2.0)
            os.kill(lab.agent(), signal.SIGSTOP)
            talk.until(lambda: any(isinstance(r, Vanished) for r in talk.reports))
            monkeypatch.undo()
            talk.until(lambda: len(talk.appeared()) == 2)
            assert talk.appeared()[1].device.agent != first.agent
            talk.launch("after", Action.SUCCEED)
            talk.wait_for(Ended, "after")
        finally:
            lab.close()


class TestRayPool(PoolContract):
    """All of the contract."""

    @pytest.fixture
    def lab(self, tmp_path: Path, head: Head) -> Iterator[RayLab]:
        workspace = WorkspacePaths(tmp_path)
        workspace.cluster.mkdir(parents=True)
        found = RayLab(workspace, head)
        yield found
        found.close()

    def test_a_node_with_other_versions_than_the_head_takes_no_jobs_and_says_what_to_do(self, lab: RayLab) -> None:
        pool = lab.new_pool(python=".".join(map(str, sys.version_info[:3])), torch="1.0.0")
        talk = Talk(lab, 1, pool)
        node = talk.device().node
        assert talk.appeared()[0].blocked.startswith(f"{node}: its versions are not those of the head: torch ")
        assert "`pip install torch==1.0.0` there" in talk.appeared()[0].blocked
        talk.launch("j-1", Action.SUCCEED)
        assert talk.wait_for(Refused, "j-1").blocked
