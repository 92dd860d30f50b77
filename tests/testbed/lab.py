"""A workspace on a bed of ssh hosts, driven by the command line on its login host, for tests."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from terry.cluster.core.model import Attempt, EndReason
from terry.cluster.core.state import State
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from terry.cluster.nodes.records import reports
from terry.cluster.ports import NodeReport
from terry.cluster.ray.head import Head, read_head
from tests.faults.workspace_under_fire import write_words
from tests.testbed.beds import Bed

COMMAND = str(Path(sys.executable).with_name("terry-cluster"))

#: As `nodes:` of terry.yaml. Few cores: all hosts of a bed share the node's.
NODES = """
nodes:
  lab:
    kind: ssh
    hosts: [seawolf, quattro]
    cpus: 2
    labels: [lab]
"""

#: What lasts, in a command line.
_LASTS = re.compile(r"(gcs_server|raylet/raylet|ray::\w+Actor|terry\.cluster\.(lifecycle\.keeper|agent\.forkserver))\b")

#: By torch's kernels, whether the compiled ones are there or not: those are done before a node has come or gone.
_SWEEP = """
name: {name}
datasets:
  words: {{source: {source}, column: body, unit: sentence, vocabulary_size: 60}}
run:
  data: {{dataset: words, batch_size: 4, bptt: 8}}
  model: {{hidden_size: 24, embedding_size: 16}}
  training: {{epochs: {epochs}, seed: 3, log_every: 20, kernels: torch}}
  checkpoint: {{every: 0.2}}
  resources: {{cpus: 1}}
sweep:
  grid:
    model.cell: [gru, lstm]
{grid}
{zip}
"""


class Lab:
    """See the module."""

    def __init__(self, bed: Bed, nodes: str = NODES) -> None:
        self.bed = bed
        self.workspace = WorkspacePaths(bed.shared / "work space")
        self.workspace.root.mkdir(mode=0o700)
        self.workspace.config.write_text(nodes, encoding="utf-8")
        write_words(bed.shared / "words.csv")

    # the command line, on the login host

    def run(self, *arguments: str, check: bool = True, timeout: float = 240.0, host: str = "login") -> str:
        """Run a command to its end; what it has printed, errors and all."""
        done = self.bed.on(host, COMMAND, "-w", str(self.workspace.root), *arguments, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}")
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        """What a command says with --json."""
        done = self.bed.on("login", COMMAND, "-w", str(self.workspace.root), "--json", *arguments)
        return json.loads(done.stdout)

    def submit(self, name: str, *, epochs: int = 60, on: Sequence[str] = (), **grid: list[Any]) -> None:
        """Submit a sweep of two trainings for each combination of `grid`, and for each node of `on`.

        Where a run is done makes no other run of it; how often it logs does, and changes no weights.
        """
        path = self.bed.shared / f"{name}.yaml"
        rest = "\n".join(f"    {key.replace('__', '.')}: {json.dumps(values)}" for key, values in grid.items())
        every = list(range(20, 20 + len(on)))
        each = f"  zip: {{resources.node: {list(on)}, training.log_every: {every}}}" if on else ""
        source = self.bed.shared / "words.csv"
        path.write_text(_SWEEP.format(name=name, source=source, epochs=epochs, grid=rest, zip=each), encoding="utf-8")
        self.run("submit", str(path))

    def finish(self, name: str, timeout: float = 240.0) -> None:
        """Wait until the sweep is done; it must have succeeded."""
        self.run("wait", name, "--timeout", str(timeout), timeout=timeout + 60)

    def until(self, what: Callable[[], Any], timeout: float = 240.0) -> Any:
        """The first true answer of `what`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.1)  # the bed's hosts are seen through files, which cannot be waited for
        raise AssertionError(f"not in {timeout} s: {what}\n{self.logs()}")

    def logs(self) -> str:
        """What keeper, controller and agents have said, for a failed test."""
        files = sorted(self.workspace.cluster.glob("*.log"))
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files)

    # what is on disk

    def state(self) -> State:
        """The queue."""
        return read_state(self.workspace)

    def trainings(self, name: str) -> list[str]:
        """Ids of a sweep's trainings."""
        return [i for i, r in self.state().jobs.items() if r.job.sweep == name and r.job.kind == "train"]

    def attempts(self, job: str) -> tuple[Attempt, ...]:
        """All attempts of a job."""
        return self.state().jobs[job].attempts

    def on_node(self, name: str, node: str) -> list[str]:
        """Trainings of the sweep that run on the node now and have written a checkpoint in this attempt."""
        state = self.state()
        return [
            job
            for job in self.trainings(name)
            if state.jobs[job].state.value == "running"
            and state.jobs[job].attempts[-1].node == node
            and self.checkpoints(job, state.jobs[job].attempt)
        ]

    def signal(self, signal: str, host: str, job: str) -> None:
        """Send one to a training that runs there: after STOP it cannot be done before what is to be seen happens."""
        pid = self.attempts(job)[-1].pid
        assert self.bed.on(host, "kill", f"-{signal}", str(pid)).returncode == 0, (signal, host, job, pid)

    def checkpoints(self, job: str, attempt: int) -> list[Path]:
        """Checkpoints of an attempt."""
        return list(self.workspace.run(job).checkpoints.glob(f"step-*-a{attempt:04d}"))

    def weights(self, name: str) -> dict[str, set[str]]:
        """sha256 of the final weights of a sweep's trainings, by cell."""
        found: dict[str, set[str]] = {}
        for job in self.trainings(name):
            result = json.loads(self.workspace.run(job).result.read_bytes())
            cell = str(self.state().jobs[job].job.labels["cell"])
            found.setdefault(cell, set()).add(result["model_sha256"])
        return found

    def assert_each_done_once(self, name: str) -> None:
        """Every training ended well exactly once."""
        for job in self.trainings(name):
            ends = [a.end.reason for a in self.attempts(job) if a.end]
            assert ends.count(EndReason.SUCCESS) == 1, (job, ends)

    def head(self) -> Head:
        """The head as recorded."""
        found = read_head(self.workspace)
        assert found is not None
        return found

    def members(self) -> set[str]:
        """Nodes that Ray counts as alive."""
        try:
            return {node["name"] for node in json.loads(self.workspace.members.read_bytes())["nodes"]}
        except FileNotFoundError:
            return set()

    def report(self, node: str) -> NodeReport:
        """What is known of a node."""
        return reports(self.workspace)[node]

    def processes(self, host: str) -> list[str]:
        """Command lines of what runs there for the workspace."""
        listed = self.bed.on(host, "ps", "-ewwo", "args").stdout.splitlines()
        return [line for line in listed if self.workspace.id in line or "terry.cluster" in line or "ray::" in line]

    def lasting(self, *hosts: str) -> dict[str, dict[int, str]]:
        """Host -> pid -> title of what stays up there for the workspace: keeper, Ray's daemons, actors, forkservers.

        Not jobs, which end, nor what an ssh session runs. An actor's title names the method that it is in: left out.
        """
        return {host: self._lasting(host) for host in hosts}

    def _lasting(self, host: str) -> dict[int, str]:
        listed = self.bed.on(host, "ps", "-ewwo", "pid,ppid,args").stdout.splitlines()[1:]
        lines = [line.split(None, 2) for line in listed]
        found = {int(pid): (int(parent), title[1]) for pid, parent, args in lines if (title := _LASTS.search(args))}
        return {pid: title for pid, (parent, title) in found.items() if found.get(parent, (0, ""))[1] != title}

    # intruders

    def ports(self, host: str) -> list[int]:
        """TCP ports on which something listens there, but for sshd."""
        listed = self.bed.on(host, "ss", "-Hltn").stdout.splitlines()
        return sorted({int(line.split()[3].rpartition(":")[2]) for line in listed} - {22})

    def intrude(self, host: str, ports: dict[str, list[int]], private: list[str], token: str = "") -> dict[str, Any]:
        """What tests/testbed/intruder.py finds from there."""
        targets = self.bed.shared / "ports.json"
        targets.write_text(json.dumps(ports), encoding="utf-8")
        script = Path(__file__).with_name("intruder.py")
        given = {"TOKEN": token} if token else {}
        done = self.bed.on(host, sys.executable, str(script), str(targets), *private, timeout=300.0, **given)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found
