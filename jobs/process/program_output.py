"""What a program says of how it goes on, without a change to it: its output, and the files that it writes.

Lines of its output by patterns; JSON lines, CSV and TensorBoard files in its folder by themselves. All are read as they
grow, from where they stood when the attempt began.
"""

from __future__ import annotations

import csv
import math
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from terry.logs.records.metrics import OWN
from terry.logs.records.values import as_count, as_float, decode

#: Called with a step and what was measured at it.
Emit = Callable[[int, dict[str, float]], None]

_STEPS = ("step", "global_step", "_step", "iteration", "iter", "epoch")
_MOST_FILES, _MOST_BYTES, _LONGEST = 100, 1 << 22, 1 << 20
_TRAINED = ({"loss"}, {"train", "loss"}, {"training", "loss"}, {"loss", "step", "train"})
_VALIDATED = tuple({name, "loss"} for name in ("val", "valid", "validation", "eval", "dev"))


def named(values: Mapping[str, float]) -> dict[str, float]:
    """With `loss` and `valid_loss`, as views know them, where something is called nearly so: `train/loss`."""
    found = {(f"own_{key}" if key in OWN else key): value for key, value in values.items() if key.isprintable()}
    for key, value in list(found.items()):
        words = set(re.split(r"[/_.\-: ]+", key.lower()))
        for name, alike in (("loss", _TRAINED), ("valid_loss", _VALIDATED)):
            if words in alike:
                found.setdefault(name, value)
    return found


class Tail:
    """What is added to a file; from its beginning where it became shorter, for then it is another one."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path, self._offset = path, offset
        self._rest = b""

    def read(self) -> bytes:
        """The new bytes; none where the file is not there."""
        try:
            with self.path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size < self._offset:
                    self._offset, self._rest = 0, b""
                stream.seek(self._offset)
                data = stream.read(_MOST_BYTES)
        except OSError:
            return b""
        self._offset += len(data)
        return data

    def lines(self, *, last: bool = False) -> Iterator[str]:
        """The new complete lines; a carriage return ends one, too (bars of progress). last: nothing more will come."""
        while data := self.read():
            *whole, self._rest = re.split(rb"\r\n|\n|\r", self._rest + data)
            self._rest = self._rest[-_LONGEST:]
            yield from (line.decode("utf-8", "replace") for line in whole)
        if last and self._rest:
            yield self._rest.decode("utf-8", "replace")
            self._rest = b""


class Patterns:
    """Measurements in the lines of an output, by regular expressions with one group each."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._patterns = {name: re.compile(pattern) for name, pattern in patterns.items()}
        self._step, self._counted = 0, "step" not in patterns

    def take(self, line: str, emit: Emit) -> None:
        """What a line says; its step is that of the line, else the last one that was told, else lines are counted."""
        found = {}
        for name, pattern in self._patterns.items():
            match = pattern.search(line[:10_000])
            number = _number(match[1]) if match and match[1] is not None else None
            if number is not None:
                found[name] = number
        step = found.pop("step", None)
        if step is not None and math.isfinite(step) and step >= 0:
            self._step = int(step)
        if found:
            self._step += self._counted
            emit(self._step, found)


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _emit_row(row: Mapping[str, Any], count: int, emit: Emit) -> None:
    numbers = {str(key): number for key, value in row.items() if (number := as_float(value)) is not None}
    key = next((name for name in _STEPS if name in numbers and math.isfinite(numbers[name])), None)
    step = count if key is None else as_count(int(numbers[key]))
    values = {name: value for name, value in numbers.items() if name not in {key, "time", "_timestamp", "_runtime"}}
    if step is not None and values:
        emit(step, values)


class JsonLines:
    """A mapping a line."""

    def __init__(self, path: Path, offset: int) -> None:
        self._tail, self._count = Tail(path, offset), 0

    def poll(self, emit: Emit, *, last: bool) -> None:
        """Pass on what is new."""
        for line in self._tail.lines(last=last):
            row = decode(line.encode("utf-8", "replace"))
            if row:
                self._count += 1
                _emit_row(row, self._count, emit)


class Csv:
    """A header, and rows."""

    def __init__(self, path: Path, offset: int) -> None:
        self._tail, self._count, self._header = Tail(path, offset), 0, _header(path) if offset else []

    def poll(self, emit: Emit, *, last: bool) -> None:
        """Pass on what is new."""
        for line in self._tail.lines(last=last):
            cells = _cells(line)
            if not self._header or (any(_number(name) is None for name in cells if name) and not self._fits(cells)):
                self._header = cells
                continue
            self._count += 1
            row = {name: _number(cell) for name, cell in zip(self._header, cells, strict=False)}
            _emit_row(row, self._count, emit)

    def _fits(self, cells: list[str]) -> bool:
        """Some cell is a number: it is no header that was written anew."""
        return any(_number(cell) is not None for cell in cells if cell)


def _header(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            return _cells(stream.readline(_LONGEST).decode("utf-8", "replace").rstrip("\r\n"))
    except OSError:
        return []


def _cells(line: str) -> list[str]:
    try:
        return next(iter(csv.reader([line])), [])
    except csv.Error:
        return []


class Events:
    """A TensorBoard file: records of one event each, of which scalars are taken."""

    def __init__(self, path: Path, offset: int) -> None:
        self._tail, self._rest = Tail(path, offset), b""

    def poll(self, emit: Emit, *, last: bool) -> None:
        """Pass on what is new."""
        del last
        while data := self._tail.read():
            self._rest += data
        start = 0
        while len(self._rest) - start >= 12:
            (length,) = struct.unpack_from("<Q", self._rest, start)
            if length > _MOST_BYTES:  # no TensorBoard file, or a damaged one
                self._rest, start = b"", 0
                break
            if len(self._rest) - start < 16 + length:
                break
            _take_event(self._rest[start + 12 : start + 12 + length], emit)
            start += 16 + length
        self._rest = self._rest[start:]


def _take_event(data: bytes, emit: Emit) -> None:
    step = 0
    values: dict[str, float] = {}
    try:
        for number, content in _fields(data):
            if number == 2 and isinstance(content, int):
                step = content
            elif number == 5 and isinstance(content, bytes):
                values |= dict(_scalars(content))
    except (IndexError, struct.error, UnicodeDecodeError):
        return
    if values and as_count(step) is not None:
        emit(step, values)


def _scalars(summary: bytes) -> Iterator[tuple[str, float]]:
    for number, value in _fields(summary):
        if number != 1 or not isinstance(value, bytes):
            continue
        tag, scalar = "", None
        for inner, content in _fields(value):
            if inner == 1 and isinstance(content, bytes):
                tag = content.decode()
            elif inner == 2 and isinstance(content, bytes):  # simple_value
                (scalar,) = struct.unpack("<f", content)
            elif inner == 8 and isinstance(content, bytes):  # tensor
                scalar = _tensor(content)
        if tag and scalar is not None:
            yield tag, scalar


def _tensor(data: bytes) -> float | None:
    """Of a tensor of one float of 32 bits."""
    for number, content in _fields(data):
        if number in {4, 5} and isinstance(content, bytes) and len(content) == 4:
            return float(struct.unpack("<f", content)[0])
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a protocol buffer: whole numbers of variable length, all else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        length, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _varint(data, at)
        if at + length > len(data):
            raise IndexError("a field ends behind its message")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80 or shift > 63:
            return value, at


_Reader = JsonLines | Csv | Events


class WrittenFiles:
    """Files of measurements in a folder, found as they appear."""

    def __init__(self, folder: Path, *, from_the_beginning: bool = False) -> None:
        self._folder = folder
        self._readers: dict[Path, _Reader] = {}
        for path, kind in () if from_the_beginning else self._found():
            self._add(path, kind, path.stat().st_size)

    def poll(self, emit: Emit, *, last: bool = False) -> None:
        """Pass on what is new."""
        for path, kind in self._found():
            if path not in self._readers and len(self._readers) < _MOST_FILES:
                self._add(path, kind, 0)
        for reader in self._readers.values():
            reader.poll(emit, last=last)

    def _add(self, path: Path, kind: type[_Reader], offset: int) -> None:
        self._readers[path] = kind(path, offset)

    def _found(self) -> Iterable[tuple[Path, type[_Reader]]]:
        seen = 0
        for here, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                seen += 1
                kind = _kind(name)
                path = Path(here, name)
                if kind is not None and path.is_file():
                    yield path, kind
            if seen > 50 * _MOST_FILES:
                return


def _kind(name: str) -> type[_Reader] | None:
    if "tfevents" in name:
        return Events
    suffix = Path(name).suffix.lower()
    return JsonLines if suffix in {".jsonl", ".ndjson"} else Csv if suffix == ".csv" else None
