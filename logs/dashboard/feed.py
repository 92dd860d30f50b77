"""Views for a dashboard, made in a thread of their own: a stalled file system never holds up the keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from terry.logs.view.view import View

#: The workspace is looked at so often (seconds), and read again at least so often, for ages and ETAs go on.
LOOK_S, REFRESH_S = 0.25, 5.0

#: So much of one core may go into views that nobody has asked for by a key: with ten thousand jobs there are fewer.
SHARE = 0.015

#: A look that takes longer than this is told to the person who watches (seconds).
STALLED_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the screen shows just now, beyond the rows of all jobs."""

    visible: frozenset[str] = field(default_factory=frozenset)  #: ids of the jobs whose rows are drawn
    detail: str | None = None  #: id of the job whose page is open


class ViewSource(Protocol):
    """Where views come from."""

    def stamp(self) -> object:
        """Changes when there is something new to show. Cheap."""
        ...

    def view(self, wanted: Wanted) -> View:
        """What there is to show. Raises OSError and ValueError where it cannot be read."""
        ...


class Feed(threading.Thread):
    """Keeps the newest View of a source."""

    def __init__(self, source: ViewSource, wake: Callable[[], None]) -> None:
        super().__init__(name="feed", daemon=True)
        self._source = source
        self._wake = wake
        self._ended = threading.Event()
        self._asked = threading.Event()
        self._wanted = Wanted()
        self._looked = time.monotonic()
        self.view: View | None = None
        self.problem = ""  #: why the workspace cannot be read, while it cannot

    def want(self, wanted: Wanted) -> None:
        """Tell what the screen shows; what is new on it is read at once."""
        if wanted != self._wanted:
            new = wanted.detail != self._wanted.detail or not wanted.visible <= self._wanted.visible
            self._wanted = wanted
            if new:
                self._asked.set()

    def end(self) -> None:
        """Stop looking. Does not wait: the file system may be stalled."""
        self._ended.set()
        self._asked.set()

    @property
    def stalled_s(self) -> float:
        """Seconds for which the present look has taken too long; 0 if it has not."""
        late = time.monotonic() - self._looked
        return late if late > STALLED_S else 0.0

    def run(self) -> None:
        """Look, and make a View when there is something new."""
        seen: object = None
        made, pause = -REFRESH_S, 0.0
        while not self._ended.is_set():
            self._looked = time.monotonic()
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                stamp = self._source.stamp()
                age = time.monotonic() - made
                if asked or age >= REFRESH_S or (stamp != seen and age >= pause):
                    begin = time.thread_time()
                    first = self.view is None
                    self.view = self._source.view(self._wanted)
                    seen, made = stamp, time.monotonic()
                    pause = 0.0 if first else (time.thread_time() - begin) / SHARE
                    self._set_problem("")
            except (OSError, ValueError) as error:
                self._set_problem(str(error))
            self._looked = time.monotonic()
            self._asked.wait(LOOK_S)

    def _set_problem(self, problem: str) -> None:
        self.problem = problem
        if not self._ended.is_set():
            self._wake()
