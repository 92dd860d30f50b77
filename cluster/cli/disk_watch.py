"""The command line on a file system that does not answer: it says so, and Ctrl-C works.

While a system call waits for a hung network file system the kernel delivers no SIGINT to it: the signal stays pending
until the disk is back. So a second thread asks the file system, now and then, by a call of its own; where there is no
answer it tells the user, and looks whether a SIGINT is pending.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

#: The file system is asked so often (seconds), first when a verb has taken so long; so long it may take to answer.
ASK_EVERY_S, ANSWER_WITHIN_S = 3.0, 1.5

_LOOK_S = 0.2
_INTERRUPTED = 130


class DiskWatch(threading.Thread):
    """Watches over a verb. `folder` is the workspace, or what is taken for it until it is found."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="disk-watch", daemon=True)
        self.folder = folder
        self._done = threading.Event()
        self._asked: float | None = None  # since when the file system has owed an answer
        self._notified = False

    def run(self) -> None:
        """Until the verb is done."""
        while not self._done.wait(ASK_EVERY_S if self._asked is None else _LOOK_S):
            asked = self._asked
            if asked is None:
                self._asked = time.monotonic()
                threading.Thread(target=self._ask, daemon=True).start()
            elif time.monotonic() - asked >= ANSWER_WITHIN_S:
                self._notify()
                if _interrupt_is_pending():
                    _leave()

    def end(self) -> None:
        """The verb is done."""
        self._done.set()
        self.join()

    def _ask(self) -> None:
        with contextlib.suppress(OSError):
            os.listdir(self.folder)  # noqa: PTH208
        self._asked = None

    def _notify(self) -> None:
        if not self._notified:
            self._notified = True
            text = f"the file system of {self.folder.absolute()} does not answer; waiting for it"
            os.write(2, f"{text} (Ctrl-C leaves, the jobs are not touched)\n".encode())


def _interrupt_is_pending() -> bool:
    found = re.search(r"^ShdPnd:\t([0-9a-f]+)$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (signal.SIGINT - 1) & 1)


def _leave() -> None:
    os.write(2, b"interrupted; the jobs go on\n")
    atexit._run_exitfuncs()  # gives a dashboard's terminal back
    os._exit(_INTERRUPTED)


@contextlib.contextmanager
def disk_watch(folder: Path) -> Iterator[DiskWatch]:
    """Around a verb."""
    watcher = DiskWatch(folder)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.end()
