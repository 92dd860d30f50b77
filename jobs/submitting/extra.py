"""One more job for a sweep, without a sweep file: an evaluation or a sampling, submitted as all jobs are."""

from __future__ import annotations

import os
import secrets
import shutil
from datetime import datetime
from typing import Any

import msgspec

from terry.cluster.core.model import Resources, RetryPolicy
from terry.cluster.files import durable, inbox
from terry.cluster.files.paths import Workspace
from terry.jobs.submitting.records import JobLine, Known, NewJob, SubmissionInfo
from terry.jobs.submitting.submission import FORMAT_VERSION
from terry.jobs.sweeps.sweep import digest


def submit_extra(
    workspace: Workspace,
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
        known = Known(workspace, sweep)
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


def _publish(workspace: Workspace, sweep: str, line: JobLine, request: str, taken: int) -> bool:
    """Claim the next number with a folder; False where another submission came first."""
    number = max([taken, *(n for n, _ in workspace.submissions(sweep))]) + 1
    folder = workspace.sweep(sweep)
    temporary = folder / f".submission.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    info = SubmissionInfo(
        version=FORMAT_VERSION,
        sweep=sweep,
        submitted_at=line.job.submitted_at,
        owner=line.job.owner,
        file="",
        folder=str(folder),
        overrides=(),
        request=request,
        jobs=1,
        ensembles={},
    )
    try:
        durable.make_folder(temporary)
        contents = {
            "sweep.yaml": f"# asked for on the command line: {line.job.kind}\n".encode(),
            "jobs.jsonl": msgspec.json.encode(line) + b"\n",
            "submission.json": msgspec.json.encode(info) + b"\n",
        }
        for name, content in contents.items():
            (temporary / name).touch(mode=durable.inherited_mode(temporary))
            (temporary / name).write_bytes(content)
        durable.publish_folder(temporary, workspace.submission(sweep, number))
    except FileExistsError:
        return False
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True
