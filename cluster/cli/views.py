"""The verbs that show: `status`, `watch`, `explain`, `wait`."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    print_notice,
    selectors,
    width,
)
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from terry.cluster.core.model import JobState


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
    from terry.cluster.client.views import documents
    from terry.logs.text.status import ROWS, by_attention, status_lines
    from terry.logs.view.build import ViewBuilder

    needs_workspace(current)
    reader = Reader(current.workspace)
    records = reader.select_jobs(selectors)
    if current.as_json:
        print_json(documents(reader, records))
        return
    known = reader.read(records)
    view = ViewBuilder().view(known)
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


@click.command()
@click.option("--until-done", is_flag=True, help="Leave once all jobs have ended.")
@click.pass_obj
def watch(current: Session, *, until_done: bool) -> int:
    """Watch everything live; `?` shows the keys.

    Without a terminal: one line for each change. Leaving it ends nothing: the jobs go on.

    Example: terry-cluster watch
    """
    from terry.cluster.client.awaited import Awaited, searches_named
    from terry.cluster.client.reader import Reader

    if current.as_json and not until_done:
        raise UserError("`watch` never ends, so it is no JSON document; `status --json` tells how things stand now")
    needs_workspace(current)
    from terry.cluster.cli.follow import watch_lines, watch_screen

    if has_screen() and not current.as_json:
        reader = Reader(current.workspace)
        everything = Awaited(reader, list(reader.shown()), searches_named(current.workspace, ()))
        return watch_screen(current, everything if until_done else None)
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
    from terry.cluster.cli.follow import wait_for
    from terry.cluster.client.awaited import Awaited, searches_named
    from terry.cluster.client.reader import Reader

    needs_workspace(current)
    reader = Reader(current.workspace)
    ids = [record.job.id for record in reader.select_jobs(selectors)]
    awaited = Awaited(reader, ids, searches_named(current.workspace, selectors))
    return wait_for(current, awaited, timeout_s=timeout, notify=print_notice)


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
    from terry.cluster.client.views import story_document, story_of
    from terry.logs.text.story import story_lines

    needs_workspace(current)
    reader = Reader(current.workspace)
    story = story_of(reader, reader.select_job(job))
    if current.as_json:
        print_json(story_document(story))
    else:
        print_lines(story_lines(story))
