"""What is asked of trained models: which runs are meant, where samples are kept, and the same as a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.client.reader import Reader
from terry.cluster.client.submitting import owner
from terry.cluster.core.model import Job, JobRecord
from terry.cluster.errors import UserError
from terry.cluster.files import run_folder
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.clock import now
from terry.jobs.sweeps.model_jobs import EvaluateAsked, Mixture, SampleAsked
from terry.jobs.trained.members import CHANGEABLE, EnsembleMembers, changed, ensemble_named


def choose_runs(reader: Reader, given: Sequence[str], options: Mapping[str, Any]) -> tuple[Mixture, list[JobRecord]]:
    """The runs that are meant, with the ensemble's own settings where one is named, and with `options` instead of them.

    options: of the command line: members, average, weights, snapshots, average_weights. Raises UserError.
    """
    mixture = ensemble_named(reader.workspace, given[0]) if len(given) == 1 else None
    names = given if mixture is None else mixture.members
    records = [record for record in reader.select_jobs(names) if record.job.kind == "train"]
    if not records:
        raise UserError(f"no training is among {' '.join(given)}: name runs, a sweep, or an ensemble")
    ids = tuple(record.job.id for record in records)
    if mixture is None:
        mixture = Mixture(name=ids[0] if len(ids) == 1 else "+".join(given), members=ids)
    options = {**options, "best": options["members"]}
    return changed(mixture, **{key: options[key] for key in CHANGEABLE if options[key]}), records


def samples_folder(reader: Reader, chosen: EnsembleMembers) -> Path:
    """Folder of the samples: that of the run, of the ensemble's job, else of the first member. Raises OSError."""
    job = _ensemble_job(reader, chosen.mixture)
    run = reader.workspace.run(job or chosen.first.id)
    run_folder.refuse_links(run)
    return run.samples


def _ensemble_job(reader: Reader, mixture: Mixture) -> str:
    """The job of an ensemble of that name and with these members; empty where there is none."""
    for job_id, record in reader.jobs().items():
        if record.job.labels.get("ensemble") == mixture.name and record.job.depends_on == mixture.members:
            return job_id
    return ""


def submit_model_job(
    workspace: WorkspacePaths, kind: str, asked: SampleAsked | EvaluateAsked, like: Job
) -> tuple[str, bool]:
    """Hand it to the cluster as a job of its own, on a device as `like` asks for one.

    kind: sample or evaluate. Returns its id, and whether a controller is being started. Raises UserError, OSError.
    """
    from terry.cluster.lifecycle.up import ensure_up, refuse_other_version
    from terry.jobs.submitting.extra import submit_extra
    from terry.jobs.sweeps.spec import EVALUATE, SAMPLE

    refuse_other_version(workspace)
    entrypoint = {"evaluate": EVALUATE, "sample": SAMPLE}[kind]
    labels = {"model": asked.mixture.name}
    settings = msgspec.to_builtins(asked)
    job_id = submit_extra(workspace, like.sweep, kind, entrypoint, settings, like.resources, labels, now(), owner())
    return job_id, ensure_up(workspace, wait=False)
