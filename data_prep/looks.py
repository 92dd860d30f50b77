"""What a file that is read as plain text looks like: a table, a page of HTML, one text a line.

All of it is decided from the file's first characters and its name.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import PurePath
from typing import Final

from terry.data_prep.blocks import COLUMNS

#: Characters that are looked at.
SAMPLE: Final = 1 << 16
_MARKED_UP: Final = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_TAG: Final = re.compile(r"</?(?:p|div|br|span|a|li|ul|td|tr|h[1-6])(?:\s[^<>]{0,300})?/?>", re.IGNORECASE)
_NAME: Final = re.compile(r"[^\W\d]\w{0,39}(?:[ .-]\w{1,39}){0,3}")
_ABOUT: Final = re.compile(
    r"(?:readme|licen[cs]e|copying|notice|changelog|authors|contributing|citation)(?:\W|$)", re.IGNORECASE
)
_FEWEST_ROWS: Final = 3
#: Characters that are looked at for what their lines are.
LINES_SAMPLE: Final = 1 << 22
_FEWEST_LINES: Final = 20
_LINES_A_BLOCK: Final = 100  # more than any paragraph or stanza has
_WRAPPED: Final = 1.2  # nine tenths of the lines of a wrapped text are no longer than its middle one times this
_TAGS_A_PAGE: Final = 400  # characters of text for each tag, at most


def surprises(path: PurePath, text: str, *, alone: bool, tags_go: bool = False) -> Iterator[str]:
    """What may surprise about a file that is read as plain text.

    text: its beginning; alone: it is the only file; tags_go: cleaning takes tags out.
    """
    marked_up = _MARKED_UP.match(text) or len(_TAG.findall(text)) * _TAGS_A_PAGE > max(len(text), 2 * _TAGS_A_PAGE)
    if marked_up and not tags_go:
        yield "it looks like HTML, and is read as plain text, tags and all: `clean: [html_tags]` takes the tags out"
    elif (found := table_in(text)) is not None:
        delimiter, names = found
        shown = ", ".join(map(repr, names[:8]))
        yield (
            f"it looks like a table delimited by {delimiter!r} with the columns {shown}, and is read as plain text, "
            "delimiters and all: `format: csv` and `column` read one column"
        )
    if not alone and _ABOUT.match(path.name):
        yield "it looks like a note about the others, and is read as one more story"


class Lines(Enum):
    """What the lines of a plain text are."""

    #: there are empty lines, or few lines at all
    paragraphs = ""
    #: no empty lines, and lines of any length
    texts = "each line is read as a text of its own; `paragraphs: blank_line` reads them as one paragraph"
    #: no empty lines, and lines that are nearly all as long as they may be
    wrapped = "as they are all about as long, they are read as one paragraph; `paragraphs: line` reads each by itself"


def lines_in(text: str) -> tuple[Lines, str]:
    """What the lines of a plain text are, by its beginning, and what a person should know about that.

    Text that is wrapped has lines nearly as long as the longest; tweets, titles and jokes are of any length.
    """
    lines = text.splitlines()
    lengths = sorted(len(line) for line in lines if line.strip())
    blocks = 1 + sum(not line.strip() and bool(before.strip()) for before, line in pairwise(lines))
    ends_blank = bool(lines) and not lines[-1].strip()
    blocks -= ends_blank
    if len(lengths) < _FEWEST_LINES or (blocks > 1 and len(lengths) < _LINES_A_BLOCK * blocks):
        return Lines.paragraphs, ""
    wrapped = lengths[len(lengths) * 9 // 10] <= _WRAPPED * lengths[len(lengths) // 2]
    kind = Lines.wrapped if wrapped else Lines.texts
    few = "no empty one" if blocks == 1 else f"only {blocks - 1} empty ones between them"
    where = " in its beginning" if len(text) >= LINES_SAMPLE else ""
    return kind, f"{len(lengths):,} lines and {few}{where}: {kind.value}"


def table_in(text: str) -> tuple[str, list[str]] | None:
    """Delimiter and first row of a table: every row has as many fields, and the first ones look like names."""
    lines = text.splitlines()[:200]
    for delimiter in "\t|;,":
        if sum(delimiter in line for line in lines[:_FEWEST_ROWS]) < min(_FEWEST_ROWS, len(lines)):
            continue
        try:
            rows = [row for row in csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter=delimiter) if row]
        except csv.Error:
            continue
        rows = rows[:-1] if len(text) >= SAMPLE else rows
        names = [name.strip() for name in rows[0]] if rows else []
        same = sum(len(row) == len(names) for row in rows)
        if len(rows) < _FEWEST_ROWS or len(names) < 2 or same < 0.9 * len(rows):
            continue
        known = delimiter != "," or {name.lower() for name in names} & {*COLUMNS, "id"}  # prose has commas, too
        if known and all(map(_NAME.fullmatch, names)):
            return delimiter, names
    return None
