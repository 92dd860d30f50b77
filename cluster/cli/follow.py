"""Jobs shown until they have ended: on the dashboard where there is a terminal for it, else line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from terry.cluster.cli.common import (
    ExitCode,
    Session,
    has_screen,
    print_json,
    print_line,
    print_lines,
    print_notice,
    width,
)
from terry.cluster.client.asking import ask_job
from terry.cluster.client.awaited import Awaited, searches_named
from terry.cluster.client.following import Follower, any_failed, summary_line, until_ended, until_news
from terry.cluster.client.reader import Reader
from terry.cluster.client.views import documents
from terry.logs.text.status import in_words
from terry.logs.view.build import ViewBuilder
from terry.logs.view.view import View


def follow(current: Session, awaited: Awaited, *, watch: bool) -> ExitCode:
    """Until these jobs have ended: with the dashboard where it is wanted and can be shown, else in plain lines."""
    if watch and has_screen() and not current.as_json:
        return watch_screen(current, awaited)
    return wait_for(
        current, awaited, timeout_s=None, notify=print_line if watch and not current.as_json else print_notice
    )


def wait_for(current: Session, awaited: Awaited, *, timeout_s: float | None, notify: Callable[[str], None]) -> ExitCode:
    """Until all these jobs have ended, or the time is over. Says what happens, line by line."""
    reader = Reader(current.workspace)
    records, ended = until_ended(reader, awaited, notify, timeout_s)
    if not ended:
        print_notice(f"timeout: {in_words(Counter(r.state for r in records))}; the jobs go on")
    for problem in awaited.problems():
        print_notice(problem)
    if current.as_json:
        print_json(documents(reader, records))
    if not ended:
        return ExitCode.TIMEOUT
    return ExitCode.FAILED if any_failed(records) else ExitCode.DONE


def watch_screen(current: Session, until_done: Awaited | None) -> ExitCode:
    """Show the dashboard. Where it waited for jobs, how they stand is printed when it has gone."""
    from terry.cluster.client.watching import WorkspaceSource
    from terry.logs.dashboard.feed import Wanted
    from terry.logs.dashboard.live import show
    from terry.logs.dashboard.terminal import Interrupted
    from terry.logs.text.status import status_lines

    source = WorkspaceSource(current.workspace)

    def is_done(view: View) -> bool:
        """First by what is shown, which costs nothing; what is not shown (put away, replaced) is then looked up."""
        if until_done is None:
            return False
        ids = until_done.ids
        return all(job.state.is_final for job in view.jobs if job.id in ids) and until_done.have_ended()

    try:
        view = show(source, lambda request: ask_job(current.workspace, request.verb, request.job_id), is_done)
    except Interrupted:
        return ExitCode.INTERRUPTED
    if view is None or until_done is None:
        return ExitCode.DONE
    ids = frozenset(record.job.id for record in until_done.records())
    view = source.view(Wanted(visible=ids))  # figures also of rows that were never on the screen
    jobs = [job for job in view.jobs if job.id in ids]
    print_lines(status_lines(view, jobs, width=width()))
    return ExitCode.FAILED if any_failed(jobs) else ExitCode.DONE


def watch_lines(current: Session, *, until_done: bool) -> ExitCode:
    """`watch` without a terminal: a line for each change, until all has ended or somebody interrupts."""
    reader = Reader(current.workspace)
    if until_done:
        return wait_for(
            current,
            Awaited(reader, list(reader.shown()), searches_named(current.workspace, ())),
            timeout_s=None,
            notify=print_notice if current.as_json else print_line,
        )
    follower = Follower(print_line)
    print_line(summary_line(ViewBuilder().view(reader.read()), reader.jobs()))
    while True:
        stamp = reader.stamp()
        follower.notify(reader.shown().values())
        follower.summary(reader, reader.jobs())
        until_news(reader, stamp, None)
