"""What every reader gives and reports: blocks of text, and a report for each file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from terry.data_prep.config import DatasetConfig, Ragged
from terry.data_prep.errors import DataError

#: Columns looked for when none is given.
COLUMNS: Final = ("body", "text", "comment", "selftext", "content", "story", "sentence", "review")
#: Rows after which a reader says how far it is.
TELL_EVERY: Final = 64


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
    #: bytes that could not be decoded, and halves of surrogate pairs in JSON, that became U+FFFD
    replaced_bytes: int = 0
    #: what was noticed about the file that may surprise
    notes: list[str] = field(default_factory=list)
    #: how far reading is, in bytes on disk
    bytes_read: int = 0


def bad_row(report: ReadReport, config: DatasetConfig, line: int, what: str) -> None:
    """Count a row that does not fit, or refuse it."""
    if config.ragged is Ragged.refuse:
        raise DataError(f"{report.path}:{line}: {what}; `ragged: skip` leaves such rows out and counts them")
    report.ragged += 1
    report.first_ragged = report.first_ragged or f"line {line}: {what}"
