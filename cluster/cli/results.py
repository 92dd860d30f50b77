"""The verbs about what came out: `results`, `compare`, `plot`."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import (
    Session,
    coloured,
    completed,
    needs_workspace,
    note,
    paint,
    print_json,
    print_lines,
    say,
    selectors,
    width,
)
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from terry.cluster.client.reader import Reader
    from terry.cluster.core.model import JobRecord
    from terry.cluster.files.paths import Run
    from terry.logs.plots import Curve
    from terry.logs.records.results import ResultRow
    from terry.logs.text.compare import Compared

#: More curves than this are no picture.
_CURVES = 200


class Format(StrEnum):
    """How a table of results is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@click.command()
@selectors(required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice([str(f) for f in Format]),
    help="How it is written; none: by the file's ending, else a table.",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write into a file.")
@click.pass_obj
def results(current: Session, selectors: tuple[str, ...], *, form: str | None, output: Path | None) -> None:
    """Show what finished runs found out, the best first.

    Example: terry-cluster results cells -o cells.csv
    """
    from terry.cluster.client.reader import Reader
    from terry.logs.records.results import best_first

    needs_workspace(current)
    reader = Reader(current.workspace)
    _check_folder(output)
    rows = best_first(result_rows(reader, selectors))
    chosen = _format(form, output, as_json=current.as_json)
    if chosen is Format.PARQUET:
        _write_parquet([row.flat() for row in rows], output)
    elif output is not None:
        from terry.cluster.files.durable import write_bytes

        write_bytes(output.absolute(), _text(rows, chosen).encode(), 0o644)
    else:
        sys.stdout.write(_text(rows, chosen))
    if output is not None:
        note(f"wrote {output}")
    if not rows:
        note("no run has finished yet; `terry-cluster status` shows how they stand")


def _format(form: str | None, output: Path | None, *, as_json: bool) -> Format:
    """What was asked for; where nothing was, what the file's ending means."""
    if as_json or form is not None or output is None:
        return Format.JSON if as_json else Format(form or Format.TABLE)
    ending = output.suffix.lower().removeprefix(".")
    if ending in {"", "txt"}:
        return Format.TABLE
    if ending not in set(Format) - {Format.TABLE}:
        raise UserError(f"{output} must end with .csv, .json, .parquet or .txt; or say `--format`")
    return Format(ending)


def _check_folder(output: Path | None) -> None:
    if output is not None and not output.absolute().parent.is_dir():
        raise UserError(f"there is no folder {output.absolute().parent}")


def result_rows(reader: Reader, selectors: Sequence[str]) -> list[ResultRow]:
    """A row for each final run; jobs that prepare data are none."""
    from terry.logs.records.results import read_result, result_row

    records = [r for r in reader.select(selectors) if r.state.is_final and r.job.kind != "prepare"]
    return [result_row(record, read_result(reader.workspace.run(record.job.id))) for record in records]


def _text(rows: list[ResultRow], form: Format) -> str:
    from terry.logs.records.results import result_lines

    if form is Format.TABLE:
        return "".join(f"{line}\n" for line in result_lines(rows, width=width()))
    flat = [row.flat() for row in rows]
    if form is Format.JSON:
        import msgspec

        return msgspec.json.format(msgspec.json.encode(flat), indent=2).decode() + "\n"
    return _csv(flat)


def _csv(rows: list[dict[str, Any]]) -> str:
    import csv
    import io

    from terry.logs.records.results import columns_of

    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _write_parquet(rows: list[dict[str, Any]], output: Path | None) -> None:
    """A Parquet file; to standard output only where that is no terminal."""
    if output is None and sys.stdout.isatty():
        raise UserError("Parquet is not for a terminal: give `-o FILE`, or send the output to a file")
    import io

    import polars as pl

    from terry.cluster.files.durable import write_bytes
    from terry.logs.records.results import columns_of

    frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in columns_of(rows)}, strict=False)
    stream = io.BytesIO()
    frame.write_parquet(stream)
    if output is None:
        sys.stdout.buffer.write(stream.getvalue())
    else:
        write_bytes(output.absolute(), stream.getvalue(), 0o644)


@click.command()
@selectors(required=True)
@click.pass_obj
def compare(current: Session, selectors: tuple[str, ...]) -> None:
    """Set runs side by side: where they differ, what came of it.

    The settings (and the code, data and versions) in which they differ, and the figures of each; `*` marks the lowest.

    Example: terry-cluster compare cells-0001 cells-0004
    """
    from terry.cluster.client.reader import Reader
    from terry.logs.text.compare import compare as set_side_by_side
    from terry.logs.text.compare import compare_lines

    needs_workspace(current)
    reader = Reader(current.workspace)
    records = [r for r in reader.select(selectors) if r.job.kind not in _NO_RUNS]
    if len(records) < 2:
        few = records[0].job.id if records else "no run"
        raise UserError(f"that means {few}, which is not enough to compare: name two or more runs, or a whole sweep")
    found = set_side_by_side([_compared(reader, record) for record in records])
    if current.as_json:
        print_json(found)
    else:
        print_lines(compare_lines(found, width=width()))


#: Kinds of jobs that are no runs.
_NO_RUNS = frozenset({"prepare", "evaluate"})


def _compared(reader: Reader, record: JobRecord) -> Compared:
    """What a run was made of, and what came of it: so far, where it has not ended."""
    from terry.jobs.sweeps.typed import flatten
    from terry.logs.records.results import read_outcome, read_result, result_row
    from terry.logs.text.compare import Compared

    run = reader.workspace.run(record.job.id)
    result = read_result(run)
    if not result and record.attempts:
        seen = read_outcome(run, record)
        result = {"step": seen.step, "epoch": seen.epoch, "loss": seen.loss, "valid_loss": seen.valid_loss}
    config = _config(reader, record)
    return Compared(row=result_row(record, result), settings=flatten(config), made_of=_made_of(run))


def _config(reader: Reader, record: JobRecord) -> dict[str, Any]:
    """The run's configuration, from the submission's line."""
    import msgspec

    from terry.jobs.submitting.records import JobLine

    spec, path = record.job.spec, reader.workspace.root / record.job.spec.path
    with path.open("rb") as stream:
        stream.seek(spec.offset)
        line = stream.read(spec.length)
    try:
        return msgspec.json.decode(line, type=JobLine).config
    except msgspec.MsgspecError as error:
        raise UserError(f"the line of {record.job.id} cannot be read: {error}", file=path) from None


def _made_of(run: Run) -> dict[str, Any]:
    """Hashes of code and data and versions of packages, from spec.yaml; empty where the run has not begun."""
    import yaml

    try:
        content = yaml.load(run.spec.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise UserError(f"cannot be read: {error}", file=run.spec) from None
    if not isinstance(content, dict):
        raise UserError("cannot be read: it is no mapping", file=run.spec)
    hashes = {f"code of {name}": value for name, value in content.get("hashes", {}).items() if name != "identity"}
    data = {f"data {name}": value.get("folder") for name, value in content.get("inputs", {}).items()}
    return hashes | data | {f"version of {name}": value for name, value in content.get("versions", {}).items()}


@click.command()
@selectors(required=True)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="PNG or SVG; none: in the terminal."
)
@click.option(
    "--by", metavar="SETTING", shell_complete=completed("labels"), help="One colour for each value of a setting."
)
@click.option(
    "--smooth", "smoothing", metavar="WEIGHT", type=click.FloatRange(0.0, 0.99), default=0.0, help="0 to 0.99."
)
@click.pass_obj
def plot(
    current: Session, selectors: tuple[str, ...], *, output: Path | None, by: str | None, smoothing: float
) -> None:
    """Draw loss curves: in the terminal, as PNG or SVG.

    Example: terry-cluster plot cells --by model.cell --smooth 0.9 -o cells.svg
    """
    from terry.cluster.client.reader import Reader
    from terry.logs.plots import draw

    needs_workspace(current)
    reader = Reader(current.workspace)
    records = [r for r in reader.select(selectors) if r.job.kind != "prepare"]
    curves = _curves(reader, records)
    groups = _groups(reader, records, by)
    if output is None:
        _draw_in_terminal(curves, groups, smoothing, as_json=current.as_json)
        return
    if output.suffix.lower() not in {".png", ".svg"}:
        raise UserError(f"{output} must end with .png or .svg")
    _check_folder(output)
    draw(curves, output.absolute(), title=" ".join(selectors), smoothing=smoothing, group_of=groups)
    if current.as_json:
        print_json({"file": str(output.absolute()), "runs": [curve.name for curve in curves]})
    else:
        say(f"wrote {output}")


def _curves(reader: Reader, records: Sequence[JobRecord]) -> list[Curve]:
    from terry.logs.plots import read_curve

    if len(records) > _CURVES:
        raise UserError(f"{len(records):,} curves are too many for one picture; select {_CURVES} at most")
    curves = [read_curve(reader.workspace.run(r.job.id), r.job.id, r.first_attempt) for r in records]
    found = [curve for curve in curves if curve.steps]
    if not found:
        raise UserError("none of these runs has measured a loss yet")
    return found


def _groups(reader: Reader, records: Sequence[JobRecord], by: str | None) -> dict[str, str]:
    """Curve name -> the value of the setting that colours them; `by` is its short name, or as a sweep file has it."""
    if by is None:
        return {}
    known = list(dict.fromkeys(key for record in records for key in record.job.labels))
    if by in known:
        return {record.job.id: f"{by}={record.job.labels.get(by, '-')}" for record in records}
    from terry.jobs.sweeps.typed import flatten

    settings = {record.job.id: flatten(_config(reader, record)) for record in records}
    if not any(by in of_run for of_run in settings.values()):
        raise UserError(f"these runs have no setting {by!r}; they differ in: {', '.join(known) or 'nothing'}")
    return {job_id: f"{by}={of_run.get(by, '-')}" for job_id, of_run in settings.items()}


def _draw_in_terminal(curves: Sequence[Curve], groups: dict[str, str], smoothing: float, *, as_json: bool) -> None:
    from terry.logs.text.plot import plot_lines

    if as_json:
        print_json(curves)
        return
    painter = partial(paint, on=True) if coloured() else None
    print_lines(plot_lines(curves, groups, smoothing, min(width() or 100, 120), painter))
