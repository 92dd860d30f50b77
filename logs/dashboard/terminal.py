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
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

#: Alternate screen on, cursor hidden, no wrapping; and back: also an update that was under way is ended.
_ENTER, _LEAVE = b"\x1b[?1049h\x1b[?25l\x1b[?7l", b"\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"

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
    b"\x0c": "redraw",
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
        self._guard: TerminalGuard | None = None
        self._handlers: dict[int, Any] = {}
        self._shown: list[str] = []
        self._shown_in = (0, 0)

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(self._in)
        self._guard = TerminalGuard(self._in, self._out, self._before)
        atexit.register(self._restore)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, _raise)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resized)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
        self._take()
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()
        if self._guard is not None:
            self._guard.end()
        atexit.unregister(self._restore)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for descriptor in (self._wake_in, self._wake_out):
            os.close(descriptor)

    def _take(self) -> None:
        tty.setcbreak(self._in)
        if self._guard is not None:
            self._guard.taken()
        self._write(_ENTER)
        self._shown = []

    def _restore(self) -> None:
        if self._before is not None:
            with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
                self._write(_LEAVE)
                termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)
                if self._guard is not None:
                    self._guard.given_back()

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

    def redraw(self) -> None:
        """Draw the whole screen at the next `show`: something else has written on it."""
        self._shown = []

    def show(self, lines: Sequence[str]) -> None:
        """Replace the screen's content: only lines that changed are sent. Each brings its own colours and erasing."""
        if self.size != self._shown_in:
            self._shown, self._shown_in = [], self.size
        old = self._shown
        new = [
            f"\x1b[{number + 1}H{line}"
            for number, line in enumerate(lines)
            if number >= len(old) or old[number] != line
        ]
        self._shown = list(lines)
        if new:
            # Synchronised update: terminals that know it show the frame at once, others ignore it.
            clear = "" if old else "\x1b[0m\x1b[2J"
            self._write(f"\x1b[?2026h{clear}{''.join(new)}\x1b[?2026l".encode())


class TerminalGuard:
    """A process that gives the terminal back should its parent be killed without a word (SIGKILL)."""

    def __init__(self, reading: int, writing: int, before: list[Any]) -> None:
        """Forks: before any thread is started. before: the line discipline to go back to."""
        pipe_out, self._pipe = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _watch_over(pipe_out, self._pipe, reading, writing, before)
            finally:
                os._exit(0)
        os.close(pipe_out)

    def taken(self) -> None:
        """The terminal is ours from now on."""
        self._send(b"t")

    def given_back(self) -> None:
        """The terminal is as it was."""
        self._send(b"g")

    def _send(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed: then there is no guard
            os.write(self._pipe, word)

    def end(self) -> None:
        """End the process; the terminal was given back."""
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _watch_over(pipe: int, parents_end: int, reading: int, writing: int, before: list[Any]) -> None:
    """The guard's life: wait for the parent's end; give the terminal back if it has not."""
    os.setsid()  # signals from the keyboard are for the parent; and a background process may not touch its terminal
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.close(parents_end)
    kept = {pipe, reading, writing}
    for descriptor in (int(name) for name in os.listdir("/proc/self/fd")):  # noqa: PTH208  (no imports here)
        if descriptor not in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    last, ours = b"", None
    while word := os.read(pipe, 64):
        last = word[-1:]
        if last == b"t":
            ours = termios.tcgetattr(reading)
    if last != b"t":
        return
    # Written first: once the shell has its prompt, this would be in its way. If it has changed the line discipline
    # since, that is how it wants it.
    os.write(writing, _LEAVE)
    if termios.tcgetattr(reading) == ours:
        termios.tcsetattr(reading, termios.TCSANOW, before)


def _raise(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Interrupted


@contextlib.contextmanager
def opened() -> Iterator[Terminal]:
    """The terminal of this process."""
    with Terminal() as terminal:
        yield terminal
