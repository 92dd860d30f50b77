"""How old figures are is said, by the observer's own clock where the controller's is another's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from terry.cluster.client.reader import Reader
from terry.cluster.files import durable, lease, live
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.lifecycle import liveness
from tests.helpers.queue_values import at


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    found = WorkspacePaths(tmp_path / "ws")
    held = lease.acquire(found, at(0))
    durable.write_json(found.live, live.Live(time=at(0), epoch=held.epoch))
    return found


def test_a_controller_that_stands_still_on_this_node_shows_old_figures(workspace: WorkspacePaths) -> None:
    """It was stopped for 95 s: its process lives, and its figures are as old."""
    moment = at(2)
    reader = Reader(workspace, lambda: moment)
    assert "old" not in reader.read().controller.sentence
    moment = at(95)
    assert reader.read().controller.sentence.endswith("figures 1m35s old")
    moment = at(-3600)
    assert reader.read().controller.age_s == pytest.approx(0.0, abs=5.0), "a clock that was set back says nothing"


@pytest.mark.parametrize("hours", [-1, 1])
def test_of_another_nodes_controller_the_clock_is_not_compared(
    workspace: WorkspacePaths, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    held = lease.read(workspace)
    assert held is not None
    seconds = [0.0]

    def beat() -> None:
        seconds[0] += 1.0
        moment = at(seconds[0]) + timedelta(hours=hours)
        durable.write_json(workspace.lease, msgspec.structs.replace(held, host="seawolf", heartbeat=moment))

    beat()
    monkeypatch.setattr(liveness.time, "sleep", lambda _: beat())
    known = Reader(workspace, lambda: at(1)).read().controller
    assert known.alive
    assert known.sentence == "controller on seawolf"
