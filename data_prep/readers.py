"""Readers: any source file as a stream of blocks of text, in bounded memory.

CSV is read by the standard library's csv module in strict mode: it streams, and says which row is wrong and how. See
`benchmarks/data_prep.py --engines` for what polars does with the same files, and for the share of time that this takes.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from terry.data_prep.config import DatasetConfig, Format, Paragraphs, Ragged, Splitter
from terry.data_prep.dialect import find_dialect
from terry.data_prep.encodings import GUESSES, detect, given, open_text, replaced_bytes
from terry.data_prep.errors import DataError
from terry.data_prep.sources import Source

#: A longer field is an unclosed quotation mark, not a text: 16 million characters are thirty long novels.
FIELD_LIMIT: Final = 1 << 24
#: What may be lost at the end of a file that is cut short before it is refused.
LONGEST_LAST_ROW: Final = 1 << 20
#: Columns looked for when none is given.
COLUMNS: Final = ("body", "text", "comment", "selftext", "content", "story", "sentence", "review")

_PIECE: Final = 1 << 20
_TELL_EVERY: Final = 64
_LONGEST_PARAGRAPH: Final = 1 << 22


def plural(count: int, noun: str) -> str:
    """`1 field`, `2 fields`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


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
    #: whether the encoding is only the likeliest of several that fit
    guessed: bool = False
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
    report.encoding = detect(source.path) if config.encoding is None else given(source.path, config.encoding)
    report.guessed = config.encoding is None and report.encoding in GUESSES
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


class _Lines:
    """The lines of a file, with a way back: those of the row that is being read can be had again, but for its first.

    A stray quotation mark swallows lines up to the next mark, where the row turns out to be malformed. Only the line
    that it stands in is bad.
    """

    def __init__(self, file: Iterator[str]) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self._before = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._file)
        self._row.append(line)
        return line

    @property
    def first(self) -> int:
        """Number of the row's first line."""
        return self._before + 1

    @property
    def characters(self) -> int:
        """Length of the row so far."""
        return sum(map(len, self._row))

    def next_row(self) -> None:
        """A new row begins behind the lines that were given out."""
        self._before += len(self._row)
        self._row.clear()

    def go_back(self) -> None:
        """A new row begins at the second line of this one."""
        self._before += 1
        self._again.extendleft(reversed(self._row[1:]))
        self._row.clear()


def _read_csv(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    delimiter, quote = find_dialect(source.path, source.format, report.encoding, config)
    report.layout = f"{source.format.value}, delimiter {delimiter!r}, quote {quote or 'none'}"
    csv.field_size_limit(FIELD_LIMIT)
    with open_text(source.path, report.encoding, newline="") as (file, tell):
        lines = _Lines(file)
        reader = csv.reader(
            lines,
            delimiter=delimiter,
            quotechar=quote,
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
            escapechar=config.escape,
            strict=True,
        )
        rows = _rows(reader, lines, config, report)
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
            _bad_row(report, config, lines.first, f"{plural(len(row), 'field')}, the first row has {width}")
            if config.ragged is Ragged.keep and len(row) > place:
                yield Block(row[place], True)


def _rows(reader: Iterator[list[str]], lines: _Lines, config: DatasetConfig, report: ReadReport) -> Iterator[list[str]]:
    """Rows that are not empty; malformed ones are counted or refused. Gone on with is the line behind their first."""
    while True:
        try:
            for row in reader:
                if row:
                    yield row
                lines.next_row()
            return
        except csv.Error as error:
            report.rows += 1
            if "field limit" in str(error):
                raise DataError(
                    f"{report.path}:{lines.first}: a field of more than {FIELD_LIMIT:,} characters begins in this row: "
                    "a quotation mark that is part of the text, perhaps (then set `quote: none`)"
                ) from None
            if "unexpected end of data" in str(error):
                _unclosed(report, config, lines)
                return
            _bad_row(report, config, lines.first, f"malformed row ({error})")
            lines.go_back()


def _unclosed(report: ReadReport, config: DatasetConfig, lines: _Lines) -> None:
    """A quotation mark that is never closed: a last row cut short is a bad row, but more text than that is refused."""
    what = (
        f"a quotation mark is opened in this row and never closed; {lines.characters:,} characters, to the end of the "
        "file, are in it: the file is cut short, or the mark is part of the text (then set `quote: none`)"
    )
    if lines.characters > LONGEST_LAST_ROW:
        raise DataError(f"{report.path}:{lines.first}: {what}")
    _bad_row(report, config, lines.first, what)


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
            asked = "say which `column` holds the text, by name or by place from 0"
            raise DataError(f"{report.path}: {asked}; there are {valid}")
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
                if report.rows == 1 and line.lstrip().startswith("["):
                    raise DataError(
                        f"{report.path} is one JSON array; what is read is one JSON object a line"
                    ) from None
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
