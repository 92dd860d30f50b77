"""The verbs that show: `status`, `watch`, `explain`, `wait`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import (
    Session,
    coloured,
    has_screen,
    needs_workspace,
    one_job,
    paint,
    print_json,
    print_lines,
    selectors,
    width,
)
from terry.cluster.errors import UserError
from terry.cluster.host.clock import now

if TYPE_CHECKING:
    from terry.cluster.client.reader import Reader
    from terry.cluster.core.model import JobRecord, JobState
    from terry.logs.text.story import Evidence, Story
    from terry.logs.view.build import Known
    from terry.logs.view.view import JobView


@click.command()
@selectors(required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="List all jobs, not only the first.")
@click.pass_obj
def status(current: Session, selectors: tuple[str, ...], *, everything: bool) -> None:
    """Show how sweeps and jobs stand, what needs attention first.

    \b
    SELECTOR: a job id, its unique beginning, a sweep, an ensemble,
    a glob ('cells-*'), or state:failed.
    Example: terry-cluster status cells state:failed
    """
    from terry.cluster.client.reader import Reader
    from terry.logs.text.status import ROWS, by_attention, status_lines
    from terry.logs.view.build import Snapshots

    needs_workspace(current)
    reader = Reader(current.workspace)
    records = reader.select(selectors)
    if current.as_json:
        print_json(documents(reader, records))
        return
    known = reader.read()
    view = Snapshots().view(known)
    wanted = {record.job.id for record in records}
    rows = None if everything else ROWS
    jobs = by_attention([job for job in view.jobs if job.id in wanted])
    # Only what is shown is read from the runs' folders: a status of ten thousand jobs opens twenty files.
    shown = documents(reader, [known.jobs[job.id] for job in jobs[:rows]])
    jobs[:rows] = shown
    print_lines(status_lines(view, jobs, rows=rows, width=width(), paint=_paint))
    if not view.jobs:
        print_lines(["nothing was submitted yet"])


def _paint(text: str, state: JobState) -> str:
    from terry.logs.text.palette import STATES

    return paint(text, STATES[state], on=coloured())


def documents(reader: Reader, records: Sequence[JobRecord]) -> list[JobView]:
    """What `status --json` prints of these jobs."""
    from terry.logs.view.build import job_view

    reader.look_at(records)
    known = reader.read()
    return [job_view(known.jobs.get(record.job.id, record), known) for record in records]


@click.command()
@click.option("--until-done", is_flag=True, help="Leave once all jobs have ended.")
@click.pass_obj
def watch(current: Session, *, until_done: bool) -> int:
    """Watch everything live; `?` shows the keys.

    Without a terminal: one line for each change. Leaving it ends nothing: the jobs go on.

    Example: terry-cluster watch
    """
    from terry.cluster.client.reader import Reader

    if current.as_json and not until_done:
        raise UserError("`watch` never ends, so it is no JSON document; `status --json` tells how things stand now")
    needs_workspace(current)
    if has_screen() and not current.as_json:
        from terry.cluster.cli.watch import watch_screen

        return watch_screen(current, frozenset(Reader(current.workspace).jobs()) if until_done else None)
    from terry.cluster.cli.follow import watch_lines

    return watch_lines(current, until_done=until_done)


@click.command()
@selectors(required=True)
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="S", help="Give up after so many seconds: exit code 124."
)
@click.pass_obj
def wait(current: Session, selectors: tuple[str, ...], *, timeout: float | None) -> int:
    """Wait until jobs have ended.

    \b
    Exit code 1 if one of them failed or was cancelled.
    Example: terry-cluster wait cells --timeout 3600
    """
    from terry.cluster.cli.common import note
    from terry.cluster.cli.follow import wait_for
    from terry.cluster.client.reader import Reader

    needs_workspace(current)
    ids = [record.job.id for record in Reader(current.workspace).select(selectors)]
    return wait_for(current, ids, timeout_s=timeout, tell=note)


@click.command()
@one_job()
@click.pass_obj
def explain(current: Session, job: str) -> None:
    """Tell a job's story: why each attempt ended.

    \b
    The evidence (signal, stack, last lines), what was done, why it waits now.
    Example: terry-cluster explain cells-0007
    """
    from terry.cluster.client.reader import Reader
    from terry.logs.text.story import story_lines

    needs_workspace(current)
    reader = Reader(current.workspace)
    record = reader.select_one(job)
    story = tell(reader, record)
    if current.as_json:
        print_json(_story_document(story))
    else:
        print_lines(story_lines(story))


def tell(reader: Reader, record: JobRecord, known: Known | None = None) -> Story:
    """The story of a job, with the evidence that its attempts left."""
    from terry.logs.text.story import Story

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
        controller=controller.advice,
    )


def _evidence(folder: Any) -> Evidence:
    """What one attempt's folder holds."""
    import msgspec

    from terry.cluster.agent import evidence
    from terry.cluster.core.model import AttemptEnd
    from terry.logs.text.story import Evidence

    try:
        end = msgspec.json.decode(folder.exit.read_bytes(), type=AttemptEnd)
    except (FileNotFoundError, msgspec.MsgspecError):
        end = None
    error = evidence.read_error(folder)
    return Evidence(
        folder=str(folder.root),
        end=end,
        stack=evidence.read_stack(folder),
        traceback=error.traceback if error else "",
        stderr="\n".join(last_lines(folder.stderr, 12)),
        warnings=_warnings(folder.stderr),
    )


def _warnings(path: Any) -> tuple[str, ...]:
    """The first five lines in which a run warned, going back after NaN first; of 256 KiB at most."""
    try:
        with path.open("rb") as stream:
            text = stream.read(1 << 18).decode(errors="replace")
    except FileNotFoundError:
        return ()
    said = [line.removeprefix("warning: ") for line in text.splitlines() if line.startswith("warning: ")]
    return tuple(sorted(said, key=lambda line: "; back to step" not in line)[:5])


def last_lines(path: Any, number: int) -> list[str]:
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


def _story_document(story: Story) -> dict[str, Any]:
    from terry.logs.text.story import advice

    record = story.record
    ended = next((a.end for a in reversed(record.attempts) if a.end), None)
    return {
        "id": record.job.id,
        "sweep": record.job.sweep,
        "state": record.state,
        "reason": record.reason,
        "waits": story.waits,
        "labels": record.job.labels,
        "entrypoint": record.job.entrypoint,
        "run_dir": story.run_dir,
        "advice": advice(record.job.id, ended),
        "attempts": [
            {"attempt": attempt, "evidence": story.evidence.get(attempt.number)} for attempt in record.attempts
        ],
    }
