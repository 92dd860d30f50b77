"""A node that does not see the workspace does its share of the work: a kill loses nothing but what was not sent yet.

Real agents, job processes and trainings. The way home leads to the files without Ray here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from terry.cluster.core.model import EndReason
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.processes import kill_all, with_environment_prefix
from terry.cluster.ports import Ended, LaunchOrder, Refused
from terry.jobs.process.checkpoints import checkpoints, load
from tests.helpers.job_processes import Attempt, start
from tests.unit.jobs.test_train import curve, prepared, result

ROOT = Path(__file__).parents[2]
WAIT_S = 240.0
LONG = ("training.epochs=60", "checkpoint.every=0.02 s")


class FarNode:
    """A node with a disk of its own. Its agents come and go."""

    def __init__(self, folder: Path, order: dict[str, Any]) -> None:
        self.local = WorkspacePaths(folder / "far")
        self.home = WorkspacePaths(Path(order["workspace"]))
        self.run, self.local_run = (place.run(order["job_id"]) for place in (self.home, self.local))
        self.order = order
        self._cut = Path(f"{self.local.root}.cut")
        self.agent: subprocess.Popen[str] | None = None

    def start(self, attempt: int) -> None:
        """Start an agent, with an attempt to carry out."""
        order = {k: v for k, v in self.order.items() if k in LaunchOrder.__dataclass_fields__} | {"attempt": attempt}
        path = Path(f"{self.local.root}.order")
        path.write_bytes(msgspec.json.encode(order))
        command = [
            sys.executable,
            "-m",
            "tests.faults.away_agent",
            str(self.home.root),
            str(self.local.root),
            str(path),
        ]
        self.agent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def wait(self) -> Ended | Refused:
        """What the agent says of the attempt, once it is over."""
        assert self.agent is not None
        said, _ = self.agent.communicate(timeout=WAIT_S)
        assert self.agent.returncode == 0, self.log()
        return msgspec.json.decode(said, type=Ended | Refused)

    def kill(self) -> None:
        """SIGKILL for the agent; the kernel ends what it has started."""
        assert self.agent is not None
        self.agent.kill()
        self.agent.communicate()
        assert not kill_all(lambda: with_environment_prefix("TERRY_AGENT", f"away/{self.local.root}"), timeout_s=30.0)

    def cut(self) -> None:
        self._cut.touch()

    def uncut(self) -> None:
        self._cut.unlink()

    def newest(self, *, local: bool = False) -> int:
        """Step of the newest checkpoint, at home or here; -1: none."""
        found = checkpoints((self.local_run if local else self.run).checkpoints)
        return int(found[-1].name[5:14]) if found else -1

    def until(self, fits: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not fits():
            assert self.agent is not None
            assert self.agent.poll() is None, f"it ended too early: {self.agent.communicate()}\n{self.log()}"
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def log(self) -> str:
        return Path(f"{self.local.root}.log").read_text(errors="replace")

    def close(self) -> None:
        if self.agent is not None and self.agent.poll() is None:
            self.kill()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FarNode]:
    found = FarNode(tmp_path, prepared(tmp_path / "home", *LONG))
    yield found
    found.close()


def test_killed_and_cut_off_it_ends_with_the_same_weights(tmp_path: Path, node: FarNode) -> None:
    reference = start(prepared(tmp_path / "reference", *LONG))
    node.start(1)
    node.until(lambda: node.newest() >= 0)
    node.cut()
    node.until(lambda: node.newest(local=True) > node.newest() + 10)
    node.kill()
    node.uncut()
    at_home = node.newest()
    assert load(checkpoints(node.run.checkpoints)[-1]).step == at_home, "verified"
    (data,) = node.local.datasets.iterdir()
    fetched = data.stat().st_ino

    node.start(2)
    node.until(lambda: node.newest() > at_home)
    node.kill()
    assert f'{{"start":{at_home}}}' in node.run.attempt(2).metrics.read_text(), "only what was not sent was lost"

    node.start(3)
    ended = node.wait()
    assert isinstance(ended, Ended), ended
    assert ended.end.reason is EndReason.SUCCESS, (ended, node.run.attempt(3).stderr.read_text())
    assert data.stat().st_ino == fetched, "the data set was sent once"
    assert reference.wait() == 0
    ours = Attempt({**reference.order, "workspace": str(node.home.root), "attempt": 3}, 0, 0, 0)
    assert result(ours)["model_sha256"] == result(reference)["model_sha256"]
    assert result(ours)["best_model_sha256"] == result(reference)["best_model_sha256"]
    assert curve(ours) == curve(reference)
    for path in checkpoints(node.run.checkpoints):
        load(path)
    assert not node.local_run.root.exists(), "nothing of it is left there"
    there = {p.name for p in node.run.root.iterdir()}
    assert there == {"spec.yaml", "attempts", "checkpoints", "result.json", "loss_curve.png", "tb"}
    assert msgspec.json.decode(node.run.attempt(3).exit.read_bytes())["reason"] == "success"


def test_what_a_superseded_attempt_brings_is_not_taken(node: FarNode) -> None:
    node.start(1)
    node.until(lambda: node.newest() >= 0)
    node.cut()
    node.until(lambda: node.newest(local=True) > node.newest())
    before = {p: p.read_bytes() for p in node.run.attempt(1).root.iterdir()}
    second = start({**node.order}, 2)
    assert second.wait() == 0
    weights = result(second)["model_sha256"]
    there = sorted(p.name for p in node.run.checkpoints.iterdir())
    node.uncut()
    node.wait()
    assert {p: p.read_bytes() for p in node.run.attempt(1).root.iterdir()} == before
    assert result(second)["model_sha256"] == weights
    assert result(second)["attempt"] == 2
    assert sorted(p.name for p in node.run.checkpoints.iterdir()) == there
