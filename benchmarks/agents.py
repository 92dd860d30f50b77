"""Many agents at once: how much of a core the controller needs, and how quickly it answers.

    python -m benchmarks.agents [--agents 64] [--seconds 2] [--minutes 2]

A real controller over a real Ray, with so many agent actors on this machine, each for a device of its own (one job at
a time). The jobs are processes that wait and measure five times a second: they cost this machine next to nothing, so
that what is measured is the runner. The controller is this process; its CPU time counts, that of its threads included.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import ray

from terry.cluster.actors.agent import AgentActor, AgentSettings, Place
from terry.cluster.actors.assembly import SystemClock
from terry.cluster.actors.pool import RayPool, _Agent
from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.client.setup import make_workspace
from terry.cluster.controller.loop import Controller
from terry.cluster.core.events import AttemptEnded, AttemptStarted, Event, Placed
from terry.cluster.core.model import DeviceKind, JobState
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting.submission import SubmitOptions, prepare_submission, publish

ENTRY = """
import time

def main(ctx):
    steps = round(5 * ctx.parameters["seconds"])
    for step in range(1, steps + 1):
        time.sleep(0.2)
        ctx.log(step, accuracy=step / steps)
    ctx.finish({"accuracy": 1.0})
"""
ROOT = Path(__file__).resolve().parents[1]
#: Without torch: the jobs need none, and so many forkservers with it would fill the memory.
LIGHT = JobRuntime(
    entry="terry.jobs.process.child:main",
    preload="benchmarks.light_jobs:MODULES",
    environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
)
AIM = 0.20  #: of a core


class ManyAgents(RayPool):
    """As many agents as are wanted on the one node, as if each were a node's."""

    def __init__(self, settings: AgentSettings, count: int) -> None:
        super().__init__(settings, "agents")
        self._count = count

    def _ensure_agents(self, node_id: str, resources: dict[str, float]) -> None:
        del resources
        for number in range(self._count - len(self._agents)):
            name = f"n{number:03d}"
            place = msgspec.json.encode(Place(node=name, node_id=node_id, labels=()))
            handle: Any = AgentActor.options(num_cpus=0, max_concurrency=16).remote(  # type: ignore[attr-defined]
                msgspec.json.encode(self._settings), place, DeviceKind.CPU.value, 1.0
            )
            self._agents[name] = _Agent(name, node_id, DeviceKind.CPU, handle)


class Watched(Controller):
    """Notes how long devices stand idle between two jobs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gaps: list[float] = []
        self._device: dict[str, str] = {}
        self._free_since: dict[str, float] = {}

    def _record(self, event: Event) -> None:
        at = event.time.timestamp()
        if isinstance(event, Placed):
            self._device[event.job_id] = event.allocation.device
        elif isinstance(event, AttemptEnded):
            self._free_since[self._device[event.job_id]] = at
        elif isinstance(event, AttemptStarted):
            since = self._free_since.pop(self._device[event.job_id], None)
            self.gaps += [] if since is None else [at - since]
        super()._record(event)


def submit(workspace: WorkspacePaths, folder: Path, jobs: int, seconds: float) -> None:
    (folder / "waits.py").write_text(ENTRY)
    file = folder / "waits.yaml"
    settings = {
        "name": "waits",
        "run": {"entrypoint": "waits:main", "parameters": {"seconds": seconds}, "resources": {"cpus": 1}},
        "sweep": {"grid": {"parameters.number": list(range(jobs))}},
    }
    file.write_text(json.dumps(settings))
    planned = prepare_submission(
        workspace, file, (), SubmitOptions(kind=DeviceKind.CPU), SystemClock().now(), "benchmark"
    )
    publish(workspace, planned)


def run(folder: Path, given: argparse.Namespace) -> list[str]:
    workspace = WorkspacePaths(folder / "runs")
    make_workspace(workspace)
    submit(
        workspace, folder, int(60 * given.minutes / given.seconds * given.agents * 1.2) + given.agents, given.seconds
    )
    settings = AgentSettings(workspace=str(workspace.root), runtime=LIGHT, versions={}, mark="", namespace="agents")
    controller = Watched(
        workspace, ManyAgents(settings, given.agents), SystemClock(), lock_file=folder / "controller.lock"
    )
    thread = threading.Thread(target=_until_closed, args=(controller,), name="controller", daemon=True)
    thread.start()
    _wait_for_all(controller, given.agents)
    return _measure(controller, given)


def _until_closed(controller: Controller) -> None:
    try:
        controller.run()
    except BaseException:
        if ray.is_initialized():
            logging.exception("the controller failed")
            os._exit(1)


def _running(controller: Controller) -> int:
    return controller.state.counts["waits"][JobState.RUNNING] if controller.state.counts else 0


def _wait_for_all(controller: Controller, agents: int) -> None:
    deadline = time.monotonic() + 300
    while not hasattr(controller, "state") or _running(controller) < agents:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {_running(controller)} of {agents} agents had a job after 300 s")
        time.sleep(0.5)
    time.sleep(10)  # they have all started at once


def _measure(controller: Watched, given: argparse.Namespace) -> list[str]:
    own, shares, busy = psutil.Process(), [], []
    before, begun = controller.state.counts["waits"][JobState.COMPLETED], time.monotonic()
    machine = psutil.cpu_times()
    for _ in range(round(60 * given.minutes / 5)):
        spent, now = sum(own.cpu_times()[:2]), time.monotonic()
        time.sleep(5)
        shares.append((sum(own.cpu_times()[:2]) - spent) / (time.monotonic() - now))
        busy.append(_running(controller))
        print(f"{shares[-1]:.1%} of a core, {busy[-1]} jobs running", file=sys.stderr, flush=True)
    seconds = time.monotonic() - begun
    ended = psutil.cpu_times()
    counts = controller.state.counts["waits"]
    done = counts[JobState.COMPLETED] - before
    assert not counts[JobState.FAILED], counts
    cores = os.cpu_count() or 1
    used = 1 - (ended.idle - machine.idle) / (seconds * cores)
    share, gap = statistics.median(shares), statistics.median(controller.gaps)
    verdict = "met" if share < AIM else "**missed**"
    return [
        f"| agents | jobs of {given.seconds:g} s ended | a second | controller, of a core | worst 5 s "
        "| running, median | from an end's report to the next start's, median | machine in use |",
        "|---|---|---|---|---|---|---|---|",
        f"| {given.agents} | {done:,} | {done / seconds:.1f} | {share:.1%} (aim under {AIM:.0%}: {verdict}) "
        f"| {max(shares):.1%} | {statistics.median(busy):g} | {1000 * gap:.0f} ms | {used:.0%} |",
    ]


def main() -> None:
    """Run, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a job takes")
    parser.add_argument("--minutes", type=float, default=2.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        lines = run(Path(name), given)
        load = os.getloadavg()[0]
        print("\n".join(lines))
        print(f"\nload average {load:.1f}", flush=True)
        ray.shutdown()
        os._exit(0)  # the controller's thread turns on


if __name__ == "__main__":
    main()
