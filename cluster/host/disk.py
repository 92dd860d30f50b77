"""Does a file system answer? A small write, in a thread of its own: on a hung network file system it blocks for ever.

A process that stands still while its disk does is not to blame: before anybody is ended for silence, the disk is asked.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from pathlib import Path

from terry.cluster.files.durable import SYSTEM, Calls

#: An answer that took longer (seconds) excuses whoever was waiting for the same disk.
SLOW_S = 5.0

_log = logging.getLogger(__name__)


class DiskProbe:
    """Asks one folder's file system, one question at a time."""

    def __init__(self, folder: Path, calls: Calls = SYSTEM) -> None:
        self._folder = folder
        self._calls = calls
        self._asked: float | None = None  # monotonic, of the question that is open
        self._answer: tuple[float, float] | None = None  # when the last answered question was asked, how long it took

    def ask(self, since: float) -> float | None:
        """How long the answer to a question took that was asked at or after `since` (monotonic, seconds).

        None where there is none yet. Never waits; asks where no question is open.
        """
        if self._answer is not None and self._answer[0] >= since:
            return self._answer[1]
        if self._asked is None:
            self._asked = time.monotonic()
            threading.Thread(target=self._write, args=(self._asked,), name="disk probe", daemon=True).start()
        return None

    @property
    def silent_s(self) -> float:
        """For how long the open question has not been answered; 0 where none is open."""
        asked = self._asked
        return 0.0 if asked is None else time.monotonic() - asked

    def _write(self, asked: float) -> None:
        path = self._folder / f".probe.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            descriptor = self._calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                self._calls.write(descriptor, memoryview(b"?"))
                self._calls.fsync(descriptor)
            finally:
                self._calls.close(descriptor)
                self._calls.unlink(path)
        except OSError as error:  # an answer, too
            _log.warning("%s: %s", self._folder, error)
        self._answer = asked, time.monotonic() - asked
        self._asked = None
