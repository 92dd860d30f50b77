"""What a CSV file looks like, when nobody says: its delimiter and its quotation character."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Final

from terry.data_prep.config import DatasetConfig, Format
from terry.data_prep.encodings import head_of

_SAMPLE: Final = 1 << 16
_DELIMITERS: Final = ",\t;|"


def find_dialect(path: Path, layout: Format, encoding: str, config: DatasetConfig) -> tuple[str, str | None]:
    """Delimiter and quotation character (None: quotes mean nothing) of a file, those that `config` gives first."""
    sample = head_of(path, encoding, _SAMPLE)
    quote = None if config.quote == "none" else config.quote or _find_quote(sample)
    if config.delimiter is not None:
        return config.delimiter, quote
    return ("\t" if layout is Format.tsv else _find_delimiter(sample, quote)), quote


def _find_quote(sample: str) -> str:
    """Single quotation marks only where fields begin and end with them and none do with double ones."""
    edges = Counter(sample[i - 1 : i + 1] for i in range(1, len(sample)) if sample[i - 1] in "\r\n" + _DELIMITERS)
    single, double = (sum(n for edge, n in edges.items() if edge[1] == mark) for mark in ("'", '"'))
    closing = sum(sample.count(f"'{edge}") for edge in "\n\r" + _DELIMITERS)
    return "'" if single > 1 and not double and closing >= single else '"'


def _find_delimiter(sample: str, quote: str | None) -> str:
    """The candidate that splits the first row and then most rows into as many fields; a comma if none does."""
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        rows = _rows(sample, delimiter, quote)
        if not rows or len(rows[0]) < 2:
            continue
        width = len(rows[0])
        score = sum(len(row) == width for row in rows) / len(rows)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _rows(sample: str, delimiter: str, quote: str | None) -> list[list[str]]:
    reader = csv.reader(
        io.StringIO(sample, newline=""),
        delimiter=delimiter,
        quotechar=quote,
        quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
    )
    rows: list[list[str]] = []
    try:
        rows.extend(row for row in reader if row)
    except csv.Error:
        return rows  # the sample ends inside a very long field
    return rows[:-1] if len(rows) > 2 else rows  # the sample may have cut the last row
