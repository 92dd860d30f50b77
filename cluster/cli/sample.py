"""The verbs about trained models: `sample`, `evaluate`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import (
    Session,
    Verb,
    harmless,
    needs_workspace,
    print_json,
    print_line,
    print_lines,
    print_notice,
    selectors,
)
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from terry.cluster.client.reader import Reader
    from terry.cluster.core.model import JobRecord
    from terry.jobs.trained.members import EnsembleMembers


def _mixture_options(command: Verb) -> Verb:
    """How members are chosen and averaged."""
    options: tuple[Callable[[Verb], Verb], ...] = (
        click.option("--members", metavar="N", type=click.IntRange(min=1), help="Only the N best by validation loss."),
        click.option("--average", type=click.Choice(["arithmetic", "geometric"]), help="Which mean: arithmetic."),
        click.option("--weights", type=click.Choice(["equal", "loss"]), help="All alike, or by validation loss."),
        click.option(
            "--snapshots", metavar="N", type=click.IntRange(min=1), help="So many newest checkpoints of each run."
        ),
        click.option("--average-weights", is_flag=True, help="Average a run's snapshots into one member."),
        click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ...; none: a GPU if there is one."),
        click.option("--job", is_flag=True, help="As a job on the cluster, not here."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@selectors(required=True)
@click.option(
    "--unit", type=click.Choice(["sentence", "paragraph", "story"]), help="What to write; none: as it was trained."
)
@click.option("--count", "-n", metavar="N", type=click.IntRange(min=1), default=10, help="So many texts: 10.")
@click.option("--min-words", metavar="N", type=click.IntRange(min=0), default=1, help="Shorter texts are tried again.")
@click.option("--max-words", metavar="N", type=click.IntRange(min=1), help="Longer texts are tried again.")
@click.option("--seed-text", metavar="TEXT", default="", help="Every text begins so.")
@click.option("--temperature", metavar="T", type=float, default=1.0, help="Above 0; lower keeps to what is likely: 1.")
@click.option("--top-k", metavar="N", type=int, help="Only the N likeliest words.")
@click.option("--top-p", metavar="P", type=float, help="Only the likeliest words of this probability together.")
@click.option("--repetition-penalty", metavar="X", type=float, default=1.0, help="1: none. 1.2 avoids repeating.")
@click.option("--random-seed", metavar="N", type=click.IntRange(0, 2**64 - 1), default=1, help="Same seed, same text.")
@click.option(
    "--format", "form", type=click.Choice(["text", "jsonl"]), default="text", help="jsonl: with probabilities."
)
@click.option("--check-copies", is_flag=True, help="How much of it stands in the training text?")
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), default=256, help="Texts at once: 256.")
@_mixture_options
@click.pass_obj
def sample(current: Session, /, selectors: tuple[str, ...], **options: Any) -> None:
    """Let a model write: a run, or several as an ensemble.

    \b
    Texts are printed as they are written, and kept in a file of their own.
    Example: terry-cluster sample terry --unit sentence --count 100 --min-words 4
    """
    from terry.cluster.client.models import choose_runs
    from terry.cluster.client.reader import Reader
    from terry.jobs.sweeps.model_jobs import SampleAsked, TextFormat, WrittenUnit
    from terry.jobs.trained.members import find_members

    needs_workspace(current)
    reader = Reader(current.workspace)
    mixture, records = choose_runs(reader, selectors, options)
    unit = options["unit"]
    asked = SampleAsked(
        mixture=mixture,
        unit=WrittenUnit(unit) if unit else None,
        format=TextFormat("jsonl" if current.as_json else options["form"]),
        **{key: options[key] for key in _SAMPLE_KEYS},
    )
    _check_settings(asked)
    chosen = find_members(current.workspace, mixture)
    if options["job"]:
        _as_job(current, "sample", asked, records, chosen)
        return
    _sample_here(current, asked, chosen, _device(options["device"]), reader)


_SAMPLE_KEYS = (
    *("count", "min_words", "max_words", "seed_text", "temperature", "top_k", "top_p", "repetition_penalty"),
    *("random_seed", "check_copies", "batch_size"),
)


def _check_settings(asked: Any) -> None:
    """Before anything is read."""
    from terry.models.sampling_settings import SamplingSettings

    SamplingSettings(
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        repetition_penalty=asked.repetition_penalty,
    )


def _sample_here(current: Session, asked: Any, chosen: EnsembleMembers, device: str, reader: Reader) -> None:
    import msgspec

    from terry.cluster.client.models import samples_folder
    from terry.jobs.trained.writing import Writer, produce

    print_notice(chosen.describe())
    writer = Writer(chosen.ensemble(device), chosen.dataset(), asked)
    lines: list[str] = []

    def show(text: str) -> None:
        if current.as_json:
            lines.append(text)
        else:
            sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
            sys.stdout.flush()

    with _kept_in(samples_folder(reader, chosen)) as (folder, kept):
        path, summary = produce(chosen, writer, folder, show)
    if current.as_json:
        print_json(
            {**summary, "file": str(path) if kept else None, "samples": [msgspec.json.decode(line) for line in lines]}
        )
        return
    print_notice(summary["summary"])
    if "copies" in summary:
        print_notice(summary["copies"])
    print_notice(f"kept in {path}" if kept else "not kept: the workspace cannot be written here")


@contextmanager
def _kept_in(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Where texts are written, and whether they stay: not in a workspace that cannot be written, such as a copy."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if os.access(there, os.W_OK):
        yield folder, True
        return
    with tempfile.TemporaryDirectory() as passing:
        yield Path(passing), False


@click.command()
@selectors(required=True)
@click.option("--split", type=click.Choice(["valid", "test", "train"]), default="valid", help="Which text: valid.")
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    metavar="N",
    help="Read the text as so many streams: 1 predicts every token once, as papers count. Else as training validated.",
)
@_mixture_options
@click.pass_obj
def evaluate(current: Session, /, selectors: tuple[str, ...], **options: Any) -> None:
    """Measure perplexity: of runs, and of the ensemble of them.

    Example: terry-cluster evaluate terry --split test --streams 1
    """
    from terry.cluster.client.models import choose_runs
    from terry.cluster.client.reader import Reader
    from terry.jobs.sweeps.model_jobs import EvaluateAsked
    from terry.jobs.sweeps.spec import EvaluatedSplit
    from terry.jobs.trained.members import find_members

    needs_workspace(current)
    mixture, records = choose_runs(Reader(current.workspace), selectors, options)
    split, streams = EvaluatedSplit(options["split"]), options["streams"]
    chosen = find_members(current.workspace, mixture)
    if options["job"]:
        _as_job(current, "evaluate", EvaluateAsked(mixture=mixture, split=split, streams=streams), records, chosen)
        return
    from terry.jobs.trained.evaluation import evaluate as measure

    if not current.as_json:
        print_notice(chosen.describe())
    with _shown_progress(f"{chosen.mixture.name} on {split}") as progress:
        document = measure(chosen, split, _device(options["device"]), progress, streams=streams).document()
    if current.as_json:
        print_json(document)
    else:
        print_lines(_report_lines(document))


@contextmanager
def _shown_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while something is done, where that is a terminal; to be told (done, of how many)."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report_lines(document: dict[str, Any]) -> list[str]:
    """The tables for people."""
    from terry.logs.format import Column, count, table

    title = f"{document['split']} of {document['dataset']}, {count(document['tokens'])} tokens, {document['reading']}"
    members = [
        [row["member"], f"{row['loss']:.4f}", f"{row['perplexity']:.2f}", f"{row['weight']:.3f}"]
        for row in document["members"]
    ]
    columns = [Column(title="MEMBER"), *(Column(title=t, right=True) for t in ("LOSS", "PERPLEXITY", "WEIGHT"))]
    lines = [title, "", *table(columns, members)]
    if len(members) < 2:
        return lines
    first = [
        [f"{row['members']}", f"{row['loss']:.4f}", f"{row['perplexity']:.2f}", f"{row['gain']:+.1%}"]
        for row in document["first"]
    ]
    titles = ("MEMBERS", "LOSS", "PERPLEXITY", "GAIN")
    lines += ["", *table([Column(title=title, right=True) for title in titles], first), ""]
    mean, best = document["mean_member_perplexity"], document["perplexity"]
    lines.append(
        f"ensemble {document['ensemble']} ({document['average']} mean): perplexity {best:.2f}, "
        f"{document['gain']:.1%} below the mean of its members ({mean:.2f})"
    )
    return lines


def _device(given: str | None) -> str:
    """What torch is to use here."""
    import torch

    if given is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=given)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {given!r} cannot be used here: {reason}; `--device cpu` always can") from None
    return given


def _as_job(current: Session, kind: str, asked: Any, records: list[JobRecord], chosen: EnsembleMembers) -> None:
    """Hand it to the cluster, on a device like the members'."""
    from terry.cluster.client.models import submit_model_job

    job_id, starting = submit_model_job(current.workspace, kind, asked, records[0].job)
    if starting:
        print_notice("a controller is being started in the background")
    if current.as_json:
        print_json({"job": job_id, "run_dir": str(current.workspace.run(job_id).root)})
        return
    print_notice(chosen.describe())
    print_line(job_id)
    print_notice(f"`terry-cluster wait {job_id}` waits for it; its result is in {current.workspace.run(job_id).root}")
