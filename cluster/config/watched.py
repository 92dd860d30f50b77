"""What follows changes of terry.yaml: the policy, and how long devices of others are kept.

The file's reader is imported when there is a file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from terry.cluster.core.policy import Policy
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths

#: How often (seconds) the file is looked at for changes.
LOOK_S = 2.0

#: How long (seconds) an idle device of a Ray cluster of others is kept, unless terry.yaml says otherwise.
IDLE_AFTER_S = 600.0

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


def watched_policy(workspace: WorkspacePaths, clock: Callable[[], float] = time.monotonic) -> Watched[Policy]:
    """The policy of the workspace's terry.yaml, whatever becomes of the file. `clock` is in seconds."""

    def read() -> Policy:
        if _stamp(workspace) is None:
            return Policy()
        from terry.cluster.config import terry_yaml as config

        return config.read_policy(workspace)

    return Watched(read, lambda: _stamp(workspace), clock, Policy())


def watched_idle_after(workspace: WorkspacePaths, clock: Callable[[], float] = time.monotonic) -> Watched[float]:
    """`idle_after` of the Ray cluster of others that terry.yaml names."""

    def read() -> float:
        from terry.cluster.config import terry_yaml as config

        foreign = config.read_nodes(workspace).foreign
        return foreign.idle_after if foreign else IDLE_AFTER_S

    return Watched(read, lambda: _stamp(workspace), clock, IDLE_AFTER_S)


def _stamp(workspace: WorkspacePaths) -> object:
    try:
        found = workspace.config.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


class Watched(Generic[_T]):
    """What follows its file. After a mistake in the file the last good one stays, and the log says why."""

    def __init__(
        self, read: Callable[[], _T], stamp: Callable[[], object], clock: Callable[[], float], first: _T
    ) -> None:
        """`read` may raise UserError and OSError; `stamp` changes with the file; `clock` is in seconds.

        first: what holds until the file could be read.
        """
        self._read, self._stamp, self._clock = read, stamp, clock
        self._value = first
        self._seen: object = object()
        self._looked_at = float("-inf")

    def __call__(self) -> _T:
        """As of now."""
        now = self._clock()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                self._value = self._read()
        except (UserError, OSError) as error:
            _log.error("what terry.yaml said before holds on: %s", error)
        except Exception:  # a bug in the reader must not end the controller, again and again
            _log.exception("what terry.yaml said before holds on")
