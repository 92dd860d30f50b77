"""The verbs that ask something of jobs or show their output: `cancel`, `pause`, `resume`, `resubmit`, `logs`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import click

from terry.cluster.cli.common import ExitCode, Session, needs_workspace, note, one_job, print_json, say, selectors

if TYPE_CHECKING:
    from terry.cluster.client.reader import Reader
    from terry.cluster.files.inbox import Message


@click.command()
@selectors(required=True)
@click.pass_obj
def cancel(current: Session, selectors: tuple[str, ...]) -> None:
    """End jobs for good: gently, then hard.

    Example: terry-cluster cancel cells state:running
    """
    from terry.cluster.files.inbox import Cancel

    _ask(current, selectors, "cancel", lambda ids: Cancel(job_ids=ids), _unfinished(), "ended already")


@click.command()
@selectors(required=True)
@click.pass_obj
def pause(current: Session, selectors: tuple[str, ...]) -> None:
    """Hold jobs; they go on with `resume`.

    Running ones write a checkpoint and free their device.

    Example: terry-cluster pause cells-0007
    """
    from terry.cluster.core.model import JobState
    from terry.cluster.files.inbox import Pause

    able = _unfinished() - {JobState.HELD}
    _ask(current, selectors, "pause", lambda ids: Pause(job_ids=ids), able, "held or ended already")


@click.command()
@selectors(required=True)
@click.pass_obj
def resume(current: Session, selectors: tuple[str, ...]) -> None:
    """Let held jobs go on, from their last checkpoint.

    Example: terry-cluster resume state:held
    """
    from terry.cluster.core.model import JobState
    from terry.cluster.files.inbox import Resume

    able = {JobState.HELD, JobState.STOPPING}
    _ask(current, selectors, "resume", lambda ids: Resume(job_ids=ids), able, "not held")


@click.command()
@selectors(required=True)
@click.option("--from-scratch", is_flag=True, help="Start over; without it a job goes on from its last checkpoint.")
@click.pass_obj
def resubmit(current: Session, selectors: tuple[str, ...], *, from_scratch: bool) -> None:
    """Try failed or cancelled jobs again.

    They get a fresh budget of attempts; their history stays.

    Example: terry-cluster resubmit state:failed
    """
    from terry.cluster.core.model import JobState
    from terry.cluster.files.inbox import Resubmit

    able = {JobState.FAILED, JobState.CANCELLED}
    verb = "resubmit"
    _ask(
        current,
        selectors,
        verb,
        lambda ids: Resubmit(job_ids=ids, from_scratch=from_scratch),
        able,
        "neither failed nor cancelled",
    )


def _unfinished() -> set[str]:
    from terry.cluster.core.model import JobState

    return {state for state in JobState if not state.is_final}


def _ask(
    current: Session,
    selectors: tuple[str, ...],
    verb: str,
    message: Callable[[tuple[str, ...]], Message],
    able: Collection[str],
    otherwise: str,
) -> None:
    """Send the request for those jobs that it fits, and say for which."""
    from terry.cluster.client.reader import Reader
    from terry.cluster.client.selectors import few
    from terry.cluster.files.inbox import send
    from terry.logs.text.format import plural

    needs_workspace(current)
    reader = Reader(current.workspace)
    chosen = reader.select(selectors)
    ids = tuple(record.job.id for record in chosen if record.state in able)
    sent = message(ids) if ids else None
    if sent is not None:
        send(current.workspace, sent)
    left_out = len(chosen) - len(ids)
    if current.as_json:
        request = sent.request if sent else None
        print_json({"request": request, "verb": verb, "jobs": ids, "unfitting": left_out})
        return
    rest = f"; {plural(left_out, 'job')} {'is' if left_out == 1 else 'are'} {otherwise}" if left_out else ""
    say(f"asked to {verb} {plural(len(ids), 'job')}: {few(ids)}{rest}" if ids else f"nothing to {verb}{rest}")
    if ids:
        _say_controller(reader)


def _say_controller(reader: Reader) -> None:

    if reader.read().controller.advice:
        note("no controller runs: it will be done after `terry-cluster up` or the next `submit`")


@click.command()
@one_job()
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended; exit code 1 if it failed.")
@click.option("--stderr", is_flag=True, help="What it printed to standard error.")
@click.pass_obj
def logs(current: Session, job: str, *, follow: bool, stderr: bool) -> int:
    """Print what a job has printed, attempt by attempt.

    Example: terry-cluster logs cells-0007 -f
    """
    from terry.cluster.cli.logs import attempt_texts, print_log
    from terry.cluster.client.reader import Reader

    needs_workspace(current)
    reader = Reader(current.workspace)
    record = reader.select_one(job)
    if current.as_json:
        print_json(attempt_texts(current.workspace.run(record.job.id), record, stderr=stderr))
        return ExitCode.DONE
    return print_log(reader, record, follow=follow, stderr=stderr)
