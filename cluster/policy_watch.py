"""The policy of a workspace, which follows changes of terry.yaml. The file's reader is imported when there is one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from terry.cluster.errors import UserError
from terry.cluster.policy import Policy
from terry.cluster.workspace import Workspace

#: How often (seconds) the file is looked at for changes.
LOOK_S = 2.0

_log = logging.getLogger(__name__)


def watched_policy(workspace: Workspace, clock: Callable[[], float] = time.monotonic) -> Watched:
    """The policy of the workspace's terry.yaml, whatever becomes of the file. `clock` is in seconds."""

    def stamp() -> object:
        try:
            found = workspace.config.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read() -> Policy:
        if stamp() is None:
            return Policy()
        from terry.cluster import config

        return config.read(workspace).policy

    return Watched(read, stamp, clock)


class Watched:
    """A policy that follows its file. After a mistake in the file the last good one stays, and the log says why."""

    def __init__(self, read: Callable[[], Policy], stamp: Callable[[], object], clock: Callable[[], float]) -> None:
        """`read` may raise UserError and OSError; `stamp` changes with the file; `clock` is in seconds."""
        self._read, self._stamp, self._clock = read, stamp, clock
        self._policy = Policy()
        self._seen: object = object()
        self._looked_at = float("-inf")

    def __call__(self) -> Policy:
        """The policy as of now."""
        now = self._clock()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look()
        return self._policy

    def _look(self) -> None:
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                self._policy = self._read()
        except (UserError, OSError) as error:
            _log.error("the policy stays as it was: %s", error)
        except Exception:  # a bug in the reader must not end the controller, again and again
            _log.exception("the policy stays as it was")
