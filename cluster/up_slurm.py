"""`up` and `down` where the head stands in a Slurm job (`head: slurm`): this machine asks Slurm, and reads files."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from terry.cluster import durable, lease
from terry.cluster.errors import UserError
from terry.cluster.nodes_file import NodesConfig, SlurmGroup
from terry.cluster.slurm_plan import HEAD_NODE, Phase, SlurmJob
from terry.cluster.slurm_port import Slurm, SlurmError
from terry.cluster.up_here import cluster_status
from terry.cluster.workspace import Workspace

#: How long a Slurm job that runs may take until its controller is at work.
_START_S = 150.0
_END_S = 90.0
_LOOK_S = 0.5


def ensure_head_job(workspace: Workspace, nodes: NodesConfig, *, wait: bool, say: Callable[[str], None]) -> bool:
    """Make sure that there is a Slurm job for the head. True if one was asked for. Raises UserError."""
    held = lease.read(workspace)
    if held is not None and held.alive(datetime.now(UTC)):
        return False
    slurm = Slurm(workspace)
    durable.make_folder(workspace.cluster)
    started = False
    try:
        if _head_job(slurm) is None:
            job_id = slurm.submit_head(_group(nodes))
            say(f"asked Slurm for a job for the head: {job_id}")
            started = True
        if wait:
            _wait(workspace, slurm, say)
    except SlurmError as error:
        raise UserError(f"Slurm gives no job for the head: {error}", file=workspace.config) from error
    return started


def end_head_job(workspace: Workspace, *, say: Callable[[str], None]) -> bool:
    """Have jobs write their checkpoints and the head's Slurm job end. False where there was none."""
    slurm = Slurm(workspace)
    try:
        job = _head_job(slurm)
        if job is None:
            return False
        slurm.cancel(j.id for j in slurm.jobs() if j.node == HEAD_NODE and j.phase is Phase.PENDING)
        if job.phase is Phase.PENDING:
            return True
        say(f"jobs write their checkpoints; then the head's Slurm job {job.id} ends")
        slurm.end_head(job.id)
        deadline = time.monotonic() + _END_S
        while _head_job(slurm) is not None and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        slurm.cancel(j.id for j in slurm.jobs() if j.node == HEAD_NODE)
    except SlurmError as error:
        say(f"trouble: {error}")
    return True


def _group(nodes: NodesConfig) -> SlurmGroup:
    """Its partition, account and time limit are the head's, too."""
    return next(group for group in nodes.groups if isinstance(group, SlurmGroup))


def _head_job(slurm: Slurm) -> SlurmJob | None:
    found = [job for job in slurm.jobs() if job.node == HEAD_NODE]
    return min(found, key=lambda job: (job.phase is not Phase.RUNNING, job.id), default=None)


def _wait(workspace: Workspace, slurm: Slurm, say: Callable[[str], None]) -> None:
    told, runs_since = "", None
    while not cluster_status(workspace).at_work:
        job = _head_job(slurm)
        if job is None:
            raise UserError("the head's Slurm job has ended", file=workspace.slurm)
        word = f"starts on {job.host}" if job.phase is Phase.RUNNING else f"waits in Slurm's queue: {job.reason}"
        if word != told:
            say(f"Slurm job {job.id} {word}")
            told = word
        if job.phase is Phase.RUNNING:
            runs_since = runs_since or time.monotonic()
            if time.monotonic() - runs_since > _START_S:
                raise UserError("no controller in the head's Slurm job; why is written here", file=workspace.slurm)
        time.sleep(_LOOK_S)
