"""The recent losses of a run for a sparkline: reads only what was added since the last time."""

from __future__ import annotations

import math
from typing import BinaryIO

import msgspec

from terry.cluster.files.paths import Run
from terry.logs.records.values import as_count, read_measured

#: Points that are kept; when there are twice as many, every second one goes.
_POINTS = 256

#: Of a file that is read for the first time, so much of its end (bytes).
_FIRST = 1 << 20


class _Line(msgspec.Struct):
    """What of a line of metrics is needed here."""

    step: int | None = None
    loss: float | str | None = None
    start: int | None = None


_decoder = msgspec.json.Decoder(_Line)


class LossHistory:
    """The losses of one run, over all its attempts."""

    def __init__(self, run: Run, points: int = _POINTS, first_bytes: int | None = _FIRST) -> None:
        """points: between so many and twice as many are kept. first_bytes: of each file at most its end; None: all."""
        self._run = run
        self._most = points
        self._first = first_bytes
        self._attempt = 0
        self._offset = 0
        self._points: list[tuple[int, float]] = []
        self._restarts: list[int] = []

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the losses."""
        return tuple(step for step, _ in self._points)

    @property
    def restarts(self) -> tuple[int, ...]:
        """Steps from which later attempts went on, as far as they count."""
        return tuple(self._restarts)

    def update(self, attempt: int, first_attempt: int = 1) -> tuple[float, ...]:
        """Read what was added, up to the attempt that is now the newest; the losses in the order of their steps."""
        if self._attempt < first_attempt:
            self._points, self._restarts = [], []
        for number in range(max(first_attempt, self._attempt), attempt + 1):
            if number != self._attempt:
                self._attempt, self._offset = number, 0
            self._read(number)
        return tuple(loss for _, loss in self._points)

    def _read(self, attempt: int) -> None:
        try:
            with self._run.attempt(attempt).metrics.open("rb") as stream:
                self._skip(stream, stream.seek(0, 2))
                stream.seek(self._offset)
                data = stream.read()
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            return
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        for line in data[:whole].splitlines():
            self._take(line)

    def _skip(self, stream: BinaryIO, size: int) -> None:
        """Of a long file its first line, which voids what earlier attempts wrote, and then its end."""
        if self._offset == 0 and self._first is not None and size > self._first:
            stream.seek(0)
            self._take(stream.readline())
            self._offset = size - self._first

    def _take(self, line: bytes) -> None:
        try:
            found = _decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            return  # the torn first line of what was skipped, a torn write, or no measurement
        if found.start is not None:
            self._points = [point for point in self._points if point[0] <= found.start]
            self._restarts = [step for step in self._restarts if step <= found.start]
            if found.start > 0:
                self._restarts.append(found.start)
        elif as_count(found.step) is not None and b'"loss"' in line:
            loss = read_measured(found.loss)
            self._points.append((found.step or 0, math.nan if loss is None else float(loss)))
            if len(self._points) >= 2 * self._most:
                del self._points[1::2]
