"""Readers: any source file as a stream of blocks of text, in bounded memory.

CSV is read by the standard library's csv module in strict mode. It is the engine that streams, keeps line numbers, and
says what is wrong with a row; at 170 MB/s it takes less than a tenth of the whole time.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from terry.data_prep.config import DatasetConfig, Format, Paragraphs, Ragged, Splitter
from terry.data_prep.dialect import find_dialect
from terry.data_prep.encodings import detect, open_text, replaced_bytes
from terry.data_prep.errors import DataError
from terry.data_prep.sources import Source

#: A longer field is an unclosed quotation mark, not a text.
FIELD_LIMIT: Final = 1 << 26
#: What may be lost at the end of a file that is cut short before it is refused.
LONGEST_LAST_ROW: Final = 1 << 20
#: Columns looked for when none is given.
COLUMNS: Final = ("body", "text", "comment", "selftext", "content", "story", "sentence", "review")

_PIECE: Final = 1 << 20
_TELL_EVERY: Final = 64
_LONGEST_PARAGRAPH: Final = 1 << 22


class Block(NamedTuple):
    """Text of one story, whole or a part that ends where a paragraph does."""

    #: line breaks as in the file, in text files as \n
    text: str
    #: whether the story ends here
    last: bool


@dataclass(slots=True, kw_only=True)
class ReadReport:
    """What was found in one file; grows while it is read."""

    #: the file
    path: str
    #: its encoding, detected or given
    encoding: str = ""
    #: its layout, with delimiter and quotation character
    layout: str = ""
    #: the column that was read
    column: str = ""
    #: rows, lines or stories read
    rows: int = 0
    #: rows that did not fit the header or could not be parsed
    ragged: int = 0
    #: where the first of them is, and why
    first_ragged: str = ""
    #: bytes that could not be decoded and became U+FFFD
    replaced_bytes: int = 0
    #: how far reading is, in bytes on disk
    bytes_read: int = 0


def read(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    """The text of one file, story by story. Raises DataError where it cannot be read as asked."""
    report.encoding = config.encoding or detect(source.path)
    before = replaced_bytes()
    reader = {Format.jsonl: _read_jsonl, Format.text: _read_text}.get(source.format, _read_csv)
    try:
        yield from reader(source, config, report)
    except (EOFError, OSError, UnicodeError) as error:
        raise DataError(f"{source.path} cannot be read: {error}") from None
    report.replaced_bytes = replaced_bytes() - before


def _bad_row(report: ReadReport, config: DatasetConfig, line: int, what: str) -> None:
    """Count a row that does not fit, or refuse it."""
    if config.ragged is Ragged.refuse:
        raise DataError(f"{report.path}:{line}: {what}; `ragged: skip` leaves such rows out and counts them")
    report.ragged += 1
    report.first_ragged = report.first_ragged or f"line {line}: {what}"


def _read_csv(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    delimiter, quote = find_dialect(source.path, source.format, report.encoding, config)
    report.layout = f"{source.format.value}, delimiter {delimiter!r}, quote {quote or 'none'}"
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    with open_text(source.path, report.encoding, newline="") as (file, tell):
        reader = csv.reader(
            file,
            delimiter=delimiter,
            quotechar=quote,
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
            escapechar=config.escape,
            strict=True,
        )
        rows = _rows(reader, config, report)
        first = next(rows, None)
        if first is None:
            return
        place, width = _column(first, config, report), len(first)
        if not config.header:
            report.rows += 1
            yield Block(first[place], True)
        for row in rows:
            report.rows += 1
            if report.rows % _TELL_EVERY == 0:
                report.bytes_read = tell()
            if len(row) == width:
                yield Block(row[place], True)
                continue
            _bad_row(report, config, reader.line_num, f"{len(row)} fields, the first row has {width}")
            if config.ragged is Ragged.keep and len(row) > place:
                yield Block(row[place], True)


def _rows(reader: Iterator[list[str]], config: DatasetConfig, report: ReadReport) -> Iterator[list[str]]:
    """Rows that are not empty; malformed ones are counted or refused, an unclosed quotation mark always refused."""
    begin = 1
    while True:
        try:
            for row in reader:
                begin = reader.line_num + 1  # type: ignore[attr-defined]
                if row:
                    yield row
            return
        except csv.Error as error:
            report.rows += 1
            if "unexpected end of data" in str(error) or "field limit" in str(error):
                _unclosed(report, config, begin)
                return
            _bad_row(report, config, begin, f"malformed row ({error})")
            begin = reader.line_num + 1  # type: ignore[attr-defined]


def _unclosed(report: ReadReport, config: DatasetConfig, begin: int) -> None:
    """A quotation mark that is never closed: a last row cut short is a bad row, but more text than that is refused."""
    with open_text(Path(report.path), report.encoding, newline="") as (file, _):
        lost = sum(len(line) for line in islice(file, begin - 1, None))
    what = (
        f"a quotation mark is opened in this row and never closed; {lost:,} characters, to the end of the file, are in "
        "it: the file is cut short, or the mark is part of the text (then set `quote: none`)"
    )
    if lost > LONGEST_LAST_ROW:
        raise DataError(f"{report.path}:{begin}: {what}")
    _bad_row(report, config, begin, what)


def _column(first: list[str], config: DatasetConfig, report: ReadReport) -> int:
    """Place of the text column."""
    names = [name.strip() for name in first] if config.header else []
    if config.column is not None and config.column in names:
        place = names.index(config.column)
    elif config.column is not None:
        if not (config.column.isascii() and config.column.isdigit() and int(config.column) < len(first)):
            valid = ", ".join(map(repr, names)) or f"0 to {len(first) - 1} (there is no header)"
            raise DataError(f"{report.path} has no column {config.column!r}; it has {valid}")
        place = int(config.column)
    elif len(first) == 1:
        place = 0
    else:
        lower = [name.lower() for name in names]
        known = [lower.index(name) for name in COLUMNS if name in lower]
        if not known:
            valid = ", ".join(map(repr, names)) or f"0 to {len(first) - 1} (there is no header)"
            raise DataError(f"{report.path}: say which `column` holds the text; there are {valid}")
        place = known[0]
    report.column = names[place] if names else str(place)
    return place


def _read_jsonl(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    report.layout = "JSON lines"
    decoder = msgspec.json.Decoder(dict[str, object])
    with open_text(source.path, report.encoding, newline=None) as (file, tell):
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            report.rows += 1
            if report.rows % _TELL_EVERY == 0:
                report.bytes_read = tell()
            try:
                record = decoder.decode(line)
            except msgspec.DecodeError as error:
                _bad_row(report, config, number, f"not a JSON object ({error})")
                continue
            if not report.column:
                report.column = _key(record, config, report)
            text = record.get(report.column)
            if isinstance(text, str):
                yield Block(text, True)
            elif text is not None or report.column not in record:
                _bad_row(report, config, number, f"no text under {report.column!r}")


def _key(record: dict[str, object], config: DatasetConfig, report: ReadReport) -> str:
    if config.column is not None:
        return config.column
    known = [name for name in COLUMNS if isinstance(record.get(name), str)]
    if not known:
        keys = ", ".join(map(repr, record)) or "none"
        raise DataError(f"{report.path}: say which `column` (key) holds the text; the first object has {keys}")
    return known[0]


def _read_text(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    """One file is one story; it is given in blocks that end at empty lines, so that a long one needs little memory."""
    report.layout = "text"
    report.rows = 1
    by_line = config.paragraphs is Paragraphs.line or config.splitter is Splitter.lines
    rest = ""
    with open_text(source.path, report.encoding, newline=None) as (file, tell):
        while piece := file.read(_PIECE):
            rest += piece
            report.bytes_read = tell()
            if cut := _cut(rest, by_line=by_line):
                yield Block(rest[:cut], False)
                rest = rest[cut:]
    yield Block(rest, True)


def _cut(text: str, *, by_line: bool) -> int:
    """Where a text can be cut without harm: behind its last empty line, else a line, else nowhere while it is short."""
    if (empty := text.rfind("\n\n")) >= 0:
        return empty + 2
    if by_line or len(text) > _LONGEST_PARAGRAPH:
        return text.rfind("\n") + 1 or (len(text) if len(text) > 4 * _LONGEST_PARAGRAPH else 0)
    return 0
