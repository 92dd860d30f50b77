"""What is shown of jobs, as plain values: their rows, the story of one, the last lines of a file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.agent import evidence
from terry.cluster.client.reader import Reader
from terry.cluster.core.model import AttemptEnd, JobRecord
from terry.cluster.files.durable import read_bytes
from terry.cluster.files.paths import AttemptFolder
from terry.cluster.host.clock import now
from terry.logs.text.story import AttemptEvidence, Story, advice
from terry.logs.view.build import ViewInputs, job_view
from terry.logs.view.view import JobView


def documents(reader: Reader, records: Sequence[JobRecord]) -> list[JobView]:
    """What `status --json` prints of these jobs."""
    reader.look_at(records)
    known = reader.read(records)
    return [job_view(known.jobs.get(record.job.id, record), known) for record in records]


def story_of(reader: Reader, record: JobRecord, known: ViewInputs | None = None) -> Story:
    """The story of a job, with the evidence that its attempts left."""
    moment = now()
    controller = (known or reader.read()).controller
    run = reader.workspace.run(record.job.id)
    numbers = {attempt.number for attempt in record.attempts}
    return Story(
        record=record,
        now=moment,
        run_dir=str(run.root),
        evidence={number: _evidence(folder) for number, folder in run.attempts() if number in numbers},
        waits=reader.why_waiting(record),
        heir=reader.heir(record.job.id).job.id,
        submit=submit_command(reader, record),
        controller=controller.advice,
    )


class _Info(msgspec.Struct):
    """What of submission.json is needed here."""

    file: str = ""
    overrides: tuple[str, ...] = ()


def submit_command(reader: Reader, record: JobRecord) -> str:
    """The command by which the job's sweep is submitted again; empty where no file was submitted, or it is gone."""
    path = (reader.workspace.root / record.job.spec.path).with_name("submission.json")
    try:
        info = msgspec.json.decode(path.read_bytes(), type=_Info)
    except (OSError, msgspec.MsgspecError):
        return ""
    if not info.file or not Path(info.file).is_file():
        return ""
    return shlex.join(["terry-cluster", "submit", info.file, *info.overrides])


def _evidence(folder: AttemptFolder) -> AttemptEvidence:
    """What one attempt's folder holds."""
    try:
        end = msgspec.json.decode(read_bytes(folder.exit), type=AttemptEnd)
    except (FileNotFoundError, msgspec.MsgspecError):
        end = None
    error = evidence.read_error(folder)
    return AttemptEvidence(
        folder=str(folder.root),
        end=end,
        stack=evidence.read_stack(folder),
        traceback=error.traceback if error else "",
        stderr="\n".join(last_lines(folder.stderr, 12)),
        warnings=_warnings(folder.stderr),
    )


def _warnings(path: Path) -> tuple[str, ...]:
    """The first five lines in which a run warned, going back after NaN first; of 256 KiB at most."""
    try:
        with path.open("rb") as stream:
            text = stream.read(1 << 18).decode(errors="replace")
    except FileNotFoundError:
        return ()
    said = [line.removeprefix("warning: ") for line in text.splitlines() if line.startswith("warning: ")]
    return tuple(sorted(said, key=lambda line: "; back to step" not in line)[:5])


def last_lines(path: Path, number: int) -> list[str]:
    """The last lines of a text file; none where there is no file. Reads 16 KiB at most."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - 16_384))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    # What stands before a carriage return was overwritten on a terminal: progress bars.
    return [line.rstrip().rpartition("\r")[2] for line in text.splitlines() if line.strip()][-number:]


def story_document(story: Story) -> dict[str, Any]:
    """What `explain --json` prints."""
    record = story.record
    ended = next((a.end for a in reversed(record.attempts) if a.end), None)
    return {
        "id": record.job.id,
        "sweep": record.job.sweep,
        "state": record.state,
        "reason": record.reason,
        "replaces": record.job.replaces or None,
        "replaced_by": story.heir if story.heir not in ("", record.job.id) else None,
        "note": record.marks.note,
        "tags": record.marks.tags,
        "waits": story.waits,
        "labels": record.job.labels,
        "entrypoint": record.job.entrypoint,
        "run_dir": story.run_dir,
        "advice": advice(record.job.id, ended, story.submit),
        "attempts": [
            {"attempt": attempt, "evidence": story.evidence.get(attempt.number)} for attempt in record.attempts
        ],
    }
