"""Readers: any source file as a stream of blocks of text, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from terry.data_prep.blocks import Block, ReadReport
from terry.data_prep.columnar import read_columnar
from terry.data_prep.config import BINARY, Clean, DatasetConfig, Format, Paragraphs, Splitter
from terry.data_prep.encodings import GUESSES, detect, given, head_of, open_text, replaced_bytes
from terry.data_prep.errors import DataError
from terry.data_prep.json_lines import read_json_lines
from terry.data_prep.looks import SAMPLE, surprises
from terry.data_prep.sources import Source
from terry.data_prep.tables import read_table

_PIECE: Final = 1 << 20
_LONGEST_PARAGRAPH: Final = 1 << 22


def read(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    """The text of one file, story by story. Raises DataError where it cannot be read as asked."""
    if source.format in BINARY:
        report.encoding = "utf-8"
        yield from read_columnar(source, config, report)
        return
    report.encoding = detect(source.path) if config.encoding is None else given(source.path, config.encoding)
    report.guessed = config.encoding is None and report.encoding in GUESSES
    reader = {Format.jsonl: read_json_lines, Format.text: read_text}.get(source.format, read_table)
    before = replaced_bytes()
    try:
        yield from reader(source, config, report)
    except (EOFError, OSError, UnicodeError) as error:
        raise DataError(f"{source.path} cannot be read: {error}") from None
    finally:
        report.replaced_bytes += replaced_bytes() - before


def read_text(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    """One file is one story; it is given in blocks that end at empty lines, so that a long one needs little memory."""
    report.layout = "text"
    report.notes += [source.note] if source.note else []
    head = head_of(source.path, report.encoding, SAMPLE)
    report.notes += surprises(source.path, head, alone=source.alone, tags_go=Clean.html_tags in config.clean)
    report.rows = 1
    by_line = config.paragraphs is Paragraphs.line or config.splitter is Splitter.lines
    by_line = by_line or source.lines_are_texts
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
