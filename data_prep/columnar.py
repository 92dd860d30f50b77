"""Parquet and Arrow files as a stream of blocks, a story a row: what data sets of the Hugging Face hub are kept in.

Parquet and Arrow files are read some thousand rows at a time. An Arrow stream, which the `datasets` library writes in
shards of at most 500 MB, has no table of contents: it is read whole, a file at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from terry.data_prep.blocks import COLUMNS, Block, ReadReport, bad_row
from terry.data_prep.config import DatasetConfig, Format
from terry.data_prep.errors import DataError
from terry.data_prep.json_lines import value_at
from terry.data_prep.sources import Source

_ROWS: Final = 1 << 14
_TEXT: Final = (pl.String, pl.Categorical, pl.Enum)
_NESTED: Final = (pl.Struct, pl.List, pl.Array)
_FILE: Final = b"ARROW1"


def read_columnar(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    """The text in one column, or at a path such as `data.body` inside one. Empty cells are passed over."""
    report.layout = source.format.value
    try:
        yield from _read(source, config, report)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{source.path} cannot be read as {source.format.value}: {str(error).splitlines()[0]}"
        ) from None


def _read(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    table = _table(source)
    schema = table.collect_schema()
    path, column = _place(dict(schema), config, report)
    report.column = path
    rows = table.select(pl.len()).collect().item()
    for begin in range(0, rows, _ROWS):
        cells = table.select(pl.col(column)).slice(begin, _ROWS).collect().to_series()
        values = cells.cast(pl.String).to_list() if cells.dtype in _TEXT else _inside(cells, path)
        for number, text in enumerate(values, begin + 1):
            report.rows += 1
            if isinstance(text, str):
                yield Block(text, True)
            elif text is not None:
                bad_row(report, config, number, f"no text under {path!r}")
        report.bytes_read = source.bytes * min(begin + _ROWS, rows) // rows


def _inside(cells: pl.Series, path: str) -> list[Any]:
    return [None if cell is None else value_at({cells.name: cell}, path) for cell in cells.to_list()]


def _table(source: Source) -> pl.LazyFrame:
    if source.format is Format.parquet:
        return pl.scan_parquet(source.path, glob=False)
    with source.path.open("rb") as file:
        whole = file.read(len(_FILE)) == _FILE
    return pl.scan_ipc(source.path) if whole else pl.read_ipc_stream(source.path).lazy()


def _place(schema: dict[str, pl.DataType], config: DatasetConfig, report: ReadReport) -> tuple[str, str]:
    """The path of the text and the column that it is in. Raises DataError where there is none."""
    wanted = config.column or next((name for name in COLUMNS if schema.get(name) in _TEXT), None)
    if wanted is None:
        texts = [name for name, kind in schema.items() if kind in _TEXT]
        wanted = texts[0] if len(texts) == 1 else None
    column = wanted if wanted in schema else (wanted or "").split(".")[0]
    if wanted is None or column not in schema:
        there = ", ".join(f"{name!r} ({kind})" for name, kind in schema.items())
        asked = "say which `column` holds the text" if wanted is None else f"has no column {wanted!r}"
        raise DataError(f"{report.path}: {asked}; there are {there}", "column")
    kind = schema[column]
    if kind not in _TEXT and not (isinstance(kind, _NESTED) and wanted != column):
        raise DataError(f"{report.path}: the column {column!r} holds no text, but {kind}", "column")
    return wanted, column
