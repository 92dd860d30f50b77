"""What a file that is read as plain text looks like: a table, a page of HTML, a note about the others.

All of it is decided from the file's first characters and its name.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
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
