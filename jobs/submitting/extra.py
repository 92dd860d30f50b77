"""One more job for a sweep, without a sweep file: an evaluation or a sampling, submitted as all jobs are."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from terry.cluster.core.model import Resources, RetryPolicy
from terry.cluster.files import inbox
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting.folder import FORMAT_VERSION, claim, write_records
from terry.jobs.submitting.records import JobLine, KnownJobs, NewJob, SubmissionInfo
from terry.jobs.sweeps.sweep import digest


def submit_extra(
    workspace: WorkspacePaths,
    sweep: str,
    kind: str,
    entrypoint: str,
    config: dict[str, Any],
    resources: Resources,
    labels: dict[str, str],
    now: datetime,
    owner: str,
) -> str:
    """Publish a submission of one job, told to the controller; returns the job's id. Raises OSError."""
    request = secrets.token_hex(8)
    while True:
        known = KnownJobs(workspace, sweep)
        number = 1 + max((_number(job, f"{sweep}-{kind}-") for job in known.taken), default=0)
        job = NewJob(
            id=f"{sweep}-{kind}-{number:04d}",
            sweep=sweep,
            kind=kind,
            identity=digest({"request": request, "config": config}),  # asked for twice, it is done twice
            entrypoint=entrypoint,
            resources=resources,
            submitted_at=now,
            owner=owner,
            priority=0,
            held=False,
            depends_on=(),
            retry=RetryPolicy(),
            labels=labels,
        )
        if _publish(workspace, sweep, JobLine(job=job, config=config), request, known.submissions):
            inbox.send(workspace, inbox.Submit(sweep=sweep))
            return job.id


def _number(job_id: str, prefix: str) -> int:
    rest = job_id.removeprefix(prefix)
    return int(rest) if rest != job_id and rest.isdecimal() else 0


def _publish(workspace: WorkspacePaths, sweep: str, line: JobLine, request: str, taken: int) -> bool:
    """Claim the next number with a folder; False where another submission came first."""
    info = SubmissionInfo(
        version=FORMAT_VERSION,
        sweep=sweep,
        submitted_at=line.job.submitted_at,
        owner=line.job.owner,
        file="",
        folder=str(workspace.sweep(sweep)),
        overrides=(),
        request=request,
        jobs=1,
        ensembles={},
    )
    text = f"# asked for on the command line: {line.job.kind}\n".encode()
    try:
        claim(workspace, sweep, taken, lambda folder, _: write_records(folder, text, [line], info))
    except FileExistsError:
        return False
    return True
