"""Are the files there that a data set is made of? Looked at when a sweep is submitted, not hours later on a GPU."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from terry.cluster.config.yaml_file import Problem
from terry.cluster.errors import nearest
from terry.data_prep.config import DatasetConfig, Format
from terry.data_prep.encodings import open_unpacked
from terry.data_prep.errors import DataError
from terry.data_prep.sources import Source, find_sources

_HEADER_BYTES = 1 << 16
_PACKED = (b"\x1f\x8b", b"BZ", b"\xfd7")  #: first bytes of gzip, bzip2, xz


def check(config: DatasetConfig, base: Path, place: tuple[str, ...]) -> None:
    """Raise Problem where a file does not exist, cannot be read, or has no such column. Reads headers only."""
    try:
        sources = find_sources(config, base)
    except DataError as error:
        raise Problem(str(error), (*place, error.key or "source")) from None
    for source in sources:
        try:
            with source.path.open("rb") as stream:
                head = stream.read(_HEADER_BYTES if config.column is not None else 1)
        except OSError as error:
            raise Problem(f"{source.path} cannot be read: {error.strerror}", (*place, "source")) from None
        _check_column(config, source, head, place)
    if config.embeddings is not None:
        try:
            vector_size(config, base)
        except OSError as error:
            raise Problem(f"{error.filename} cannot be read: {error.strerror}", (*place, "embeddings")) from None


def vector_size(config: DatasetConfig, base: Path) -> int | None:
    """Numbers in a vector of `embeddings`, by the file's first line; None where it does not tell. Raises OSError."""
    if config.embeddings is None:
        return None
    path = base / Path(config.embeddings).expanduser()
    with path.open("rb"):  # so that what is not there is told apart from what is packed badly
        pass
    try:
        with open_unpacked(path) as (file, _):
            head = file.readline(_HEADER_BYTES).split()
    except (DataError, OSError, EOFError):
        return None  # preparing the data says more
    if len(head) == 2 and all(part.isdigit() for part in head):
        return int(head[1])  # word2vec: how many, how long
    return len(head) - 1 if len(head) > 2 else None


def _check_column(config: DatasetConfig, source: Source, head: bytes, place: tuple[str, ...]) -> None:
    """Where the first line is easily read as the names of a table's columns: is the column there?"""
    tables = {Format.csv: config.delimiter, Format.tsv: "\t"}
    if source.format not in tables or not config.header or config.column is None or config.column.isdecimal():
        return
    names = _names(config, head, tables[source.format])
    if names is not None and config.column not in names:
        raise Problem(
            f"{source.path} has no column {config.column!r}{nearest(config.column, names)}", (*place, "column")
        )


def _names(config: DatasetConfig, head: bytes, delimiter: str | None) -> list[str] | None:
    """Names in the first line; None where it cannot be told here: preparing the data reads it with more care."""
    if head[:2] in _PACKED or (b"\0" in head and config.encoding is None):
        return None
    text = head.decode(config.encoding or "utf-8-sig", errors="replace")
    text = text.removeprefix("\ufeff")
    first = text.lstrip("\r\n").splitlines()[:1]
    if not first:
        return None
    quote = config.quote if config.quote and config.quote != "none" else '"'
    if first[0].count(quote) % 2:
        return None  # a name with a line break in it
    sign = delimiter or max(",;\t|", key=first[0].count)
    row = next(csv.reader(io.StringIO(text, newline=""), delimiter=sign, quotechar=quote), [])
    return [name.strip() for name in row]
