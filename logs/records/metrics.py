"""Measurements of a run: JSON lines, one file an attempt, read as one series.

Each attempt's file begins with `{"start": S}`: the attempt went on from step S, so whatever earlier attempts wrote
about later steps is void. A line goes to the file at once, with one write: a killed process loses none. Before a
checkpoint is published, `sync` brings the lines up to its step to the disk: an attempt that goes on from it misses
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.files.durable import fsync_folder, open_shared
from terry.cluster.files.paths import Run
from terry.logs.records.values import as_count, decode, measured, read_measured

#: The step that an attempt from scratch goes on from: it voids also what was measured at step 0.
FROM_SCRATCH = -1

_encode = msgspec.json.Encoder().encode
#: Names of a line's own fields: no measurement can be called so.
OWN = frozenset({"step", "time", "start"})


class MetricsWriter:
    """Writes one attempt's metrics. Only its process may."""

    def __init__(self, path: Path) -> None:
        self._folder: Path | None = path.parent  # until the file's name in it is on the disk
        self._fd = open_shared(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    def start(self, step: int) -> None:
        """What follows goes on from the checkpoint of this step, or FROM_SCRATCH: later measurements are void."""
        self._write({"start": step})

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """Write one line; NaN and infinities, which JSON lacks, stand as the text "NaN", "Infinity", "-Infinity"."""
        self._write({"step": step, "time": round(time, 3), **{key: measured(value) for key, value in values.items()}})

    def _write(self, line: dict[str, Any]) -> None:
        data = _encode(line) + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]

    def sync(self) -> None:
        """Bring all lines to the disk, and the file's name. May be called from another thread."""
        os.fsync(self._fd)
        if self._folder is not None:
            fsync_folder(self._folder)
            self._folder = None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_series(run: Run, first_attempt: int = 1) -> list[dict[str, Any]]:
    """All measurements of a run in the order of their steps, those of one step together: `{"step": …, "loss": …}`.

    A later attempt replaces what earlier ones wrote about steps after its start. first_attempt: ignore those before.
    """
    rows: dict[int, dict[str, Any]] = {}
    for number, folder in run.attempts():
        if number < first_attempt:
            continue
        for line in _lines(folder.metrics):
            if "start" in line:
                start = line["start"]
                if isinstance(start, int):
                    rows = {step: row for step, row in rows.items() if step <= start}
            elif (step := as_count(line.get("step"))) is not None:
                found = {key: read_measured(value) for key, value in line.items()}
                rows.setdefault(step, {}).update((key, value) for key, value in found.items() if value is not None)
    return [rows[step] for step in sorted(rows)]


def rows(path: Path) -> list[dict[str, Any]]:
    """The measurements of one attempt in the order of its lines, each with its `step`; none of unsound lines."""
    found = []
    for line in _lines(path):
        if "start" not in line and (step := as_count(line.get("step"))) is not None:
            values = {key: value for key, raw in line.items() if (value := read_measured(raw)) is not None}
            found.append({**values, "step": step})
    return found


def bad_lines(path: Path) -> list[int]:
    """Numbers (from 1) of the complete lines that are no measurement, and are passed over. Raises OSError."""
    return [i for i, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1) if not _is_sound(decode(line))]


def _is_sound(line: dict[str, Any] | None) -> bool:
    if line is None:
        return False
    if "start" in line:
        return isinstance(line["start"], int)
    return as_count(line.get("step")) is not None and all(read_measured(value) is not None for value in line.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a file that may still be written to."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return
    for line in content.split(b"\n")[:-1]:  # what follows the last newline is not finished
        found = decode(line)
        if found is not None:  # else torn by a crash of the node; the next attempt writes it again
            yield found
