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


class Backoff:
    """What failed is tried again later, each time twice as late, by a monotonic clock; of several things, each."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._tries: dict[str, tuple[float, float]] = {}  # not before this moment; the pause that led to it

    def waits(self, what: str, now: float) -> bool:
        """Whether it is too early for another try. now: monotonic, seconds."""
        return what in self._tries and now < self._tries[what][0]

    def failed(self, what: str, now: float) -> float:
        """It did not work; in so many seconds it may again."""
        pause = min(self._tries[what][1] * 2, self._most_s) if what in self._tries else self._first_s
        self._tries[what] = (now + pause, pause)
        return pause

    def forget(self, what: str) -> None:
        """It worked, or nobody wants it any more."""
        self._tries.pop(what, None)
