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
    harmless,
    json_text,
    needs_workspace,
    paint,
    print_json,
    print_line,
    print_lines,
    print_notice,
    selectors,
    width,
)
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from terry.logs.records.curves import Curve
    from terry.logs.records.results import ResultRow
    from terry.logs.statistics.seeds import Ranked


class TableFormat(StrEnum):
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
    type=click.Choice([str(f) for f in TableFormat]),
    help="How it is written; none: by the file's ending, else a table.",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write into a file.")
@click.option(
    "--each/--seeds",
    default=None,
    help="A row for each run, or one for runs that differ in their seed alone. None: the table has seeds together.",
)
@click.option("--by", "figure", metavar="FIGURE", help="With seeds together: what is averaged; none: the best loss.")
@click.option("--highest", is_flag=True, help="With --by: more is better.")
@click.option("--bootstrap", metavar="SEED", type=int, help="Intervals by the bootstrap instead of Student's.")
@click.option("--importance", is_flag=True, help="Of a search: how much each setting explains of its trials' figures.")
@click.pass_obj
def results(
    current: Session,
    selectors: tuple[str, ...],
    *,
    form: str | None,
    output: Path | None,
    each: bool | None,
    figure: str | None,
    highest: bool,
    bootstrap: int | None,
    importance: bool,
) -> None:
    """Show what finished runs found out, the best first.

    Runs that differ in their seed alone are one row of the table: mean, 95% interval, spread. A file (or --json) has a
    row for each run unless --seeds is given.

    Example: terry-cluster results cells -o cells.csv
    """
    from terry.cluster.client.reader import Reader
    from terry.cluster.client.results import NO_RUNS, ranking, result_rows
    from terry.logs.records.results import best_first
    from terry.logs.statistics.seeds import by_configuration, has_seeds

    needs_workspace(current)
    _check_folder(output)
    if importance:
        if form or output or each is not None or figure or highest or bootstrap is not None:
            raise UserError("--importance is a table of its own: of the other options only --json goes with it")
        _importance(current, selectors)
        return
    rows = best_first(result_rows(Reader(current.workspace), selectors))
    chosen = _format(form, output, as_json=current.as_json)
    asked = figure is not None or highest or bootstrap is not None
    if asked and each:
        raise UserError("--by, --highest and --bootstrap are about seeds together; they do nothing with --each")
    runs = [row for row in rows if row.kind not in NO_RUNS]
    together = (
        each is False or asked or (each is None and chosen is TableFormat.TABLE and has_seeds(by_configuration(runs)))
    )
    if together and runs:
        ranked, name = ranking(runs, figure, lower_is_better=not highest, bootstrap_seed=bootstrap)
        others = [row for row in rows if row.kind in NO_RUNS]
        flat = [one.flat(name) for one in ranked]
        _write(flat, lambda width: ranking_text(ranked, name, others, width), chosen, output)
    else:
        _write([row.flat() for row in rows], lambda width: each_text(rows, width), chosen, output)
    if output is not None:
        print_notice(f"wrote {output}")
    if not rows:
        print_notice("no run has finished yet; `terry-cluster status` shows how they stand")


def _importance(current: Session, sweeps: tuple[str, ...]) -> None:
    """`--importance`."""
    from terry.cluster.client.reader import Reader
    from terry.cluster.client.searching import importance_rows
    from terry.logs.format import Column, table

    if len(sweeps) != 1:
        raise UserError("--importance is about one search: name its sweep")
    rows = importance_rows(Reader(current.workspace), sweeps[0])
    if current.as_json:
        print_json(rows)
        return
    several = len({row["study"] for row in rows}) > 1
    titles = ([Column(title="STUDY")] if several else []) + [Column(title="SETTING"), Column(title="SHARE", right=True)]
    cells = [[*([row["study"]] if several else []), row["setting"], f"{row['share']:.0%}"] for row in rows]
    print_lines(table(titles, cells, width=width()))
    print_notice(f"of what {rows[0]['objective']} varies in {rows[0]['trials']} trials, by PED-ANOVA (Optuna)")


def ranking_text(ranked: Sequence[Ranked], name: str, others: Sequence[ResultRow], width: int | None) -> list[str]:
    """The table of configurations, and below it what was no training: ensembles and other evaluations."""
    from terry.logs.text.seeds import ranking_lines

    below = ["", *each_text(others, width)] if others else []
    return [*ranking_lines(ranked, name, width=width), *below]


def each_text(rows: Sequence[ResultRow], width: int | None) -> list[str]:
    """The table of runs."""
    from terry.logs.records.results import result_lines

    return result_lines(rows, width=width)


def _write(
    flat: list[dict[str, Any]], lines: Callable[[int | None], list[str]], form: TableFormat, output: Path | None
) -> None:
    """Write rows in a format, into a file or to standard output."""
    if form is TableFormat.PARQUET:
        _write_parquet(flat, output)
        return
    text = "".join(f"{line}\n" for line in lines(width())) if form is TableFormat.TABLE else _text(flat, form)
    if output is None:
        sys.stdout.write(harmless(text) if form is TableFormat.TABLE or sys.stdout.isatty() else text)
        return
    from terry.cluster.files.durable import write_bytes

    write_bytes(output.absolute(), text.encode(), 0o644)


def _format(form: str | None, output: Path | None, *, as_json: bool) -> TableFormat:
    """What was asked for; where nothing was, what the file's ending means."""
    if as_json or form is not None or output is None:
        return TableFormat.JSON if as_json else TableFormat(form or TableFormat.TABLE)
    ending = output.suffix.lower().removeprefix(".")
    if ending in {"", "txt"}:
        return TableFormat.TABLE
    if ending not in set(TableFormat) - {TableFormat.TABLE}:
        raise UserError(f"{output} must end with .csv, .json, .parquet or .txt; or say `--format`")
    return TableFormat(ending)


def _check_folder(output: Path | None) -> None:
    if output is not None and not output.absolute().parent.is_dir():
        raise UserError(f"there is no folder {output.absolute().parent}")


def _text(flat: list[dict[str, Any]], form: TableFormat) -> str:
    if form is TableFormat.JSON:
        return json_text(flat)
    return _csv(flat)


def _csv(rows: list[dict[str, Any]]) -> str:
    import csv
    import io

    from terry.logs.records.results import columns_of

    columns = columns_of(rows)

    def line(values: Iterable[Any]) -> str:
        # Each by itself, for csv quotes a carriage return only where one is part of what ends a line (Python 3.11).
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\r\n").writerow([_cell(value) for value in values])
        return stream.getvalue().removesuffix("\r\n") + "\n"

    return line(columns) + "".join(line(row.get(name, "") for name in columns) for row in rows)


#: Text that begins so is a formula to a spreadsheet (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _cell(value: Any) -> Any:
    """A value as CSV has it: text that a spreadsheet would calculate gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


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
@click.option("--each", is_flag=True, help="Runs side by side, also those that differ in their seed alone.")
@click.option("--by", "figure", metavar="FIGURE", help="With seeds together: what is compared; none: the best loss.")
@click.pass_obj
def compare(current: Session, selectors: tuple[str, ...], *, each: bool, figure: str | None) -> None:
    """Set runs side by side: where they differ, what came of it.

    Runs: the settings (and the code, data and versions) in which they differ, and the figures of each; `*` marks the
    lowest. Configurations with several seeds: by how much each differs from the first, how surely, and how many seeds
    more would decide.

    Example: terry-cluster compare cells-0001 cells-0004
    """
    from terry.cluster.client.reader import Reader
    from terry.cluster.client.results import compared, seeds_compared
    from terry.logs.text.compare import compare as set_side_by_side
    from terry.logs.text.compare import compare_lines
    from terry.logs.text.seeds import difference_lines

    needs_workspace(current)
    reader = Reader(current.workspace)
    if not each and (seeds := seeds_compared(reader, selectors, figure)) is not None:
        first, differences, name = seeds
        if current.as_json:
            print_json({"figure": name, "first": first, "differences": differences})
        else:
            print_lines([f"first: {first}", "", *difference_lines(differences, name, width=width())])
        return
    if figure is not None:
        raise UserError("--by is about configurations with several seeds; none of these has two or more")
    found = set_side_by_side(compared(reader, selectors))
    if current.as_json:
        print_json(found)
    else:
        print_lines(compare_lines(found, width=width()))


@click.command()
@selectors(required=True)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="PNG, SVG or PDF; none: in the terminal."
)
@click.option(
    "--by", metavar="SETTING", shell_complete=completed("labels"), help="One colour for each value of a setting."
)
@click.option("--each", is_flag=True, help="A line for each run, also for those that differ in their seed alone.")
@click.option(
    "--smooth", "smoothing", metavar="WEIGHT", type=click.FloatRange(0.0, 0.99), default=0.0, help="0 to 0.99."
)
@click.pass_obj
def plot(
    current: Session, selectors: tuple[str, ...], *, output: Path | None, by: str | None, each: bool, smoothing: float
) -> None:
    """Draw loss curves: in the terminal, as PNG, SVG or PDF.

    Runs that differ in their seed alone are drawn as their mean, in the band of its 95% interval.

    Example: terry-cluster plot cells --by model.cell --smooth 0.9 -o cells.svg
    """
    from terry.cluster.client import results as read
    from terry.cluster.client.reader import Reader
    from terry.logs.plots import draw

    needs_workspace(current)
    reader = Reader(current.workspace)
    records = [r for r in reader.select_jobs(selectors) if r.job.kind != "prepare"]
    curves = read.curves(reader, records)
    measured = {curve.name for curve in curves}
    together = {} if each or by else read.seed_groups([r for r in records if r.job.id in measured])
    groups = together or read.groups(reader, records, by)
    if output is None:
        _draw_in_terminal(curves, groups, smoothing, seeds=bool(together), as_json=current.as_json)
        return
    if output.suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise UserError(f"{output} must end with .png, .svg or .pdf")
    _check_folder(output)
    draw(
        curves, output.absolute(), title=" ".join(selectors), smoothing=smoothing, group_of=groups, seeds=bool(together)
    )
    if current.as_json:
        print_json({"file": str(output.absolute()), "runs": [curve.name for curve in curves]})
    else:
        print_line(f"wrote {output}")


def _draw_in_terminal(
    curves: Sequence[Curve], groups: dict[str, str], smoothing: float, *, seeds: bool, as_json: bool
) -> None:
    from terry.logs.text.plot import band_lines, plot_lines

    if as_json:
        print_json(curves)
        return
    painter = partial(paint, on=True) if coloured() else None
    draw = band_lines if seeds else plot_lines
    print_lines(draw(curves, groups, smoothing, min(width() or 100, 120), painter))
