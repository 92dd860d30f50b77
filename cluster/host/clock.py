"""What time it is. The wall clock is for people and decides nothing: pace and patience go by the monotonic one."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Now, aware, UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds since some moment, by a clock that nobody sets."""
    return time.monotonic()


class Pace:
    """How often something is done, by a monotonic clock."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._at: float | None = None

    def due(self, now: float) -> bool:
        """Whether it is time to; the first time at once. now: monotonic, seconds."""
        if self._at is not None and now - self._at < self._every_s:
            return False
        self._at = now
        return True
