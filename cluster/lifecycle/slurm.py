"""`up` and `down` where the head stands in a Slurm job (`head: slurm`): this node asks Slurm, and reads files."""

from __future__ import annotations

import time
from collections.abc import Callable

from terry.cluster.config.nodes import NodesConfig, SlurmGroup
from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.lifecycle.liveness import is_alive, silent_s
from terry.cluster.lifecycle.on_head import cluster_status
from terry.cluster.slurm import next_head
from terry.cluster.slurm.commands import Slurm, SlurmError
from terry.cluster.slurm.plan import HEAD_NODE, Phase, SlurmJob

#: How long a Slurm job that runs may take until its controller is at work.
_START_S = 150.0
_END_S = 90.0
_LOOK_S = 0.5
#: A head that was seen to give no sign of life for so long is dead, even where Slurm has not noticed yet.
_DEAD_S = 60.0
#: In Slurm's words, why a successor waits.
_FOLLOWS = "Dependency"


def ensure_head_job(
    workspace: WorkspacePaths, nodes: NodesConfig, *, wait: bool, notify: Callable[[str], None]
) -> bool:
    """Make sure that there is a Slurm job for the head. True if one was asked for. Raises UserError."""
    if is_alive(workspace):
        return False
    slurm = Slurm(workspace)
    durable.make_folder(workspace.cluster)
    started = False
    try:
        jobs = _head_jobs(slurm)
        if not jobs:
            job_id = slurm.submit_head(_group(nodes))
            notify(f"asked Slurm for a job for the head: {job_id}")
            started = True
        elif silent_s(workspace) > _DEAD_S:
            _hasten(slurm, jobs, notify)
        if wait:
            _wait(workspace, slurm, notify)
    except SlurmError as error:
        raise UserError(f"Slurm gives no job for the head: {error}", file=workspace.config) from error
    return started


def end_head_job(workspace: WorkspacePaths, *, notify: Callable[[str], None]) -> bool:
    """Have jobs write their checkpoints and the head's Slurm job end; first its successor. False where none was."""
    slurm = Slurm(workspace)
    reported: set[str] = set()
    deadline = time.monotonic() + _END_S
    try:
        if not (jobs := _head_jobs(slurm)):
            return False
        while jobs and time.monotonic() < deadline:
            slurm.cancel(job.id for job in jobs if job.phase is Phase.PENDING)
            for job in jobs:
                if job.phase is Phase.RUNNING and job.id not in reported:
                    notify(f"jobs write their checkpoints; then the head's Slurm job {job.id} ends")
                    slurm.end_head(job.id)
                    reported.add(job.id)
            time.sleep(_LOOK_S)
            jobs = _head_jobs(slurm)
        slurm.cancel(job.id for job in jobs)
        next_head.forget(workspace)
    except SlurmError as error:
        notify(f"problem: {error}")
    return True


def _group(nodes: NodesConfig) -> SlurmGroup:
    """Its partition, account and time limit are the head's, too."""
    return next(group for group in nodes.groups if isinstance(group, SlurmGroup))


def _head_jobs(slurm: Slurm) -> list[SlurmJob]:
    """All that are, were or will be the head; the newest first."""
    found = [job for job in slurm.jobs() if job.node == HEAD_NODE]
    return sorted(found, key=lambda job: (len(job.id), job.id), reverse=True)


def _hasten(slurm: Slurm, jobs: list[SlurmJob], notify: Callable[[str], None]) -> None:
    """Let the successor of a dead head start now: Slurm takes minutes to notice that a node has crashed."""
    old = next((job for job in jobs if job.phase is Phase.RUNNING), None)
    for job in jobs:
        if old is not None and job.phase is Phase.PENDING and job.reason == _FOLLOWS:
            notify(f"the head's Slurm job {old.id} on {old.host} is silent: {job.id} does not wait for its end")
            slurm.free(job.id)


def _coming(jobs: list[SlurmJob]) -> SlurmJob | None:
    """The job in which the head is, or will be next."""
    return next((job for job in jobs if job.reason != _FOLLOWS), jobs[0] if jobs else None)


def _wait(workspace: WorkspacePaths, slurm: Slurm, notify: Callable[[str], None]) -> None:
    reported = ""
    runs_since: dict[str, float] = {}
    while not cluster_status(workspace).at_work:
        jobs = _head_jobs(slurm)
        if silent_s(workspace) > _DEAD_S:
            _hasten(slurm, jobs, notify)
        job = _coming(jobs)
        if job is None:
            raise UserError("the head's Slurm job has ended", file=workspace.slurm)
        word = f"starts on {job.host}" if job.phase is Phase.RUNNING else f"waits in Slurm's queue: {job.reason}"
        if word != reported:
            notify(f"Slurm job {job.id} {word}")
            reported = word
        if job.phase is Phase.RUNNING:
            since = runs_since.setdefault(job.id, time.monotonic())
            if time.monotonic() - since > _START_S:
                raise UserError("no controller in the head's Slurm job; why is written here", file=workspace.slurm)
        time.sleep(_LOOK_S)
