"""The terminal while a dashboard is open: keys one by one, and the screen given back as it was, whatever ends us."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import select
import signal
import termios
import tty
from collections.abc import Iterator
from types import FrameType
from typing import Any

#: Alternate screen on and cursor hidden, and back.
_ENTER, _LEAVE = b"\x1b[?1049h\x1b[?25l\x1b[?7l", b"\x1b[?7h\x1b[?25h\x1b[?1049l"

_SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.)|[\x00-\x7f]|[\xc2-\xf4][\x80-\xbf]*|.", re.DOTALL)

_KEYS = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\x1b[H": "home",
    b"\x1b[F": "end",
    b"\x1bOH": "home",
    b"\x1bOF": "end",
    b"\x1b[1~": "home",
    b"\x1b[4~": "end",
    b"\x1b[5~": "pageup",
    b"\x1b[6~": "pagedown",
    b"\x1b": "escape",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b"\x06": "pagedown",
    b"\x02": "pageup",
}


class Interrupted(Exception):
    """The terminal went away, or somebody asked the program to end."""


def keys(data: bytes) -> list[str]:
    """The keys that a terminal sent: `j`, `up`, `enter`; sequences that mean nothing here are left out."""
    found = []
    for piece in _SEQUENCE.findall(data):
        name = _KEYS.get(piece)
        text = piece.decode(errors="replace") if name is None else ""
        if name or (len(text) == 1 and text.isprintable()):
            found.append(name or text)
    return found


class Terminal:
    """Standard input and output as a screen with keys. Use as a context."""

    def __init__(self, reading: int = 0, writing: int = 1) -> None:
        self._in = reading
        self._out = writing
        self._wake_in, self._wake_out = os.pipe()
        for descriptor in (self._wake_in, self._wake_out):
            os.set_blocking(descriptor, False)
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(self._in)
        atexit.register(self._restore)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, _raise)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resized)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
        self._take()
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()
        atexit.unregister(self._restore)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for descriptor in (self._wake_in, self._wake_out):
            os.close(descriptor)

    def _take(self) -> None:
        tty.setcbreak(self._in)
        self._write(_ENTER)

    def _restore(self) -> None:
        if self._before is not None:
            with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
                self._write(_LEAVE)
                termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again when the shell says so."""
        del number, frame
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.wake()

    def _resized(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.wake()

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                select.select([], [self._out], [])

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        found = os.get_terminal_size(self._out)
        return max(20, found.columns), max(5, found.lines)

    def wake(self) -> None:
        """Make `wait` return. From any thread or signal handler."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_out, b"x")

    def wait(self, timeout_s: float | None) -> list[str]:
        """Keys that were pressed; none once the time is over, the window was resized or `wake` was called."""
        ready, _, _ = select.select([self._in, self._wake_in], [], [], timeout_s)
        if self._wake_in in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_in, 4096)
        if self._in not in ready:
            return []
        data = os.read(self._in, 4096)
        if not data:
            raise Interrupted
        return keys(data)

    def show(self, frame: str) -> None:
        """Replace the screen's content. The frame brings its own line ends and colours."""
        # Synchronised update: terminals that know it show the frame at once, others ignore it.
        self._write(b"\x1b[?2026h\x1b[H" + frame.encode() + b"\x1b[?2026l")


def _raise(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Interrupted


@contextlib.contextmanager
def opened() -> Iterator[Terminal]:
    """The terminal of this process."""
    with Terminal() as terminal:
        yield terminal
