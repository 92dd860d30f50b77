"""A thread that removes from the disk what was put out of its place: large folders must not hold up the queue."""

from __future__ import annotations

import logging
import threading

from terry.cluster.files import removal
from terry.cluster.files.paths import WorkspacePaths

_log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps when woken; one sweep at a time. A sweep that dies with the process is done by the next controller."""

    def __init__(self, workspace: WorkspacePaths) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._wanted = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """See to it that what is there now goes. Returns at once."""
        with self._lock:
            self._wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="sweeper", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Until nothing is left to do."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while self._is_wanted():
            try:
                removal.sweep_out(self._workspace)
            except OSError as error:
                _log.warning("what was removed stays on the disk for now: %s", error)

    def _is_wanted(self) -> bool:
        with self._lock:
            wanted, self._wanted = self._wanted, False
            if not wanted:
                self._thread = None
            return wanted
