"""What `watch` costs with 10,000 jobs: first frame, frames, keys, and doing nothing.

    python benchmarks/watch.py [--jobs 10000] [--repeat 7] [--seconds 30]

Aims: the first frame in under 1 s; under 3% of a core while nobody touches it, also while jobs run.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import psutil
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from terry.cluster.client.watching import WorkspaceSource
from terry.logs.dashboard.feed import Wanted
from terry.logs.dashboard.frame import Size, draw, job_rows
from terry.logs.dashboard.screen import Screen, rows, scrolled
from tests.helpers.world import World, device

COMMAND = str(Path(sys.executable).with_name("terry-cluster"))
SIZES = (Size(80, 24), Size(120, 40), Size(200, 60))
END_OF_FRAME = b"\x1b[?2026l"


class Lab:
    """A workspace as the real controller makes it on fake devices, and whose jobs make progress."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.world = World(folder, *(device(f"node{i}:cpu", 4.0) for i in range(4)))
        self.world.clock.advance(time.time() - self.world.clock.now().timestamp())
        self.world.submit("cells", jobs)
        self.world.turn(0.0, times=3)
        for _ in range(20):
            for job_id in self.running:
                self.world.measure(job_id, 10, 1000, start=-1)
                self.world.finish(job_id)
            self.world.turn(0.0)
        for job_id in self.running:
            self.world.measure(job_id, 10, 400, start=-1)
        self.step = 400

    @property
    def running(self) -> list[str]:
        """Ids of the jobs that run."""
        return [record.job.id for record in self.world.controller.state.active()]

    def go_on(self, ended: threading.Event) -> None:
        """Every second ten more steps, as a controller at work writes them."""
        while not ended.wait(1.0):
            self.step += 10
            self.world.turn(1.0)
            for job_id in self.running:
                self.world.measure(job_id, self.step, self.step)
            self.world.progress(*((job_id, self.step) for job_id in self.running), total=100_000)


def spawn(root: Path, size: Size) -> pexpect.spawn:
    """`terry-cluster watch` in a terminal."""
    environment = {**os.environ, "TERM": "xterm-256color"}
    shape = (size.height, size.width)
    return pexpect.spawn(COMMAND, ["-w", str(root), "watch"], dimensions=shape, env=environment, timeout=120)


def first_frame(root: Path) -> tuple[float, float]:
    """Seconds from the command to its first frame with jobs on it; and of processor time (whatever the load)."""
    begin = time.perf_counter()
    child = spawn(root, SIZES[1])
    child.expect_exact(b"cells-")
    child.expect_exact(END_OF_FRAME)
    took = time.perf_counter() - begin
    spent = psutil.Process(child.pid).cpu_times()
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    return took, spent.user + spent.system


def busy(root: Path, seconds: float) -> tuple[float, float]:
    """Share of one core that an open dashboard takes while nobody touches it; its memory in MiB."""
    child = spawn(root, SIZES[1])
    child.expect_exact(b"cells-")
    process = psutil.Process(child.pid)
    _drain(child, 5.0)
    before = process.cpu_times()
    _drain(child, seconds)
    after = process.cpu_times()
    memory = process.memory_info().rss / (1 << 20)
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    return (after.user + after.system - before.user - before.system) / seconds, memory


def _drain(child: pexpect.spawn, seconds: float) -> int:
    """Take in what it writes; how many bytes that were."""
    until, taken = time.monotonic() + seconds, 0
    while (left := until - time.monotonic()) > 0:
        try:
            taken += len(child.read_nonblocking(65_536, timeout=min(left, 0.5)))
        except pexpect.TIMEOUT:
            continue
    return taken


def key(root: Path, times: int) -> tuple[list[float], float]:
    """Seconds from pressing `j` to the end of the frame, and bytes of one."""
    child = spawn(root, SIZES[1])
    child.expect_exact(b"cells-")
    _drain(child, 3.0)
    found, taken = [], 0
    for _ in range(times):
        begin = time.perf_counter()
        child.send("j")
        child.expect_exact(END_OF_FRAME)
        found.append(time.perf_counter() - begin)
        taken += len(child.before)
        _drain(child, 0.3)
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    return found, taken / times


def cpu(work: Callable[[], object], times: int) -> float:
    """Milliseconds of processor time, a call."""
    begin = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - begin) / times * 1000


def frames(source: WorkspaceSource) -> list[tuple[str, str]]:
    """What making a view and drawing a frame of it costs."""
    view = source.view(Wanted())
    listed = rows(view, Screen())
    visible = frozenset(job.id for job in listed[:30])
    found = [
        ("a new view of all jobs", f"{cpu(lambda: source.view(Wanted(visible=visible)), 10):.0f} ms"),
        ("sorting all jobs", f"{cpu(lambda: rows(view, Screen()), 10):.1f} ms"),
    ]
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system="256")
    for size in SIZES:
        screen = scrolled(Screen(), listed, job_rows(view, size))

        def one(screen: Screen = screen, size: Size = size) -> None:
            for line in draw(view, screen, listed, size):
                console.print(line, end="", soft_wrap=True)

        found.append((f"a frame of {size.width}x{size.height}, drawn and styled", f"{cpu(one, 20):.1f} ms"))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        lab = Lab(Path(temporary), options.jobs)
        root = lab.world.workspace.root
        table: list[tuple[str, str]] = []
        times = [first_frame(root) for _ in range(options.repeat)]
        wall, spent = zip(*times, strict=True)
        table.append(("first frame, median (fastest)", f"{statistics.median(wall):.2f} s ({min(wall):.2f})"))
        table.append(("its processor time, median (least)", f"{statistics.median(spent):.2f} s ({min(spent):.2f})"))
        pressed, size = key(root, 20)
        table.append(("from key to frame, median (slowest)", f"{statistics.median(pressed) * 1000:.0f} ms "
                      f"({max(pressed) * 1000:.0f})"))  # fmt: skip
        table.append(("bytes sent for a cursor that moves", f"{size:,.0f}"))
        table += frames(WorkspaceSource(lab.world.workspace))
        share, memory = busy(root, options.seconds)
        table.append(("idle, nothing happens", f"{share:.1%} of a core, {memory:.0f} MiB"))
        ended = threading.Event()
        work = threading.Thread(target=lab.go_on, args=(ended,))
        work.start()
        share, _ = busy(root, options.seconds)
        ended.set()
        work.join()
        table.append((f"idle, {len(lab.running)} jobs make progress each second", f"{share:.1%} of a core"))
        lab.world.controller.close()
    print("| what | measured |\n|---|---|")
    for what, value in table:
        print(f"| {what} | {value} |")


if __name__ == "__main__":
    main()
