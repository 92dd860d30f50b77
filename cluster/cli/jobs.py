"""The verbs that ask something of jobs: `cancel`, `pause`, `resume`, `resubmit`."""

from __future__ import annotations

import sys
from typing import Any

import click

from terry.cluster.cli.common import (
    Session,
    needs_workspace,
    note_controller,
    print_json,
    print_line,
    print_notice,
    selectors,
)
from terry.cluster.errors import UserError


@click.command()
@selectors(required=True)
@click.pass_obj
def cancel(current: Session, selectors: tuple[str, ...]) -> None:
    """End jobs for good: gently, then hard.

    The name of a sweep with a search ends the search, too.

    Example: terry-cluster cancel cells state:running
    """
    _end_searches(current, selectors)
    _ask(current, selectors, "cancel")


def _end_searches(current: Session, names: tuple[str, ...]) -> None:
    """Searches of sweeps that are named as a whole ask for nothing more: before their jobs are cancelled."""
    meant = [name for name in names if name in current.workspace.searched_sweeps()]
    if meant:
        from terry.cluster.host.clock import now
        from terry.jobs.submitting.submission import close_search

        for name in meant:
            if close_search(current.workspace, name, now()):
                print_notice(f"{name}: its search asks for nothing more; `submit` of its file opens it again")


@click.command()
@selectors(required=True)
@click.pass_obj
def pause(current: Session, selectors: tuple[str, ...]) -> None:
    """Hold jobs; they go on with `resume`.

    Running ones write a checkpoint and free their device.

    Example: terry-cluster pause cells-0007
    """
    _ask(current, selectors, "pause")


@click.command()
@selectors(required=True)
@click.pass_obj
def resume(current: Session, selectors: tuple[str, ...]) -> None:
    """Let held jobs go on, from their last checkpoint.

    Example: terry-cluster resume state:held
    """
    _ask(current, selectors, "resume")


@click.command()
@selectors(required=True)
@click.option("--from-scratch", is_flag=True, help="Start over; without it a job goes on from its last checkpoint.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before completed jobs are made again.")
@click.pass_obj
def resubmit(current: Session, selectors: tuple[str, ...], *, from_scratch: bool, yes: bool) -> None:
    """Try failed or cancelled jobs again.

    They get a fresh budget of attempts; their history stays.
    With --from-scratch also completed ones, after a question, and those that were removed.

    Example: terry-cluster resubmit state:failed
    """
    if from_scratch:
        _confirm(current, selectors, yes=yes)
    _ask(current, selectors, "resubmit-from-scratch" if from_scratch else "resubmit", from_scratch=from_scratch)


def _confirm(current: Session, selectors: tuple[str, ...], *, yes: bool) -> None:
    """What has been completed is not thrown away by a slip of the hand."""
    from terry.cluster.client.reader import Reader
    from terry.cluster.client.selectors import few
    from terry.cluster.core.model import JobState
    from terry.logs.format import plural

    needs_workspace(current)
    records = Reader(current.workspace).select_jobs(selectors)
    done = [r.job.id for r in records if r.state is JobState.COMPLETED and r.marks.removed_at is None]
    if not done or yes:
        return
    what = f"{plural(len(done), 'job')} completed ({few(done)}): made again from scratch, what they found is replaced"
    if not sys.stdin.isatty() or current.as_json:
        raise UserError(f"{what}; say --yes if that is meant")
    print_line(what)
    if not click.confirm("make them again?", default=False):
        raise click.Abort


def _ask(current: Session, selectors: tuple[str, ...], verb: str, **options: Any) -> None:
    """Send the request for those jobs that it fits, and say for which."""
    from terry.cluster.client.asking import JOB_REQUESTS, ask_jobs
    from terry.cluster.client.reader import Reader
    from terry.cluster.client.selectors import few
    from terry.logs.format import plural

    needs_workspace(current)
    reader = Reader(current.workspace)
    asked = ask_jobs(reader, verb, reader.select_jobs(selectors), **options)
    if current.as_json:
        print_json(
            {
                "request": asked.request,
                "verb": verb.removesuffix("-from-scratch"),
                "jobs": asked.ids,
                "unfitting": asked.left_out,
            }
        )
        return
    left = asked.left_out
    name = verb.removesuffix("-from-scratch")
    otherwise = JOB_REQUESTS[verb].otherwise
    rest = f"; {plural(left, 'job')} {'is' if left == 1 else 'are'} {otherwise}" if left else ""
    if not asked.ids:
        print_line(f"nothing to {name}{rest}")
        return
    print_line(f"asked to {name} {plural(len(asked.ids), 'job')}: {few(asked.ids)}{rest}")
    note_controller(reader)
