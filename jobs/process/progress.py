"""What a job says of how far it is: JSON lines into a pipe that its agent reads."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

#: At least so many seconds between two lines that tell only of more steps.
INTERVAL_S = 0.2

_encode = msgspec.json.Encoder().encode


class ProgressWriter:
    """Never waits: a line that finds the pipe full is dropped, and the next one tells all."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd: int | None = fd
        self._reported_at = 0.0
        self._phase = ""
        self.now: dict[str, Any] = {}  #: the fields of model.Progress that were given so far

    def report(self, fields: dict[str, Any], *, at_once: bool = False) -> None:
        """Fields that changed; written at most a few times a second, a new phase at once."""
        self.now.update(fields)
        moment = time.monotonic()
        if at_once or moment - self._reported_at >= INTERVAL_S or self.now.get("phase", "") != self._phase:
            self._reported_at, self._phase = moment, self.now.get("phase", "")
            self._write()

    def _write(self) -> None:
        line = _encode({**self.now, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}) + b"\n"
        if self._fd is None:
            return
        try:
            os.write(self._fd, line)  # lines below PIPE_BUF go whole or not at all
        except BlockingIOError:
            return
        except BrokenPipeError:  # nobody reads any more; that is no reason to stop
            self._fd = None


class Rate:
    """Steps a second over the last seconds."""

    def __init__(self, every_s: float = 1.0) -> None:
        self._every = every_s
        self._step: int | None = None
        self._time = 0.0
        self._rate: float | None = None

    def at(self, step: int, now: float) -> float | None:
        """The rate when `step` is done at `now` (seconds); None before there is one."""
        if self._step is None or step < self._step:
            self._step, self._time = step, now
        elif now - self._time >= self._every:
            latest = (step - self._step) / (now - self._time)
            self._rate = latest if self._rate is None else (self._rate + latest) / 2
            self._step, self._time = step, now
        return self._rate
