"""The dashboard alive: views from a feed, keys from the terminal, frames at most four times a second."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from terry.logs.dashboard.feed import Feed, ViewSource, Wanted
from terry.logs.dashboard.frame import Size, draw, job_rows, page_scroll
from terry.logs.dashboard.screen import Mode, Request, Screen, press, rows, scrolled
from terry.logs.dashboard.terminal import Terminal, opened
from terry.logs.format import duration
from terry.logs.view.view import ControllerView, JobView, View

#: Frames are at least so far apart (seconds), but for the first one after a key.
_FRAME_S = 0.25

#: So long nothing is drawn while the first view is being read (seconds); then that is said.
_FIRST_VIEW_S = 0.5

#: The screen looks for itself so often whether the feed is stalled (seconds).
_IDLE_S = 2.0


def show(
    source: ViewSource,
    ask: Callable[[Request], str],
    is_done: Callable[[View], bool] = lambda _: False,
) -> View | None:
    """Show the dashboard until somebody leaves it, or it is done. Returns the last View.

    ask: sends a request that was confirmed, and says what came of it.
    is_done: whether what is waited for has ended; asked with each view.
    """
    with opened() as terminal:
        feed = Feed(source, terminal.wake)
        feed.start()
        try:
            return _Dashboard(terminal, feed, ask, is_done).run()
        finally:
            feed.end()


class _Dashboard:
    def __init__(
        self,
        terminal: Terminal,
        feed: Feed,
        ask: Callable[[Request], str],
        is_done: Callable[[View], bool],
    ) -> None:
        self._terminal = terminal
        self._feed = feed
        self._ask = ask
        self._is_done = is_done
        self._console = Console()
        self._screen = Screen()
        self._listed: list[JobView] = []
        self._listed_of: tuple[object, ...] = ()
        self._drawn: tuple[object, ...] = ()
        self._drawn_at = time.monotonic() + _FIRST_VIEW_S  # sooner, if the feed has its first view sooner
        self._nothing = View(now=datetime.now(UTC), workspace="", controller=ControllerView(alive=False))
        self._has_view = False
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self) -> View | None:
        """Draw and listen."""
        pressed: list[str] = []
        while True:
            self._take_answers()
            view = self._feed.view
            left = self._drawn_at + _FRAME_S - time.monotonic()
            if pressed or left <= 0 or (view is not None and not self._has_view):
                left, self._has_view = _IDLE_S, view is not None
                self._list(view or self._nothing)
                self._draw(view or self._nothing)
            if view is not None and self._is_done(view):
                return view
            pressed = self._terminal.wait(left)
            for key in pressed:
                self._press(key)
                if self._screen.quit:
                    return self._feed.view

    def _size(self) -> Size:
        return Size(*self._terminal.size)

    def _press(self, key: str) -> None:
        if key == "redraw":
            self._terminal.redraw()
            self._drawn = ()
            return
        view = self._feed.view or self._nothing
        self._list(view)
        self._screen, request = press(self._screen, key, self._listed, job_rows(view, self._size()))
        if request is not None:
            # In a thread: the file system may be stalled, and keys must not be.
            threading.Thread(target=self._send, args=(request,), name="request", daemon=True).start()

    def _send(self, request: Request) -> None:
        self._answers.put(self._ask(request))
        self._terminal.wake()

    def _take_answers(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._screen = replace(self._screen, message=self._answers.get_nowait())

    def _list(self, view: View) -> None:
        """Filter and sort anew, where the view or the choice has changed."""
        of = (view, self._screen.sort, self._screen.filter, self._screen.typed, self._screen.mode)
        if not self._listed_of or of[0] is not self._listed_of[0] or of[1:] != self._listed_of[1:]:
            self._listed, self._listed_of = rows(view, self._screen), of

    def _draw(self, view: View) -> None:
        size = self._size()
        height = job_rows(view, size)
        self._screen = scrolled(self._screen, self._listed, height)
        if self._screen.mode is Mode.PAGE and self._screen.scroll:
            self._screen = replace(self._screen, scroll=page_scroll(view, self._screen, size))
        with_notice = self._with_notice(view)
        drawn = (view, self._screen, size, with_notice.notice)
        if self._drawn and drawn[0] is self._drawn[0] and drawn[1:] == self._drawn[1:]:
            return
        shown = self._listed[self._screen.top : self._screen.top + height]
        detail = self._screen.cursor if self._screen.page_is_open else None
        self._feed.want(Wanted(visible=frozenset(job.id for job in shown), detail=detail))
        self._terminal.show(self._rendered(draw(with_notice, self._screen, self._listed, size)))
        self._drawn, self._drawn_at = drawn, time.monotonic()

    def _with_notice(self, view: View) -> View:
        """The view, with a word on why it may be old."""
        if self._feed.problem:
            return replace(view, notice=f"cannot be read now: {self._feed.problem}")
        stalled = self._feed.stalled_s
        if stalled:
            return replace(view, notice=f"the file system has not answered for {duration(stalled)}")
        return (
            replace(view, now=datetime.now(UTC), notice="reading the workspace ...") if view is self._nothing else view
        )

    def _rendered(self, lines: list[Text]) -> list[str]:
        """The frame as the terminal takes it: colours as it can show them, each line's rest erased."""
        width = self._terminal.size[0]
        rendered = []
        for line in lines:
            # On a full line the cursor stands on its last character, and erasing would take that away.
            erase = "\x1b[K" if line.cell_len < width else ""
            with self._console.capture() as captured:
                self._console.print(line, end=erase, soft_wrap=True)
            rendered.append(captured.get())
        return rendered
