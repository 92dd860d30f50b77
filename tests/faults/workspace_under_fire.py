"""A workspace with real Ray and real trainings, driven by the command line, for tests that kill things."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from terry.cluster.agent.marks import AGENT_VARIABLE
from terry.cluster.core.model import Attempt, EndReason, JobState
from terry.cluster.core.state import State
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from terry.cluster.host.locks import holder
from terry.cluster.host.processes import Process, find, in_session, with_environment_prefix
from terry.cluster.lifecycle.keeper import keeper_lock
from terry.cluster.ray.head import read_head

COMMAND = [str(Path(sys.executable).with_name("terry-cluster"))]

_SWEEP = """
name: {name}
datasets:
  words: {{source: {source}, column: body, unit: sentence, vocabulary_size: 60}}
run:
  data: {{dataset: words, batch_size: 4, bptt: 8}}
  model: {{hidden_size: 24, embedding_size: 16}}
  training: {{epochs: {epochs}, seed: 3, log_every: 20}}
  checkpoint: {{every: 0.2}}
  resources: {{cpus: 1}}
  retry: {{crash: 100, backoff_s: 0.05, backoff_max_s: 0.2}}
sweep:
  grid:
    model.cell: [{cells}]
    optimizer: [{{name: adam, lr: 0.01}}, {{name: nesterov, lr: 0.5, clip_norm: 1.0}}]
"""


def write_words(path: Path) -> None:
    """A small table of made-up sentences."""
    chance = random.Random(5)
    words = [f"{a}{b}" for a in ("ba", "ke", "li", "mo", "nu", "ra") for b in ("t", "l", "n", "s", "m", "p")]
    rows = [" ".join(chance.choice(words) for _ in range(chance.randint(4, 12))) for _ in range(150)]
    path.write_text("body\n" + "\n".join(f'"{row}."' for row in rows) + "\n", encoding="utf-8")


class UnderFire:
    """The workspace, its command line, and its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = WorkspacePaths((folder / "work space").resolve())
        write_words(folder / "words.csv")

    # the command line

    def run(self, *arguments: str, check: bool = True, timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [*COMMAND, "-w", str(self.workspace.root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise AssertionError(
                f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
            )
        return done

    def json(self, *arguments: str) -> Any:
        """What a command says with --json."""
        return json.loads(self.run("--json", *arguments).stdout)

    def sweep_file(self, name: str, *, epochs: int = 320, cells: str = "gru, lstm") -> Path:
        """A sweep of two trainings a cell."""
        path = self.folder / f"{name}.yaml"
        source = json.dumps(str(self.folder / "words.csv"))
        path.write_text(_SWEEP.format(name=name, source=source, epochs=epochs, cells=cells), encoding="utf-8")
        return path

    def submit(self, name: str, **kinds: Any) -> None:
        """Submit a sweep of this name."""
        self.run("submit", str(self.sweep_file(name, **kinds)))

    def finish(self, name: str, timeout: float = 240.0) -> None:
        """Wait until the sweep is done; it must have succeeded."""
        self.run("wait", name, "--timeout", str(timeout), timeout=timeout + 30)

    def status(self, name: str) -> list[dict[str, Any]]:
        """The trainings of a sweep."""
        return [job for job in self.json("status", name) if job["kind"] == "train"]

    def logs(self) -> str:
        """What keeper, controller and agents have said, for a failed test."""
        files = sorted(self.workspace.cluster.glob("*.log"))
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files)

    def weights(self, name: str) -> dict[str, str]:
        """sha256 of the final weights by the job's settings."""
        found = {}
        for job in self.status(name):
            result = json.loads(self.workspace.run(job["id"]).result.read_bytes())
            found[json.dumps(job["labels"], sort_keys=True)] = result["model_sha256"]
        return found

    # its processes

    def until(self, what: Callable[[], Any], timeout: float = 90.0) -> Any:
        """The first true answer of `what`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := what():
                return found
            select.select([], [], [], 0.02)
        raise AssertionError(f"not in {timeout} s: {what}\n{self.logs()}")

    def until_training(self, name: str, jobs: int = 1) -> list[dict[str, Any]]:
        """Wait until trainings of the sweep run and have written a checkpoint."""

        def running() -> list[dict[str, Any]]:  # from the files: a command a look would take a core from the trainings
            found = [r.job for r in self.state().jobs.values() if r.state is JobState.RUNNING]
            at_work = [{"id": j.id} for j in found if (j.sweep, j.kind) == (name, "train") and self.checkpoints(j.id)]
            return at_work if len(at_work) >= jobs else []

        found: list[dict[str, Any]] = self.until(running)
        return found

    def checkpoints(self, job: str) -> list[Path]:
        """Folders of a run's checkpoints."""
        return list(self.workspace.run(job).checkpoints.glob("step-*"))

    def pid_of(self, job: str) -> int:
        """Pid of the job's process."""
        found: int = self.until(lambda: next((p.pid for p in self.job_processes() if _runs(p, job)), 0))
        return found

    def job_processes(self) -> list[Process]:
        """Forkservers and jobs."""
        return with_environment_prefix(AGENT_VARIABLE, f"{self.workspace.id}/")

    def at_work(self) -> list[Process]:
        """Processes of jobs: without the forkservers, and what draws pictures."""
        return [p for p in self.job_processes() if _runs(p, "")]

    def forkserver(self) -> Process:
        """A forkserver: one whose parent is the agent. With it the other one ends."""
        agent = self.actor("AgentActor").pid

        def child() -> Process | None:
            return next((p for p in self.job_processes() if _parent(p.pid) == agent), None)

        found: Process = self.until(child)
        return found

    def actor(self, name: str) -> Process:
        """The process of an actor."""

        found: Process = self.until(lambda: next(iter(titled(name, self.ray_processes())), None))
        return found

    def ray_processes(self) -> list[Process]:
        """All of the Ray cluster."""
        head = read_head(self.workspace)
        return in_session(head.session) if head and head.is_here else []

    def keeper(self) -> Process | None:
        """The keeper, where there is one."""
        pid = holder(keeper_lock(self.workspace))
        return find(pid) if pid else None

    def everything(self) -> list[Process]:
        """All processes of the workspace on this node."""
        keeper = self.keeper()
        return [*self.ray_processes(), *self.job_processes(), *([keeper] if keeper else [])]

    # its story

    def state(self) -> State:
        """The queue as it stands on disk."""
        return read_state(self.workspace)

    def state_of(self, job: str) -> JobState | None:
        """None while the controller has not taken it in: `submit` does not wait for that."""
        record = self.state().jobs.get(job)
        return None if record is None else record.state

    def attempts(self, job: str) -> tuple[Attempt, ...]:
        """All attempts of a job."""
        return self.state().jobs[job].attempts

    def ends(self, job: str) -> list[EndReason]:
        """Why its attempts ended, those that have."""
        return [attempt.end.reason for attempt in self.attempts(job) if attempt.end]

    def assert_each_done_once(self, name: str) -> None:
        """Every training of the sweep ended well exactly once."""
        for job in self.status(name):
            assert self.ends(job["id"]).count(EndReason.SUCCESS) == 1, (job["id"], self.attempts(job["id"]))
            assert job["state"] == "completed"


def kill(processes: Iterable[Process], number: int = signal.SIGKILL) -> None:
    """Send a signal, and after SIGKILL wait for the end."""
    for process in processes:
        try:
            fd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(fd, number)
            if number == signal.SIGKILL:
                select.select([fd], [], [], 10.0)
        except ProcessLookupError:
            continue
        finally:
            os.close(fd)


def titled(name: str, processes: Iterable[Process]) -> list[Process]:
    """Those that are this actor's."""
    return [p for p in processes if f"ray::{name}" in _title(p.pid)]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        found = re.search(r"^PPid:\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _runs(process: Process, job: str) -> bool:
    """True for the process that runs the job, or any: it holds the attempt's stdout.log."""
    try:
        return (f"/runs/{job}/attempts/" if job else "/attempts/") in str(Path(f"/proc/{process.pid}/fd/1").readlink())
    except OSError:
        return False


__all__ = ["UnderFire", "kill", "titled"]
