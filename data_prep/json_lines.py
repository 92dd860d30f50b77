"""JSON lines as a stream of blocks: one object a line, of which only the text has to make sense."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from terry.data_prep.blocks import COLUMNS, TELL_EVERY, Block, ReadReport, bad_row
from terry.data_prep.config import DatasetConfig
from terry.data_prep.encodings import open_text
from terry.data_prep.errors import DataError
from terry.data_prep.sources import Source


def _zero(_: str) -> int:
    return 0


_HALF: Final = re.compile("[\ud800-\udfff]")
_MISSING: Final = object()
#: What Python and others write that JSON has not: NaN, Infinity, numbers beyond a double, half a surrogate pair, a raw
#: tab. All numbers are 0, as none of them is read.
_LENIENT: Final = json.JSONDecoder(parse_float=_zero, parse_int=_zero, parse_constant=_zero, strict=False)
_PATHS_SHOWN: Final = 20


def read_json_lines(source: Source, config: DatasetConfig, report: ReadReport) -> Iterator[Block]:
    """The text under a key, or a path of keys, of each line's object, a story each."""
    report.layout = "JSON lines"
    decoder = msgspec.json.Decoder(dict[str, object])
    with open_text(source.path, report.encoding, newline=None) as (file, tell):
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            report.rows += 1
            if report.rows % TELL_EVERY == 0:
                report.bytes_read = tell()
            try:
                record = decoder.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                found = _decoded_leniently(line)
                if found is None:
                    _refuse_array(line, report)
                    bad_row(report, config, number, f"not a JSON object ({error})")
                    continue
                record = found
            if not report.column:
                report.column = text_key(record, config, report)
            text = value_at(record, report.column)
            if isinstance(text, str):
                yield Block(_whole(text, report), True)
            elif text is not None:
                bad_row(report, config, number, f"no text under {report.column!r}")


def _decoded_leniently(line: str) -> dict[str, Any] | None:
    try:
        found = _LENIENT.decode(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_array(line: str, report: ReadReport) -> None:
    if report.rows == 1 and line.lstrip().startswith("["):
        raise DataError(f"{report.path} is one JSON array; what is read is one JSON object a line")


def _whole(text: str, report: ReadReport) -> str:
    """`text` with U+FFFD for each half of a surrogate pair, which is no character and cannot be written to a file."""
    if not _HALF.search(text):
        return text
    text, halves = _HALF.subn("\ufffd", text)
    report.replaced_bytes += halves
    return text


def value_at(record: Any, path: str) -> Any:
    """What stands under a key, or at a path of keys and places such as `data.body` or `turns.0.text`.

    A key that has a dot in its own name is found first. Of what is not there the answer is no text and not None.
    """
    if isinstance(record, Mapping) and path in record:
        return record[path]
    for key in path.split("."):
        if isinstance(record, Mapping) and key in record:
            record = record[key]
        elif isinstance(record, (list, tuple)) and key.isdecimal() and int(key) < len(record):
            record = record[int(key)]
        else:
            return _MISSING
    return record


def text_key(record: Mapping[str, Any], config: DatasetConfig, report: ReadReport) -> str:
    """The key or path of the text: the one that is asked for, else the first one known. Raises DataError."""
    if config.column is not None:
        return config.column
    known = [name for name in COLUMNS if isinstance(record.get(name), str)]
    if not known:
        keys = ", ".join(map(repr, text_paths(record))) or "none"
        raise DataError(f"{report.path}: say which `column` (key) holds the text; the first object has {keys}")
    return known[0]


def text_paths(record: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys of an object, and the paths of those inside it that hold text."""
    found: list[str] = []
    for key, value in record.items():
        inner = text_paths(value, f"{prefix}{key}.") if isinstance(value, Mapping) else []
        found += inner or [f"{prefix}{key}"]
    return found[:_PATHS_SHOWN]
