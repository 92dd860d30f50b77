"""The queue on disk, measured: appending, replaying, reading a workspace, starting on one, planning.

    python benchmarks/journal.py [--jobs 10000] [--replay 1000000]

Prints one line a figure, with the aim it is held against. Medians of `--repeat` runs.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from terry.cluster.controller.loop import Controller
from terry.cluster.core import events as e
from terry.cluster.core.events import Event
from terry.cluster.core.model import Allocation, AttemptEnd, Device, DeviceKind, EndReason, Job, Resources, SpecRef
from terry.cluster.core.state_document import from_snapshot, to_snapshot
from terry.cluster.core.state_machine import State, apply
from terry.cluster.files.journal import Journal, read
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from terry.cluster.scheduling.plan import plan
from tests.fakes.pool import FakeClock, FakePool

T0 = datetime(2026, 1, 1, tzinfo=UTC)
GROUP = 100


def job(number: int) -> Job:
    return Job(
        id=f"cells-{number:06d}",
        sweep="cells",
        kind="train",
        identity=f"{number:064x}",
        entrypoint="terry.jobs.train:main",
        resources=Resources(cpus=1),
        spec=SpecRef(path="sweeps/cells/submission-0001/jobs.jsonl", offset=number * 900, length=899),
        submitted_at=T0,
        owner="ann",
        labels={"model.cell": "gru", "optimizer": "adam"},
    )


def lives(jobs: int) -> Iterator[Event]:
    """Four events a job: submitted, placed, started, ended."""
    device = Device(id="here:cpu", node="here", node_id="n", kind=DeviceKind.CPU, capacity=2.0)
    yield e.DeviceSeen(time=T0, device=device)
    grant = Allocation(device="here:cpu", node="here", share=1.0)
    for i in range(jobs):
        yield e.Submitted(time=T0, job=job(i))
    for i in range(jobs):
        now = T0 + timedelta(seconds=i)
        name = f"cells-{i:06d}"
        yield e.Placed(time=now, job_id=name, attempt=1, allocation=grant)
        yield e.AttemptStarted(time=now, job_id=name, attempt=1, pid=i)
        end = AttemptEnd(reason=EndReason.SUCCESS, exit_code=0, step=100, checkpoint_step=100, first_step_done=True)
        yield e.AttemptEnded(time=now, job_id=name, attempt=1, end=end)


def timed(repeat: int, action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(repeat):
        gc.collect()
        begin = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def report(what: str, value: float, unit: str, aim: str) -> None:
    print(f"{what:<62} {value:>12,.1f} {unit:<9} aim: {aim}")


def appending(folder: Path, events: list[Event], repeat: int) -> None:
    def append() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            journal = Journal.open(Path(name), epoch=1)
            for i in range(0, len(events), GROUP):
                journal.append(events[i : i + GROUP])
                journal.commit()
            journal.close()

    report(f"append, groups of {GROUP}, each on disk", len(events) / timed(repeat, append), "events/s", "50,000")


def replaying(folder: Path, count: int) -> None:
    journal = Journal.open(folder / "long", epoch=1)
    for batch, event in enumerate(lives(count // 4)):
        journal.append((event,))
        if batch % 10_000 == 0:
            journal.commit()
    journal.commit()
    journal.close()

    def replay() -> None:
        state = State()
        state.defer()
        for entry in read(folder / "long"):
            apply(state, entry.event)
        state.settle()
        assert state.seq == journal.seq

    gc.disable()
    report(f"replay of {journal.seq:,} events", timed(1, replay), "s", "under 10 for a million")
    gc.enable()


def workspace_of(folder: Path, jobs: int) -> WorkspacePaths:
    """As a controller leaves it: snapshots now and then, the journal after the last."""
    workspace = WorkspacePaths(folder)
    controller = Controller(workspace, FakePool([]), FakeClock(T0))
    controller.recover()
    for i, event in enumerate(lives(jobs)):
        controller._record(event)
        if i % GROUP == 0:
            controller._commit()
            controller._commands.clear()
            controller._snapshots.save_if_due(controller.state, controller._journal, T0)
    controller._commit()
    controller.close()
    return workspace


def reading(folder: Path, jobs: int, repeat: int) -> None:
    workspace = workspace_of(folder / f"w{jobs}", jobs)
    report(f"read_state, {jobs:,} jobs", 1000 * timed(repeat, lambda: read_state(workspace)), "ms", "well under 600")
    state = read_state(workspace)
    report(f"snapshot of {jobs:,} jobs, encode", 1000 * timed(repeat, lambda: to_snapshot(state)), "ms", "-")
    data = to_snapshot(state)
    report(
        f"snapshot of {jobs:,} jobs, {len(data) / 1e6:.1f} MB, load",
        1000 * timed(repeat, lambda: from_snapshot(data)),
        "ms",
        "-",
    )

    def start() -> None:
        controller = Controller(workspace, FakePool([]), FakeClock(T0))
        controller.recover()
        controller.close()

    report(f"controller starts, {jobs:,} jobs", timed(repeat, start), "s", "under 5 for 100,000")


def turning(jobs: int) -> None:
    state = State()
    for event in lives(jobs):
        if isinstance(event, e.Submitted | e.DeviceSeen):
            apply(state, event)
    report(f"plan, {jobs:,} pending, 2 cores", 1e6 * timed(50, lambda: plan(state, T0)), "us", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--replay", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        appending(folder, list(lives(given.jobs)), given.repeat)
        reading(folder, given.jobs, given.repeat)
        turning(given.jobs)
        replaying(folder, given.replay)


if __name__ == "__main__":
    main()
