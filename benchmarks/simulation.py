"""The scheduler at the size of a large lab, simulated: 100,000 jobs of 50 users on 1,000 devices of 4 kinds; failures.

    python benchmarks/simulation.py [--jobs 100000] [--nodes 125] [--json FILE]

The real state machine and scheduler under a clock of events (terry.cluster.simulation.engine). All users want
everything all the time, so shares can be compared; nodes die, jobs crash and go on from checkpoints. Prints a table
in Markdown. Times of planning are processor time where the machine is shared: `--json` has both.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from terry.cluster.core.model import DeviceKind, Resources
from terry.cluster.core.policy import Policy
from terry.cluster.simulation import engine as simulated
from terry.cluster.simulation.engine import Arrival, Simulation, SimulationOutcome, World
from terry.cluster.simulation.traces import made_up_job, nodes_of

USERS = 50
MODELS = (("h100", "H100", 3.0), ("a100", "A100", 2.0), ("v100", "V100", 1.0), ("old", "P100", 0.5))
DAY_S = 86_400.0
#: Shares of a device that jobs ask for, and how often; some ask for one kind of device.
SHARES = ((1.0, 0.5), (0.5, 0.25), (0.25, 0.25))
MEAN_S = 3000.0  # of work on a device of speed 1


def arrivals(jobs: int, seed: int) -> Iterator[Arrival]:
    """All users submit sweeps in the first hours, more than the cluster can do in days."""
    rng = random.Random(seed)
    times = sorted(rng.uniform(0, 3600.0) if i % 2 else 0.0 for i in range(jobs // 50))
    number = 0
    for sweep, at in enumerate(times):
        owner = f"user{sweep % USERS:02d}"
        share = rng.choices([s for s, _ in SHARES], [w for _, w in SHARES])[0]
        model = rng.choice([None, None, None, None, "H100", "A100", "V100", "P100"])
        typical = rng.lognormvariate(0.0, 0.6) * MEAN_S
        for _ in range(50):
            number += 1
            size = rng.choice("abc")
            job = made_up_job(
                f"s{sweep:05d}-{number:06d}",
                f"s{sweep:05d}",
                Resources(gpus=share, device=model),
                owner=owner,
                labels={"size": size, "seed": str(number % 50)},
            )
            yield Arrival(
                at_s=at, job=job, seconds=typical * {"a": 0.5, "b": 1.0, "c": 2.0}[size] * rng.uniform(0.9, 1.1)
            )


class Day:
    """Shares of the users over a day in which all of them want more than there is."""

    def __init__(self, begin_s: float, end_s: float) -> None:
        self.begin_s, self.end_s = begin_s, end_s
        self._first: Counter[tuple[DeviceKind, str]] | None = None
        self.used: dict[str, float] = {}
        self.waiting = 0

    def __call__(self, play: Simulation) -> None:
        if self._first is None and play.now_s >= self.begin_s:
            self._first = play.used_s()
        elif self._first is not None and not self.used and play.now_s >= self.end_s:
            now = play.used_s()
            self.used = {user: now[kind, user] - self._first[kind, user] for kind, user in now}
            self.waiting = len({owner for owners in play.state.pending.values() for owner in owners})

    @property
    def worst(self) -> float:
        """How far the user farthest from an equal share was from it, relative to it."""
        equal = sum(self.used.values()) / USERS
        return max(abs(used - equal) / equal for used in self.used.values())


def processor_time() -> float:
    """What planning is measured with: the machine is shared."""
    return time.process_time()


def main() -> None:
    """Play, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=125, help="of 8 devices each")
    parser.add_argument("--day", type=float, default=DAY_S, help="seconds over which shares are compared")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    simulated.perf_counter = processor_time  # type: ignore[attr-defined]
    part = [given.nodes // 4 + (i < given.nodes % 4) for i in range(4)]
    cluster = nodes_of([f"{name}={n}x8:{model}@{speed}" for n, (name, model, speed) in zip(part, MODELS, strict=True)])
    world = World(
        devices=cluster.devices,
        speeds=cluster.speeds,
        start_s=2.0,
        crash_every_s=40 * 3600.0,
        node_fails_every_s=30 * DAY_S,
        node_back_after_s=1800.0,
        turn_s=0.2,
        seed=given.seed,
    )
    day = Day(3600.0, 3600.0 + given.day)
    wall, processor = time.perf_counter(), time.process_time()
    play = Simulation(world, arrivals(given.jobs, given.seed), Policy(), probe=day)
    outcome = play.run(lambda s, n: print(f"\r{s / DAY_S:.2f} days, {n:,} ended", end="", file=sys.stderr, flush=True))
    figures = told(outcome, day, time.perf_counter() - wall, time.process_time() - processor)
    print(file=sys.stderr)
    print("| what | measured | aim |\n|---|---|---|")
    for what, (value, aim) in figures.items():
        print(f"| {what} | {value} | {aim} |")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


def told(outcome: SimulationOutcome, day: Day, wall_s: float, processor_s: float) -> dict[str, tuple[str, str]]:
    """The table."""
    turns = sorted(outcome.plan_s)
    gpu = DeviceKind.GPU
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    packed = outcome.contended_used_s[gpu] / outcome.contended_there_s[gpu]
    shares = f"{day.worst:.1%} from equal at most" if day.used else "not measured: it ended before"
    return {
        "jobs, devices, users": (f"{outcome.jobs:,}, {outcome.capacity[gpu]:g}, {USERS}", ""),
        "completed; restarts; nodes died": (
            f"{outcome.completed:,}; {outcome.restarts:,}; {outcome.node_deaths}",
            "all complete",
        ),
        "simulated time": (f"{outcome.makespan_s / DAY_S:.1f} days, {outcome.events:,} events", ""),
        "a turn of planning, processor time": (
            f"median {1000 * statistics.median(turns):.2f} ms, 99% {1000 * turns[int(0.99 * len(turns))]:.1f} ms, "
            f"most {1000 * turns[-1]:.0f} ms, {len(turns):,} turns",
            "99% under 20 ms",
        ),
        "memory": (f"{memory:.0f} MiB", "under 1 GiB"),
        "the whole": (f"{processor_s:.0f} s of processor time, {wall_s:.0f} s by the clock", "minutes"),
        "devices in use while jobs waited": (f"{packed:.1%} of what was there", "over 95%"),
        f"shares of the users over {(day.end_s - day.begin_s) / 3600:.0f} h": (shares, "within 2%"),
    }


if __name__ == "__main__":
    main()
