"""The ETA that `watch` shows, beside how a sweep really went: the real controller on fake devices, on a clock."""

from __future__ import annotations

import heapq
import random
from pathlib import Path

import pytest

from terry.cluster.client.reader import Reader
from terry.logs.view.build import ViewBuilder
from tests.helpers.world import World, device


class Playing:
    """A sweep that is played out, job by job; jobs take as long as `takes` says of the device they are on."""

    def __init__(self, folder: Path, slow: dict[str, float], noise: float, crashes: float) -> None:
        self.world = World(folder, *(device(name, 1.0) for name in slow))
        self._slow = slow
        self._noise = noise
        self._crashes = crashes
        self._chance = random.Random(7)
        self._ends: list[tuple[float, str, bool]] = []  # a heap: when, which job, whether by a crash
        self._known: set[tuple[str, int]] = set()
        self._left: dict[str, float] = {}  # share of its work that a job has before it
        self.now = 0.0
        self.predicted: list[tuple[float, float]] = []  #: (now, the end that was predicted)

    def play(self, runs: int) -> None:
        """Until all have ended."""
        world = self.world
        reader, builder = Reader(world.workspace, world.clock.now), ViewBuilder()
        world.submit("cells", runs)
        world.turn(0.01, times=3)
        while not all(record.state.is_final for record in world.controller.state.jobs.values()):
            self._place()
            world.progress()  # live.json: the controller lives
            (sweep,) = builder.view(reader.read()).sweeps
            if sweep.eta is not None:
                self.predicted.append((self.now, self.now + sweep.eta.seconds))
            self._next()
        world.controller.close()

    def _place(self) -> None:
        """Draw how long each attempt that has begun will take, and whether it crashes at half its way."""
        for record in self.world.controller.state.active():
            key = (record.job.id, record.attempt)
            if key not in self._known:
                self._known.add(key)
                slow = self._slow[record.attempts[-1].device] * (1 + self._noise * self._chance.uniform(-1, 1))
                crashes = self._chance.random() < self._crashes
                takes = 600 * slow * self._left.get(record.job.id, 1.0) * (0.5 if crashes else 1)
                heapq.heappush(self._ends, (self.now + takes, record.job.id, crashes))

    def _next(self) -> None:
        """Let time pass until the next attempt ends (one that backs off may have to be waited for)."""
        if not self._ends:
            self._wait(1.0)
            return
        end, job_id, crashes = heapq.heappop(self._ends)
        self._wait(max(0.0, end - self.now))
        if crashes:
            left = self._left.get(job_id, 1.0) / 2
            self._left[job_id] = left
            self.world.crash(job_id, step=round(1000 * (1 - left)), checkpoint=round(1000 * (1 - left)))
        else:
            self.world.finish(job_id)
        self._wait(0.01)

    def _wait(self, seconds: float) -> None:
        self.now += seconds
        self.world.turn(seconds)

    def error(self, share: float) -> float:
        """Relative error of the total that was predicted when this share of it had passed."""
        then = next(((now, end) for now, end in self.predicted if now >= share * self.now), None)
        assert then is not None, "nothing was predicted"
        return abs(then[1] - self.now) / self.now


@pytest.mark.parametrize(
    ("slow", "noise", "crashes"),
    [
        ({"quattro:cpu": 1.0, "seawolf:cpu": 1.0}, 0.1, 0.0),
        ({"quattro:cpu": 1.0, "seawolf:cpu": 3.0}, 0.1, 0.0),
        ({"quattro:cpu": 1.0, "seawolf:cpu": 1.0}, 0.1, 0.2),
    ],
    ids=["alike", "one three times as slow", "one attempt in five crashes"],
)
def test_forty_equal_runs_on_two_slots(tmp_path: Path, slow: dict[str, float], noise: float, crashes: float) -> None:
    """After a quarter the total is predicted within 20%, and later it is not worse than that."""
    playing = Playing(tmp_path, slow, noise, crashes)
    playing.play(40)
    assert playing.error(0.25) < 0.2
    assert max(playing.error(share / 20) for share in range(5, 19)) < 0.2
