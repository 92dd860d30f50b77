"""A workspace on a Slurm bed, driven by the command line on its login host, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from terry.cluster.core.model import EndReason
from terry.cluster.files.paths import WorkspacePaths
from tests.faults.workspace_under_fire import write_words
from tests.testbed.beds import Bed
from tests.testbed.lab import Lab

#: One fake GPU a host, so each node is on a host of its own; one core, so each takes one training.
NODES = """
nodes:
  queue:
    kind: slurm
    partition: low
    gres: gpu:1
    time: 2:00:00
    max: 3
    idle_after: 12 s
    cpus: 1
    slurm_comment: terry on the bed
"""
HOSTS = ("seawolf:1", "quattro1:1", "quattro2:1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A line of squeue."""

    id: str
    name: str
    state: str
    host: str


class SlurmLab(Lab):
    """See the module."""

    def __init__(self, bed: Bed, folder: str = "work space", head: str = "") -> None:
        self.bed = bed
        self.workspace = WorkspacePaths(bed.shared / folder)
        self.workspace.root.mkdir(mode=0o700)
        self.workspace.config.write_text(f"{head}\n{NODES}", encoding="utf-8")
        write_words(bed.shared / "words.csv")
        self.crashed: set[str] = set()  #: hosts that have had a power cut

    def until(self, what: Callable[[], Any], timeout: float = 300.0) -> Any:
        """See Lab. A node comes in 15 s, on a busy machine in minutes."""
        return super().until(what, timeout)

    def slurm(self, *command: str) -> str:
        """A command of Slurm's."""
        done = self.bed.on("login", *command)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def listed(self) -> list[Listed]:
        """All Slurm jobs that wait or run."""
        lines = self.slurm("squeue", "--noheader", "--format=%i|%j|%T|%N").splitlines()
        found = [Listed(id=i, name=n, state=s, host=h) for i, n, s, h in (line.split("|") for line in lines)]
        return [job for job in found if job.state != "COMPLETING"]

    def workers(self) -> dict[str, Listed]:
        """The workspace's own Slurm jobs, by the name of their node."""
        prefix = f"terry-{self.workspace.id}-"
        mine = [job for job in self.listed() if job.name.startswith(prefix)]
        return {job.name.removeprefix(prefix): job for job in sorted(mine, key=lambda job: job.state == "RUNNING")}

    def minutes(self, job: Listed) -> int:
        """How long it has run, rounded up."""
        *hours, minutes, _ = (int(part) for part in self.slurm("squeue", "-ho%M", f"-j{job.id}").strip().split(":"))
        return 60 * sum(hours) + minutes + 1

    def placed(self, name: str) -> dict[str, str]:
        """Node -> the sweep's training that runs on it and has written a checkpoint in this attempt."""
        return {node: jobs[0] for node in self.members() if (jobs := self.on_node(name, node))}

    def catch(self, name: str) -> tuple[str, str]:
        """A node, and a training of the sweep there that stands still from now on, until it is asked to leave.

        So it cannot be done before what is to be seen happens: Slurm takes its time.
        """
        node, job = self.until(lambda: next(iter(self.placed(name).items()), None))
        self.signal("STOP", self.workers()[node].host, job)
        return node, job

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Catch a training of the sweep, and let it go on at the end: its node stays taken meanwhile."""
        node, job = self.catch(name)
        yield
        self.signal("CONT", self.workers()[node].host, job)

    def reasons(self, job: str) -> list[EndReason]:
        """Why its attempts have ended."""
        return [a.end.reason for a in self.attempts(job) if a.end]

    def logs(self) -> str:
        """What was said, for a failed test."""
        queue = self.bed.on("login", "squeue").stdout
        files = [*sorted(self.workspace.slurm.glob("*_log.*")), *sorted(self.bed.state.glob("slurm/log/slurmctld.log"))]
        said = "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-1500:]}" for f in files)
        return f"{super().logs()}\n{said}\n{queue}"
