"""Submitting: from a sweep to jobs on disk, and a controller that will run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terry.cluster.core.model import DeviceKind
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.clock import now

if TYPE_CHECKING:
    from terry.jobs.submitting.submission import Submission


def plan(
    workspace: WorkspacePaths,
    sweep: Path | Mapping[str, Any],
    overrides: Sequence[str],
    *,
    hold: bool,
    priority: int | None,
    extend: bool,
) -> Submission:
    """What a sweep (a file, or its contents) would be, with settings `key=value` that hold for every run.

    Writes nothing. Raises UserError with file and line.
    """
    from terry.jobs.submitting.submission import SubmitOptions, prepare_submission

    options = SubmitOptions(hold=hold, priority=priority, extend=extend, kind=default_kind(workspace))
    return prepare_submission(workspace, sweep, overrides, options, now(), owner())


def publish(workspace: WorkspacePaths, planned: Submission) -> int:
    """Put a planned submission on disk, in a workspace that is made where there is none. Returns its number.

    Once it returns, nothing that dies loses the sweep. Raises UserError, OSError.
    """
    from terry.cluster.client.setup import make_workspace
    from terry.cluster.lifecycle.up import refuse_other_version
    from terry.jobs.submitting import submission

    make_workspace(workspace)
    refuse_other_version(workspace)
    return submission.publish(workspace, planned)


def ensure_controller(workspace: WorkspacePaths, planned: Submission) -> bool:
    """Start one in the background where something is left to do and none lives; True if that was so."""
    from terry.cluster.lifecycle.up import ensure_up

    return bool(planned.new or _unfinished(workspace, planned)) and ensure_up(workspace, wait=False)


def _unfinished(workspace: WorkspacePaths, planned: Submission) -> bool:
    """True where a job of the file has not ended."""
    from terry.cluster.client.reader import Reader

    jobs = Reader(workspace).jobs()
    return any(job.id not in jobs or not jobs[job.id].state.is_final for job in planned.jobs)


def owner() -> str:
    """Who submits."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        import os

        return str(os.getuid())


def default_kind(workspace: WorkspacePaths) -> DeviceKind:
    """What a run gets whose file does not say: a GPU where the queue, terry.yaml or this node has one."""
    from terry.cluster.client.reader import Reader
    from terry.jobs.sweeps import spec

    reader = Reader(workspace)
    reader.jobs()
    known = sum(r.device.kind is DeviceKind.GPU for r in reader.state.devices.values())
    known += _promised_gpus(workspace) if workspace.config.is_file() else 0
    return spec.default_kind(known, 0 if known else spec.local_gpus())


def _promised_gpus(workspace: WorkspacePaths) -> int:
    """GPUs of the nodes that Slurm will be asked for."""
    from terry.cluster.config import terry_yaml as config
    from terry.cluster.config.nodes import SlurmGroup
    from terry.cluster.slurm.plan import expected_gpus

    slurm = [group for group in config.read(workspace).nodes.groups if isinstance(group, SlurmGroup)]
    return sum(expected_gpus(group) for group in slurm if group.most)
