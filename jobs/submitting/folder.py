"""A submission's folder: filled beside its place, then renamed into it whole."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from terry.cluster.files import durable
from terry.cluster.files.links import refuse_planted
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting.records import JobLine, SubmissionInfo

FORMAT_VERSION = 1


def claim(workspace: WorkspacePaths, sweep: str, taken: int, fill: Callable[[Path, Path], None]) -> int:
    """Publish the sweep's next submission, which `fill` writes; returns its number.

    taken: the newest that the queue knows. fill: is given the folder, and where it will be, relative to the workspace.
    Raises OSError, and nothing half-written is left; FileExistsError: another submission came first.
    """
    refuse_planted(workspace.sweep(sweep), workspace.root)
    number = max([taken, *(n for n, _ in workspace.submissions(sweep))]) + 1
    target = workspace.submission(sweep, number)
    temporary = target.with_name(f".submission.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        durable.make_folder(temporary)
        fill(temporary, target.relative_to(workspace.root))
        durable.publish_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return number


def write_records(folder: Path, text: bytes, lines: Sequence[JobLine], info: SubmissionInfo) -> None:
    """The sweep file as it was given, one line a job, and who submitted it when."""
    encoder = msgspec.json.Encoder()
    contents = {
        "sweep.yaml": text,
        "jobs.jsonl": encoder.encode_lines(lines),
        "submission.json": encoder.encode(info) + b"\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
