"""CSV and TSV files as a stream of blocks, by the standard library's csv module in strict mode.

It streams, and says which row is wrong and how. See `benchmarks/data_prep.py --engines` for what polars does with the
same files, and for the share of time that this takes.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Generator, Iterator
from itertools import islice, tee
from typing import Any, Final

from terry.data_prep.blocks import COLUMNS, TELL_EVERY, Block, ReadReport, bad_row, plural
from terry.data_prep.config import DatasetConfig, Ragged
from terry.data_prep.dialect import find_dialect
from terry.data_prep.encodings import open_text
from terry.data_prep.errors import DataError
from terry.data_prep.sources import Source

#: A longer field is an unclosed quotation mark, not a text: 16 million characters are thirty long novels.
FIELD_LIMIT: Final = 1 << 24
#: What may be lost at the end of a file that is cut short before it is refused.
LONGEST_LAST_ROW: Final = 1 << 20
#: Lines of whole rows that are kept before they are dropped together.
_KEPT_LINES: Final = 256

#: A row and the number of its first line.
_Row = tuple[list[str], int]


def read_table(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    """The text column of a delimited file, a story a row."""
    delimiter, quote = find_dialect(source.path, source.format, report.encoding, config)
    report.layout = f"{source.format.value}, delimiter {delimiter!r}, quote {quote or 'none'}"
    csv.field_size_limit(FIELD_LIMIT)
    with open_text(source.path, report.encoding, newline="") as (file, tell):
        rows = _Rows(file, config, report, _dialect(delimiter, quote, config.escape)).all()
        first, line = next(rows, ([], 0))
        if not first:
            return
        place, width = _column(first, config, report), len(first)
        if not config.header:
            report.rows += 1
            yield Block(first[place], True)
        for row, line in rows:
            report.rows += 1
            if report.rows % TELL_EVERY == 0:
                report.bytes_read = tell()
            if len(row) == width:
                yield Block(row[place], True)
                continue
            bad_row(report, config, line, _misfit(row, width))
            if config.ragged is Ragged.keep and len(row) > place:
                yield Block(row[place], True)


def _dialect(delimiter: str, quote: str | None, escape: str | None) -> dict[str, Any]:
    quoting = csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL
    return {"delimiter": delimiter, "quotechar": quote, "quoting": quoting, "escapechar": escape, "strict": True}


def _misfit(row: list[str], width: int) -> str:
    what = f"{plural(len(row), 'field')}, the first row has {width}"
    if len(row) == width + 1 and not row[-1]:
        what += ", and this one ends with a delimiter: `ragged: keep` uses its text"
    return what


class _Lines:
    """Lines that are read again before those of the file go on; those of the row that is being read are remembered."""

    def __init__(self, file: Iterator[str], again: list[str]) -> None:
        self._file, self._again, self.row = file, deque(again), list[str]()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._file)
        self.row.append(line)
        return line

    @property
    def left(self) -> list[str]:
        """Those to be read again that are not."""
        return list(self._again)


class _Rows:
    """The rows of a file with a way back: a stray quotation mark swallows lines up to the next mark, where it turns
    out that the row is malformed. Only the line that it stands in is bad; reading goes on at the row's second line.
    """

    def __init__(self, file: Iterator[str], config: DatasetConfig, report: ReadReport, dialect: dict[str, Any]) -> None:
        self._file, self._config, self._report, self._dialect = file, config, report, dialect
        self._before = 0  # lines before the row that is being read
        self._again: list[str] = []

    def all(self) -> Iterator[_Row]:
        """Rows that are not empty; malformed ones are counted or refused."""
        while True:
            read = self._read_again if self._again else self._read_on
            if (yield from read()):
                return

    def _read_on(self) -> Generator[_Row, None, bool]:
        """Read the file; true at its end, false where lines must be read again."""
        ahead, behind = tee(self._file)
        reader = csv.reader(ahead, **self._dialect)
        start, dropped, done = self._before, 0, 0
        try:
            for row in reader:
                if row:
                    yield row, start + done + 1
                done = reader.line_num
                if done - dropped > _KEPT_LINES:
                    deque(islice(behind, done - dropped), maxlen=0)
                    dropped = done
        except csv.Error as error:
            deque(islice(behind, done - dropped), maxlen=0)
            self._before = start + done
            return self._malformed(error, list(islice(behind, reader.line_num - done)))
        return True

    def _read_again(self) -> Generator[_Row, None, bool]:
        """Read the lines of a malformed row behind its first one, until they are used up; true at the file's end."""
        lines = _Lines(self._file, self._again)
        reader = csv.reader(lines, **self._dialect)
        try:
            for row in reader:
                if row:
                    yield row, self._before + 1
                self._before += len(lines.row)
                lines.row.clear()
                if not lines.left:
                    self._again = []
                    return False
        except csv.Error as error:
            left = lines.left
            ended = self._malformed(error, lines.row)
            self._again += left
            return ended
        return True

    def _malformed(self, error: csv.Error, lines: list[str]) -> bool:
        """Count a malformed row; true where nothing can be read behind it."""
        report, first = self._report, self._before + 1
        report.rows += 1
        if "field limit" in str(error):
            raise DataError(
                f"{report.path}:{first}: a field of more than {FIELD_LIMIT:,} characters begins in this row: "
                "a quotation mark that is part of the text, perhaps (then set `quote: none`)"
            ) from None
        if "unexpected end of data" in str(error):
            self._unclosed(first, sum(map(len, lines)))
            return True
        hint = ': in it stands \\", which `escape: \\` understands' if any('\\"' in line for line in lines) else ""
        bad_row(report, self._config, first, f"malformed row ({error}){hint}")
        self._before += 1
        self._again = lines[1:]
        return False

    def _unclosed(self, first: int, characters: int) -> None:
        """A quotation mark that is never closed: a last row cut short is a bad row, more text than that is refused."""
        what = (
            f"a quotation mark is opened in this row and never closed; {characters:,} characters, to the end of the "
            "file, are in it: the file is cut short, or the mark is part of the text (then set `quote: none`)"
        )
        if characters > LONGEST_LAST_ROW:
            raise DataError(f"{self._report.path}:{first}: {what}")
        bad_row(self._report, self._config, first, what)


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
