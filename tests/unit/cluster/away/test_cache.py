"""What a node that does not see the workspace keeps, and when it goes."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import pytest

from terry.cluster.away import cache as away_cache
from terry.cluster.away.courier import Courier
from terry.cluster.away.home import Home
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.ports import LaunchOrder
from tests.unit.cluster.away.test_home import order_of

OLD = time.time() - away_cache.KEPT_S - 60.0
DATA = "datasets/words-0123"


@pytest.fixture
def place(tmp_path: Path) -> WorkspacePaths:
    """The workspace, with a data set."""
    made = WorkspacePaths(tmp_path / "home")
    made.cluster.mkdir(parents=True)
    (made.root / DATA).mkdir(parents=True)
    (made.root / DATA / "tokens.bin").write_bytes(b"tokens")
    return made


@pytest.fixture
def local(tmp_path: Path) -> WorkspacePaths:
    made = WorkspacePaths(tmp_path / "local")
    made.datasets.mkdir(parents=True)
    return made


class Node:
    """An agent's courier on the node."""

    def __init__(self, place: WorkspacePaths, local: WorkspacePaths) -> None:
        self.local = local
        self.courier = Courier(Home(place, lambda *_: [DATA]), local, every_s=0.02)
        self.place = place

    def begin(self, attempt: int = 1) -> LaunchOrder:
        """A job begins, with all that it needs."""
        order = order_of(self.place, attempt)
        answers: SimpleQueue[str] = SimpleQueue()

        def prepare() -> str:
            launch = self.local.run(order.job_id).attempt(attempt).launch
            launch.parent.mkdir(parents=True)
            launch.write_bytes(b"{}")
            return ""

        self.courier.fetch(order, prepare, answers.put)
        assert answers.get(timeout=60.0) == ""
        return order

    def end(self, order: LaunchOrder) -> None:
        over = threading.Event()
        self.local.run(order.job_id).attempt(order.attempt).exit.write_bytes(b"{}")
        self.courier.finish((order.job_id, order.attempt), over.set)
        assert over.wait(60.0)


def age(folder: Path) -> None:
    os.utime(folder, (OLD, OLD))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_data_sets_that_nothing_has_used_for_two_weeks_go(local: WorkspacePaths) -> None:
    for name in ("old-1", "new-1", ".new-2.0a0b.tmp"):
        (local.datasets / name).mkdir()
        (local.datasets / name / "tokens.bin").write_bytes(b"tokens")
    age(local.datasets / "old-1")
    away_cache.tidy(local)
    assert names(local.datasets) == {"new-1"}, "what a killed fetch has left goes at once"
    away_cache.tidy(local, time.time() + away_cache.KEPT_S + 60.0)
    assert names(local.datasets) == set()


def test_what_a_job_uses_stays_however_old_it_is(place: WorkspacePaths, local: WorkspacePaths) -> None:
    node = Node(place, local)
    order = node.begin()
    data = local.root / DATA
    age(data)
    away_cache.tidy(local)
    assert (data / "tokens.bin").read_bytes() == b"tokens"
    assert local.run(order.job_id).attempt(1).launch.exists()
    node.end(order)
    away_cache.tidy(local)
    assert data.exists(), "it was used until now"
    age(data)
    away_cache.tidy(local)
    assert not data.exists()
    node.end(node.begin(2))
    assert data.exists(), "sent again"
    node.courier.close()


def test_a_data_set_of_which_something_is_gone_is_sent_again(place: WorkspacePaths, local: WorkspacePaths) -> None:
    node = Node(place, local)
    node.end(node.begin())
    tokens = local.root / DATA / "tokens.bin"
    tokens.unlink()
    node.end(node.begin(2))
    assert tokens.read_bytes() == b"tokens"
    assert names(local.datasets) == {"words-0123"}
    node.courier.close()


def test_what_killed_agents_have_left_of_runs_goes_and_results_stay(local: WorkspacePaths) -> None:
    (local.runs / "s-1" / "attempts" / "0001").mkdir(parents=True)
    (local.runs / "s-data").mkdir()
    (local.runs / "s-data" / "result.json").write_bytes(b"{}")
    away_cache.tidy(local)
    assert names(local.runs) == {"s-data"}
