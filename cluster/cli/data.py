"""The verbs before training: `check`, `prepare`, `datasets`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import (
    ExitCode,
    Session,
    completed,
    needs_workspace,
    print_json,
    print_lines,
    print_notice,
)
from terry.cluster.errors import UserError
from terry.cluster.files.paths import check_name

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar
    from rich.progress import TaskID

    from terry.data_prep.config import DatasetConfig
    from terry.data_prep.manifest import DatasetManifest
    from terry.data_prep.prepare import Prepared, PrepareProgress
    from terry.jobs.sweeps.sweep import PlannedRun, Sweep
    from terry.models.overfit import OverfitReport


@click.command()
@click.argument(
    "files",
    metavar="FILE... [DATASET | KEY=VALUE]...",
    nargs=-1,
    required=True,
    shell_complete=completed("files_and_datasets"),
)
@click.option("--name", metavar="NAME", help="What to call the data set (of text files; else their first one's name).")
@click.pass_obj
def prepare(current: Session, files: tuple[str, ...], *, name: str | None) -> int:
    """Prepare data sets now, and show what is in them.

    Of a sweep file: all, or those that are named; its runs find them ready. Or of text files with the settings that an
    entry of `datasets:` has.

    Example: terry-cluster prepare sweep.yaml comments

    Example: terry-cluster prepare comments.csv column=body unit=sentence vocabulary_size=8000
    """
    from terry.cluster.client.setup import make_workspace

    wanted = _of_sweep(files) if files[0].endswith((".yaml", ".yml")) else _of_texts(files, name)
    make_workspace(current.workspace)
    documents = []
    for each in wanted:
        try:
            prepared = _build(each, current.workspace.datasets)
        except KeyboardInterrupt:
            print_notice(f"interrupted: nothing of {each.name} is kept")
            return ExitCode.INTERRUPTED
        documents.append(_prepared_document(prepared))
        if not current.as_json:
            _show(prepared)
    if current.as_json:
        print_json(documents)
    return ExitCode.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """One data set to prepare."""

    name: str
    config: DatasetConfig
    base: Path  #: folder that its sources are relative to
    others: dict[str, DatasetConfig]  #: that it may take its vocabulary from


def _build(wanted: _Wanted, root: Path) -> Prepared:
    from terry.data_prep.prepare import prepare as build

    with _Bar(wanted.name) as bar:
        return build(wanted.config, root, name=wanted.name, base=wanted.base, progress=bar, others=wanted.others)


def _of_sweep(files: tuple[str, ...]) -> list[_Wanted]:
    from terry.jobs.sweeps.sweep import load

    file = Path(files[0])
    sweep = load(file)
    chosen = list(files[1:]) or list(sweep.datasets)
    _check_names(chosen, sweep, file)
    base = file.resolve().parent
    return [_Wanted(name=n, config=sweep.datasets[n], base=base, others=sweep.datasets) for n in chosen]


def _of_texts(given: tuple[str, ...], name: str | None) -> list[_Wanted]:
    from terry.jobs.sweeps.datasets import from_files, name_of

    files = [text for text in given if "=" not in text or Path(text).exists()]
    settings = [text for text in given if text not in files]
    if not files:
        raise UserError("no file is given; the files come first, then KEY=VALUE settings")
    config = from_files(files, settings, Path.cwd())
    name = check_name(name, "the data set name") if name else name_of(files)
    return [_Wanted(name=name, config=config, base=Path.cwd(), others={name: config})]


def _check_names(chosen: list[str], sweep: Sweep, file: Path) -> None:
    for name in chosen:
        if name not in sweep.datasets:
            known = ", ".join(sweep.datasets) or "none"
            raise UserError(f"there is no data set {name!r} in it; there are: {known}", file=file)
    if not chosen:
        raise UserError("it describes no data set: `datasets:` is missing or empty", file=file)


class _Bar:
    """A progress bar on a terminal; elsewhere each phase is said once. On standard error."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._phase = ""
        self._bar: ProgressBar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as ProgressBar

            self._bar = ProgressBar(console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: PrepareProgress) -> None:
        if progress.phase != self._phase:
            self._phase = progress.phase
            if self._bar is None:
                print_notice(f"{self._name}: {self._phase}")
            else:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(f"{self._name}: {self._phase}", total=None)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress.done, total=progress.total or None)


def _prepared_document(prepared: Prepared) -> dict[str, Any]:
    return {"folder": str(prepared.path), "built": prepared.built, "report": prepared.report}


def _show(prepared: Prepared) -> None:
    from rich.console import Console

    from terry.data_prep.report import render_report

    Console().print(render_report(prepared.report))
    found = "now" if prepared.built else "earlier from the same files and settings; nothing was done"
    print_lines([f"Made {found}: {prepared.path}"])


@click.command()
@click.pass_obj
def datasets(current: Session) -> None:
    """List the prepared data sets of the workspace.

    Example: terry-cluster datasets --json
    """
    from terry.logs.format import Column, count, short, size, table

    needs_workspace(current)
    found = list(_manifests(current))
    if current.as_json:
        print_json([{"folder": str(folder), **_manifest_document(manifest)} for folder, manifest in found])
        return
    titles = ["DATA SET", "UNIT", "VOCABULARY", "COVERAGE", "EXAMPLES", "TOKENS", "SIZE"]
    rows = [
        [
            folder.name,
            f"{manifest.unit.name}, {manifest.level.name}",
            count(manifest.vocabulary_size),
            f"{manifest.coverage:.1%}",
            count(sum(split.examples for split in manifest.splits.values())),
            short(sum(split.tokens for split in manifest.splits.values())),
            size(sum(file.bytes for file in manifest.files.values())),
        ]
        for folder, manifest in found
    ]
    columns = [Column(title=title, right=number > 1) for number, title in enumerate(titles)]
    print_lines(table(columns, rows) or ["no data set was prepared yet; `terry-cluster prepare FILE` does"])


def _manifests(current: Session) -> list[tuple[Path, DatasetManifest]]:
    """Folder and manifest of each whole data set; what is wrong with the others is said."""
    from terry.data_prep.errors import DataError
    from terry.data_prep.manifest import dataset_folders, read_manifest

    found = []
    for folder in dataset_folders(current.workspace.datasets):
        try:
            found.append((folder, read_manifest(folder)))
        except DataError as error:
            print_notice(f"left out: {error}")
    return found


def _manifest_document(manifest: DatasetManifest) -> dict[str, Any]:
    import msgspec

    keep = ("name", "hash", "unit", "level", "vocabulary_size", "coverage", "splits", "sources", "licence")
    values = msgspec.to_builtins(manifest)
    return {key: values[key] for key in keep}


@click.command()
@click.argument("file", metavar="SWEEP", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1, shell_complete=completed("settings"))
@click.option(
    "--seconds", metavar="S", type=click.FloatRange(min=0.1), default=10.0, help="For each configuration: 10."
)
@click.pass_obj
def check(current: Session, file: Path, overrides: tuple[str, ...], *, seconds: float) -> int:
    """Can each model learn? Before days are spent.

    Learns a few random examples by heart with each model and optimizer of a sweep file, here and now: a gradient
    check. Exit code 1 if one of them cannot.

    Example: terry-cluster check sweep.yaml
    """
    from terry.jobs.sweeps.spec import TRAIN
    from terry.jobs.sweeps.sweep import load

    runs = [run for run in load(file, overrides).runs if run.typed.main == TRAIN]
    if not runs:
        raise UserError("no run of it trains one of our models: there is nothing to check", file=file)
    findings = _check_all(runs, seconds, quiet=current.as_json)
    if current.as_json:
        print_json([{"settings": name, "ok": report.ok, **_plain(report)} for name, report in findings])
    return ExitCode.DONE if all(report.ok for _, report in findings) else ExitCode.FAILED


def _check_all(runs: list[PlannedRun], seconds: float, *, quiet: bool) -> list[tuple[str, OverfitReport]]:
    """A report for each distinct pair of model and optimizer, printed as it comes."""
    from terry.jobs.sweeps.labels import labels
    from terry.models.overfit import overfit

    shown = labels([run.config for run in runs], list(dict.fromkeys(key for run in runs for key in run.varied)))
    distinct: dict[str, tuple[str, PlannedRun]] = {}
    for run, label in zip(runs, shown, strict=True):
        name = " ".join(f"{key}={value}" for key, value in label.items()) or "the run"
        distinct.setdefault(repr((run.config["model"], run.config["optimizer"])), (name, run))
    findings = []
    for name, run in distinct.values():
        report = overfit(run.typed.model, run.typed.optimizer, seconds=seconds)
        findings.append((name, report))
        if not quiet:
            print_lines([f"{'ok ' if report.ok else 'BAD'}  {name}: {report.describe()}"])
    return findings


def _plain(report: OverfitReport) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report)
