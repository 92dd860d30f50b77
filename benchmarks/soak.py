"""Thousands of tiny real jobs through real Ray: does anything grow, is anything left over?

    python -m benchmarks.soak [--jobs 20000] [--minutes 15] [--every 5]

Each job is a process of its own with journal entries and a full run folder. Memory (USS) and file descriptors of
controller, agent, forkserver and Ray's own daemons are sampled while they run; what was done in the given time counts,
the rest is cancelled. Prints tables in Markdown. The controller keeps a record of each job in memory, so it grows by
so many bytes a job: that is measured, too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from terry.cluster.client.reader import Reader
from terry.cluster.core.model import JobState
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.processes import with_environment_prefix
from terry.cluster.ray.daemons import runtime_folder
from terry.cluster.ray.head import read_head

COMMAND = str(Path(sys.executable).with_name("terry-cluster"))
ENTRY = """
def main(ctx):
    ctx.log(1, loss=0.5)
    ctx.finish({"loss": 0.5})
"""
#: A process of the cluster -> what marks its command line or title.
ROLES = {
    "controller": "ControllerActor",
    "agent": "AgentActor",
    "forkserver": "terry.cluster.agent.forkserver",
    "raylet": "raylet/raylet",
    "gcs_server": "gcs_server",
    "keeper": "terry.cluster.lifecycle.keeper",
}
#: The first part of the time is left out: caches fill, the snapshot is written for the first time.
WARM = 0.25


@dataclass
class Samples:
    """Of one process: jobs done, memory, descriptors."""

    jobs: list[int] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)  #: its own alone; a forkserver's is shared while it has children
    resident: list[float] = field(default_factory=list)  #: MiB, with what is shared
    fds: list[int] = field(default_factory=list)

    def ends(self, values: Sequence[float]) -> tuple[float, float]:
        """Medians of the first and last quarter of what was sampled after the start."""
        begin = int(len(values) * WARM)
        part = max(1, (len(values) - begin) // 4)
        return statistics.median(values[begin : begin + part]), statistics.median(values[-part:])

    def row(self, name: str) -> str:
        """First and last quarter, and the slope between."""
        mib, fds, jobs = self.ends(self.mib), self.ends(self.fds), self.ends(self.jobs)
        done = max(1, int(jobs[1] - jobs[0]))
        each = (mib[1] - mib[0]) * 1024 / done
        return f"| {name} | {mib[0]:.1f} | {mib[1]:.1f} | {each:+.2f} | {fds[0]:g} | {fds[1]:g} |"


def processes(session: int) -> dict[str, psutil.Process]:
    """The cluster's processes by role; of several the first."""
    found: dict[str, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline()) or process.name()
            ours = os.getsid(process.pid) == session or ROLES["keeper"] in line
        except (psutil.Error, ProcessLookupError):
            continue
        role = next((r for r, mark in ROLES.items() if mark in line), None)
        if ours and role is not None:
            found.setdefault(role, process)
    return found


def sample(watched: dict[str, psutil.Process], samples: dict[str, Samples], done: int) -> None:
    for role, process in watched.items():
        try:
            memory, fds = process.memory_full_info(), process.num_fds()
        except psutil.Error:
            print(f"the {role} is gone", file=sys.stderr)
            continue
        found = samples.setdefault(role, Samples())
        found.jobs.append(done)
        found.mib.append(memory.uss / 2**20)
        found.resident.append(memory.rss / 2**20)
        found.fds.append(fds)


def call(workspace: WorkspacePaths, *arguments: str) -> None:
    subprocess.run([COMMAND, "-w", str(workspace.root), *arguments], check=True, capture_output=True)


def states(workspace: WorkspacePaths, reader: Reader) -> Counter[JobState]:
    del workspace
    return Counter(record.state for record in reader.jobs().values())


def leftovers(workspace: WorkspacePaths, completed: int) -> list[str]:
    """What should not be there after `down`, in words."""
    found = []
    names = Counter(
        re.sub(r"tfevents\.\d+", "tfevents", str(path.relative_to(folder)))
        for folder in workspace.runs.iterdir()
        if (folder / "result.json").exists()
        for path in folder.rglob("*")
        if path.is_file()
    )
    found += [f"{name}: in {n} of {completed} run folders" for name, n in names.items() if n != completed]
    found += [f"temporary file {path}" for path in workspace.root.rglob("*.tmp") if path.is_file()]
    found += [f"unread message {path}" for path in (workspace.inbox / "new").iterdir()]
    found += [f"process {process.pid}" for process in with_environment_prefix("TERRY_AGENT", f"{workspace.id}/")]
    found += [str(path) for path in runtime_folder(workspace).rglob("*") if path.is_dir()]
    return found


def main() -> None:
    """Run, sample, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        samples, done, seconds, left = run(Path(name), given.jobs, given.minutes, given.every)
    load = os.getloadavg()[0]
    print(f"{done:,} jobs in {seconds:.0f} s ({1000 * seconds / done:.1f} ms a job), load average {load:.0f}\n")
    print("| process | MiB, first quarter | last quarter | KiB a job | descriptors, first | last |")
    print("|---|---|---|---|---|---|")
    for role in ROLES:
        if role in samples:
            print(samples[role].row(role))
    print(f"\nleft over: {'; '.join(left[:5]) or 'nothing'}")


def run(folder: Path, jobs: int, minutes: float, every: float) -> tuple[dict[str, Samples], int, float, list[str]]:
    """Samples by role, jobs that were done, seconds, and what was left over after `down`, in words."""
    workspace = WorkspacePaths(folder / "runs")
    (folder / "tiny.py").write_text(ENTRY)
    settings = {
        "name": "tiny",
        "run": {"entrypoint": "tiny:main", "resources": {"cpus": 1}},
        "sweep": {"grid": {"parameters.number": list(range(jobs))}},
    }
    (folder / "tiny.yaml").write_text(json.dumps(settings))
    call(workspace, "up")
    try:
        samples, done, seconds = soak(workspace, folder / "tiny.yaml", jobs, minutes, every)
    finally:
        call(workspace, "down")
    left = leftovers(workspace, sum(1 for _ in workspace.runs.glob("*/result.json")))
    return samples, done, seconds, left


def soak(
    workspace: WorkspacePaths, file: Path, jobs: int, minutes: float, every: float
) -> tuple[dict[str, Samples], int, float]:
    """Samples, jobs that were done, seconds."""
    head = read_head(workspace)
    assert head is not None
    samples: dict[str, Samples] = {}
    reader = Reader(workspace)
    begin = time.monotonic()
    call(workspace, "submit", str(file))
    deadline = begin + 60 * minutes
    watched: dict[str, psutil.Process] = {}
    while True:
        time.sleep(every)
        if len(watched) < len(ROLES):
            watched = processes(head.session)
        counts = states(workspace, reader)
        done = counts[JobState.COMPLETED]
        sample(watched, samples, done)
        print(f"{time.monotonic() - begin:.0f} s: {done:,} done", file=sys.stderr, flush=True)
        if done >= jobs or time.monotonic() > deadline:
            break
    assert not counts[JobState.FAILED], counts
    seconds = time.monotonic() - begin
    if done < jobs:
        call(workspace, "cancel", "tiny")
    return samples, done, seconds


if __name__ == "__main__":
    main()
