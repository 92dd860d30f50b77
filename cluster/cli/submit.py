"""`submit`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import ExitCode, Session, completed, print_json, print_lines, print_notice
from terry.cluster.core.model import DeviceKind
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from terry.cluster.client.keeping import Kept
    from terry.jobs.submitting.submission import PlannedJob, Submission


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1, shell_complete=completed("settings"))
@click.option("--dry-run", is_flag=True, help="Print the table of jobs; nothing is submitted.")
@click.option("--watch", is_flag=True, help="Show the dashboard until all jobs have ended.")
@click.option("--wait", is_flag=True, help="Return when all jobs have ended; exit code 1 if one failed.")
@click.option("--hold", is_flag=True, help="The jobs wait for `resume`.")
@click.option("--priority", metavar="N", type=int, help="Higher goes first.")
@click.option("--extend", is_flag=True, help="Add to the sweep of this name, though the file shares no run with it.")
@click.pass_obj
def submit(
    current: Session,
    file: Path,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    watch: bool,
    wait: bool,
    hold: bool,
    priority: int | None,
    extend: bool,
) -> int:
    """Submit a sweep; again: add only what is new.

    \b
    FILE is the sweep file (YAML); KEY=VALUE are settings that hold for every run.
    Example: terry-cluster submit sweep.yaml training.epochs=3 --watch
    """
    planned = _plan(current, file, overrides, hold=hold, priority=priority, extend=extend)
    if dry_run:
        show_plan(current, planned)
        return ExitCode.DONE
    document = submit_planned(current, planned)
    if watch or wait:
        from terry.cluster.cli.follow import follow
        from terry.cluster.client.awaited import Awaited
        from terry.cluster.client.reader import Reader

        sweeps = [planned.sweep] if planned.search is not None else []
        awaited = Awaited(Reader(current.workspace), [job.id for job in planned.jobs], sweeps)
        return follow(current, awaited, watch=watch)
    if current.as_json:
        print_json(document)
    return ExitCode.DONE


def _plan(
    current: Session, file: Path, overrides: tuple[str, ...], *, hold: bool, priority: int | None, extend: bool
) -> Submission:
    from terry.cluster.client.submitting import plan

    if not file.exists():
        raise UserError(f"there is no file {file}; the sweep file comes first, then KEY=VALUE settings")
    if file.is_dir():
        raise UserError(f"{file} is a folder; give the sweep file in it")
    return plan(current.workspace, file, overrides, hold=hold, priority=priority, extend=extend)


def submit_planned(current: Session, planned: Submission) -> dict[str, Any]:
    """Put it on disk, tell the controller, make sure that there is one. Returns what `--json` prints."""
    from terry.cluster.client.submitting import ensure_controller, publish

    number = publish(current.workspace, planned)
    priority = planned.asked.options.priority
    reprioritised = None if priority is None else _reprioritise(current, planned, priority)
    if not current.as_json:
        print_lines([*_summary(current, planned), *_priority_words(reprioritised, priority)])
    if ensure_controller(current.workspace, planned):
        print_notice("a controller is being started in the background")
    return {
        "sweep": planned.sweep,
        "submission": number,
        "workspace": str(current.workspace.root),
        "new": planned.new,
        "there_already": len(planned.jobs) - planned.new,
        "jobs": [job.id for job in planned.jobs],
        "device_kind": planned.kind,
        "reprioritised": [] if reprioritised is None else reprioritised.ids,
    }


def _reprioritise(current: Session, planned: Submission, priority: int) -> Kept:
    """`--priority` holds for the jobs that are there, too."""
    from terry.cluster.client.keeping import prioritise
    from terry.cluster.client.reader import Reader

    return prioritise(Reader(current.workspace), (job.id for job in planned.jobs if not job.new), priority)


def _priority_words(asked: Kept | None, priority: int | None) -> list[str]:
    from terry.cluster.client.selectors import few

    if asked is None:
        return []
    lines = [f"priority {priority} for what is there: {few(asked.ids)}"] if asked.ids else []
    return lines + [f"priority left as it was: {few(ids)} ({why})" for why, ids in asked.left.items()]


def _summary(current: Session, planned: Submission) -> list[str]:
    """What was decided, in the first lines."""
    from terry.logs.format import plural

    there = len(planned.jobs) - planned.new
    lines = [f"{planned.sweep}: {plural(planned.new, 'new job')}" + (f", {there:,} there already" if there else "")]
    lines += [f"device: {_device_words(planned)}", f"workspace: {current.workspace.root}"]
    notices = (*planned.notices, planned.keeping, planned.removed, planned.longer)
    return lines + [f"note: {notice}" for notice in notices if notice]


def _device_words(planned: Submission) -> str:
    kinds = {job.resources.kind for job in planned.jobs if job.kind != "prepare"}
    names = " and ".join("GPU" if kind is DeviceKind.GPU else "CPU" for kind in sorted(kinds)) or "CPU"
    if not planned.left_open:
        return f"{names} (as the file says)"
    if planned.kind is DeviceKind.GPU:
        return f"{names} (the file leaves it open, and there is a GPU)"
    return f"{names} (the file leaves it open, and no GPU is known here; `resources: {{gpus: 1}}` would wait for one)"


def show_plan(current: Session, planned: Submission) -> None:
    """`--dry-run`."""
    from terry.logs.format import Column, table

    if current.as_json:
        print_json([_job_document(job) for job in planned.jobs])
        return
    print_lines([*_summary(current, planned), ""])
    titles = ["JOB", "KIND", "ENTRY POINT", "ASKS FOR", "", "SETTINGS"]
    print_lines(table([Column(title=t) for t in titles], [_plan_row(job) for job in planned.jobs]))
    print_notice("dry run: nothing was submitted")


def _plan_row(job: PlannedJob) -> list[str]:
    asks = f"{job.resources.share:g} {'GPU' if job.resources.kind is DeviceKind.GPU else 'CPU'}"
    settings = " ".join(f"{key}={value}" for key, value in job.labels.items())
    what = shlex.join(job.command) if job.command else job.entrypoint
    return [job.id, job.kind, what, asks, "new" if job.new else "there", settings]


def _job_document(job: PlannedJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "entrypoint": job.entrypoint,
        "resources": job.resources,
        "new": job.new,
        "command": list(job.command) or None,
        "labels": job.labels,
    }
