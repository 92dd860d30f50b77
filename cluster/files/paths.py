"""Every path of a workspace: the only place that knows file names. See docs/architecture.md, "A workspace on disk"."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from terry.cluster.errors import UserError
from terry.cluster.files.links import planted

#: What a sweep, a job, a data set or a device may be called: it becomes a file name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_CHECKPOINT = re.compile(r"step-(\d{9,})-a(\d{4,})(?:-r(\d+))?")

CONFIG_NAME = "terry.yaml"
DEFAULT_NAME = "terry-runs"


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as a file name; else raise UserError that says what is."""
    if not NAME.fullmatch(name) or name.endswith((".", ".lock", ".tmp")):
        raise UserError(
            f"{what} {name!r} cannot be used: it becomes a folder's name, so it must be 1 to 100 of the characters "
            "A-Z a-z 0-9 . _ - and begin with a letter or a digit"
        )
    return name


def checkpoint_key(name: str) -> tuple[int, int, int] | None:
    """Step, attempt and revision of a published checkpoint's folder, the newest highest; None for other names."""
    found = _CHECKPOINT.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 1))


@dataclass(frozen=True, slots=True)
class WorkspacePaths:
    """One folder with all that a cluster of runs knows. Only paths: opening one reads and makes nothing."""

    root: Path  #: absolute

    @classmethod
    def find(cls, given: str | None, environ: Mapping[str, str], cwd: Path) -> WorkspacePaths:
        """Find it by `given`, TERRY_WORKSPACE, the nearest folder upwards with a terry.yaml, else ./terry-runs."""
        chosen = given or environ.get("TERRY_WORKSPACE")
        if chosen:
            return cls((cwd / Path(chosen).expanduser()).resolve())
        for folder in (cwd, *cwd.parents):
            if (folder / CONFIG_NAME).is_file():
                return cls(folder.resolve())
        return cls((cwd / DEFAULT_NAME).resolve())

    # the whole

    @property
    def config(self) -> Path:
        """terry.yaml: nodes and policy; may be absent."""
        return self.root / CONFIG_NAME

    @property
    def exists(self) -> bool:
        """True once something was submitted or `init` made it."""
        return self.queue.is_dir()

    @property
    def id(self) -> str:
        """Short, stable id of the workspace on this file system: names actors and node-local folders."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:10]

    # queue/

    @property
    def queue(self) -> Path:
        """What the controller and the command line share."""
        return self.root / "queue"

    @property
    def origin(self) -> Path:
        """Whose the files in queue/ are: a copy of them speaks of another workspace's processes."""
        return self.queue / "workspace.json"

    @property
    def mark(self) -> Path:
        """What only those can read who see this workspace."""
        return self.cluster / "mark"

    @property
    def journal(self) -> Path:
        """Folder of the journal's segments."""
        return self.queue / "journal"

    @property
    def inbox(self) -> Path:
        """Maildir of requests to the controller."""
        return self.queue / "inbox"

    @property
    def lease(self) -> Path:
        """Who is the controller: epoch, host, pid, heartbeat."""
        return self.queue / "lease.json"

    @property
    def epochs(self) -> Path:
        """Folder of epochs that were taken: a file each, which one controller alone can make."""
        return self.queue / "epochs"

    @property
    def live(self) -> Path:
        """Progress of what runs now; replaced once a second."""
        return self.queue / "live.json"

    @property
    def cluster(self) -> Path:
        """Folder about the Ray cluster that serves this workspace: head.json, token, logs of `up`."""
        return self.queue / "cluster"

    def search_status(self, sweep: str) -> Path:
        """How a sweep's search stands, for people; written by what drives it."""
        return self.cluster / "searches" / f"{check_name(sweep, 'the sweep name')}.json"

    @property
    def head(self) -> Path:
        """The Ray head: host, address, session id, pids."""
        return self.cluster / "head.json"

    @property
    def token(self) -> Path:
        """Ray's authentication token, 0600."""
        return self.cluster / "token"

    @property
    def members(self) -> Path:
        """The nodes that Ray counts as alive."""
        return self.cluster / "members.json"

    @property
    def node_reports(self) -> Path:
        """Folder of what came of asking each node to join."""
        return self.cluster / "nodes"

    def node_report(self, name: str) -> Path:
        """What came of asking this node to join."""
        return self.node_reports / f"{check_name(name, 'node')}.json"

    @property
    def slurm(self) -> Path:
        """Scripts and output of the Slurm jobs that are nodes."""
        return self.cluster / "slurm"

    @property
    def next_head(self) -> Path:
        """Which Slurm job goes on when the head's ends (`head: slurm`)."""
        return self.cluster / "next-head.json"

    @property
    def keeper_log(self) -> Path:
        """What the process that keeps Ray and the controller alive says."""
        return self.cluster / "keeper.log"

    @property
    def controller_log(self) -> Path:
        """What the controller says."""
        return self.cluster / "controller.log"

    def agent_log(self, device: str) -> Path:
        """What the agent of a device says."""
        return self.cluster / f"agent-{check_name(device.replace(':', '-'), 'device')}.log"

    def snapshot(self, seq: int) -> Path:
        """State after event `seq`."""
        return self.queue / f"snapshot-{seq:012d}.json"

    def snapshots(self) -> list[tuple[int, Path]]:
        """All snapshots as (seq, path), oldest first."""
        found = [(re.fullmatch(r"snapshot-(\d{12})\.json", p.name), p) for p in self.queue.glob("snapshot-*.json")]
        return sorted((int(m[1]), p) for m, p in found if m)

    # sweeps/

    @property
    def sweeps(self) -> Path:
        """One folder a sweep."""
        return self.root / "sweeps"

    def sweep(self, name: str) -> Path:
        """Folder of a sweep's submissions."""
        return self.sweeps / check_name(name, "the sweep name")

    def submission(self, sweep: str, number: int) -> Path:
        """One submission of a sweep: sweep.yaml as given, jobs.jsonl, submission.json. Never changes."""
        return self.sweep(sweep) / f"submission-{number:04d}"

    def submissions(self, sweep: str) -> list[tuple[int, Path]]:
        """All submissions of a sweep as (number, folder), oldest first."""
        folder = self.sweep(sweep)
        if planted(folder, self.root):
            return []
        found = [(re.fullmatch(r"submission-(\d{4,})", p.name), p) for p in folder.glob("submission-*")]
        return sorted((int(m[1]), p) for m, p in found if m and not planted(p, self.root))

    def search_mark(self, sweep: str) -> Path:
        """An empty file: among the sweep's submissions is one with a search."""
        return self.sweep(sweep) / "search"

    def searched_sweeps(self) -> list[str]:
        """Names of sweeps with a search, ended ones too; without those whose folder somebody has closed to us."""
        return [name for name in self.sweep_names() if os.path.exists(self.search_mark(name))]  # noqa: PTH110

    def rungs(self, sweep: str, group: str) -> Path:
        """Figures of runs that are compared with each other, one folder a rung, one file a run."""
        return self.sweep(sweep) / "rungs" / check_name(group, "a group of runs")

    def sweep_names(self) -> Iterator[str]:
        """Names of all sweeps that were submitted."""
        if self.sweeps.is_dir():
            yield from sorted(p.name for p in self.sweeps.iterdir() if NAME.fullmatch(p.name))

    # datasets/

    @property
    def datasets(self) -> Path:
        """Prepared data, one folder a data set and content."""
        return self.root / "datasets"

    # runs/

    @property
    def runs(self) -> Path:
        """One folder a job."""
        return self.root / "runs"

    def run(self, job_id: str) -> Run:
        """The folder of one job."""
        return Run(self.runs / check_name(job_id, "the job id"))


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of one job."""

    root: Path

    @property
    def spec(self) -> Path:
        """Resolved configuration; written once, before the first attempt."""
        return self.root / "spec.yaml"

    @property
    def source(self) -> Path:
        """The user's own code as it was at submission."""
        return self.root / "source"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.root / "checkpoints"

    @property
    def result(self) -> Path:
        """What the job found out: written by the attempt that succeeded."""
        return self.root / "result.json"

    @property
    def halving(self) -> Path:
        """What the run has decided by the figures of others: where it ends early, or up to where it goes on."""
        return self.root / "halving.json"

    @property
    def work(self) -> Path:
        """What is the run's alone to write in, over all its attempts: `working_folder: run`, and programs."""
        return self.root / "work"

    @property
    def loss_curve(self) -> Path:
        """Picture of the loss over the steps."""
        return self.root / "loss_curve.png"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.root / "tb"

    @property
    def samples(self) -> Path:
        """Texts that were sampled from the run's model; one file a call."""
        return self.root / "samples"

    def attempt(self, number: int) -> AttemptFolder:
        """The folder of one attempt."""
        return AttemptFolder(self.root / "attempts" / f"{number:04d}")

    def attempts(self) -> list[tuple[int, AttemptFolder]]:
        """All attempts that left a folder, oldest first."""
        folder = self.root / "attempts"
        if not folder.is_dir():
            return []
        return sorted(
            ((int(p.name), AttemptFolder(p)) for p in folder.iterdir() if re.fullmatch(r"\d{4,}", p.name)),
            key=lambda pair: pair[0],
        )


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """The folder of one attempt: written by its process and its agent, by nobody else."""

    root: Path

    @property
    def launch(self) -> Path:
        """Written by the agent before the process starts: order, device, host, versions."""
        return self.root / "launch.json"

    @property
    def stdout(self) -> Path:
        """What the process printed."""
        return self.root / "stdout.log"

    @property
    def stderr(self) -> Path:
        """What the process printed to standard error."""
        return self.root / "stderr.log"

    @property
    def metrics(self) -> Path:
        """JSON lines of the process's measurements."""
        return self.root / "metrics.jsonl"

    @property
    def crash(self) -> Path:
        """Stacks of all threads, where the process crashed."""
        return self.root / "crash.txt"

    @property
    def error(self) -> Path:
        """The uncaught exception as JSON: reason, message, traceback; written by the process."""
        return self.root / "error.json"

    @property
    def early(self) -> Path:
        """Why the run is done although it did not come to its end, as JSON; written by the process."""
        return self.root / "early.json"

    @property
    def exit(self) -> Path:
        """How it ended; written by the agent once the process is gone."""
        return self.root / "exit.json"
