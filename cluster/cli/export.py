"""`export`: runs into the trackers that people have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from terry.cluster.cli.common import Session, needs_workspace, print_json, print_line, print_notice, selectors
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from terry.cluster.client.reader import Reader


@click.command()
@selectors(required=True)
@click.option(
    "--to",
    nargs=2,
    required=True,
    metavar="TRACKER PLACE",
    help="mlflow URI, wandb FOLDER (offline runs, for `wandb sync`), folder FOLDER.",
)
@click.option("--follow", is_flag=True, help="Go on until all have ended, and write each when it has.")
@click.pass_obj
def export(current: Session, selectors: tuple[str, ...], *, to: tuple[str, str], follow: bool) -> None:
    """Write runs into MLflow or Weights & Biases, or a model into a folder.

    Each run with its settings, one curve however often it was killed, and its final figures as `results` has them. What
    is there already is left alone, so that this can be called again and again; a run that has changed is written anew.

    `--to folder` writes one run's model so that it opens without Terry: weights, configuration, vocabulary, a card, and
    a loader of 40 lines.

    Example: terry-cluster export cells --to mlflow sqlite:///mlflow.db
    """
    from terry.cluster.client.exporting import TRACKERS, export_runs, open_tracker
    from terry.cluster.client.reader import Reader
    from terry.cluster.errors import nearest

    needs_workspace(current)
    kind, place = to
    if kind not in {*TRACKERS, "folder"}:
        raise UserError(f"--to {kind}: unknown tracker{nearest(kind, [*TRACKERS, 'folder'])}")
    reader = Reader(current.workspace)
    if kind == "folder":
        _model(current, reader, selectors, Path(place), follow=follow)
        return
    reader.select_jobs(selectors)  # a mistake is told before anything is made
    tracker = open_tracker(kind, place)

    def told(job: str, number: int, total: int) -> None:
        if number % 50 == 0 or follow:
            print_notice(f"{job}: {number:,} of {total:,}")

    try:
        done = export_runs(reader, selectors, tracker, follow=follow, notify=told)
    finally:
        tracker.close()
    if current.as_json:
        print_json({"tracker": kind, "place": place, **{n: getattr(done, n) for n in ("new", "changed", "unchanged")}})
        return
    print_line(
        f"{kind} {place}: {len(done.new):,} new, {len(done.changed):,} written anew, "
        f"{len(done.unchanged):,} there already"
    )


def _model(current: Session, reader: Reader, selectors: tuple[str, ...], folder: Path, *, follow: bool) -> None:
    from terry.cluster.client.exporting import export_model

    if follow:
        raise UserError("--follow is for trackers; a model is written as it is now")
    job, new = export_model(reader, selectors, folder.absolute())
    if current.as_json:
        print_json({"folder": str(folder.absolute()), "run": job, "new": new})
        return
    print_line(f"{folder}: the model of {job}" + ("" if new else ", there already"))
