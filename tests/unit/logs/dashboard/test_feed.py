"""The thread that makes views: keys never wait for a file system."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from terry.logs.dashboard import feed as feed_module
from terry.logs.dashboard.feed import Feed, Wanted
from terry.logs.view.view import View
from tests.helpers.views import view


class FakeSource:
    """A source that a test changes, lets fail, or lets hang."""

    def __init__(self) -> None:
        self.changes = 0
        self.error: Exception | None = None
        self.may_go = threading.Event()
        self.may_go.set()
        self.asked: list[Wanted] = []

    def stamp(self) -> object:
        """What a test counted."""
        self.may_go.wait(10)
        return self.changes

    def view(self, wanted: Wanted) -> View:
        """Or what is wrong."""
        if self.error is not None:
            raise self.error
        self.asked.append(wanted)
        return view(notice=f"change {self.changes}")


@pytest.fixture
def source() -> FakeSource:
    """A source that works."""
    return FakeSource()


@pytest.fixture
def start(source: FakeSource) -> Iterator[Callable[[], tuple[Feed, threading.Event]]]:
    """Starts a feed; the event is set at each wake."""
    feeds = []

    def begin() -> tuple[Feed, threading.Event]:
        woken = threading.Event()
        feed = Feed(source, woken.set)
        feeds.append(feed)
        feed.start()
        return feed, woken

    yield begin
    for feed in feeds:
        feed.end()
        source.may_go.set()
        feed.join(10)


Start = Callable[[], tuple[Feed, threading.Event]]


def test_a_change_makes_a_view(source: FakeSource, start: Start) -> None:
    """And wakes whoever draws it."""
    feed, woken = start()
    assert woken.wait(10)
    woken.clear()
    source.changes = 7
    assert woken.wait(10)
    assert feed.view is not None
    assert feed.view.notice == "change 7"


def test_what_is_newly_visible_is_read_at_once(source: FakeSource, start: Start) -> None:
    """Without any change on disk."""
    feed, woken = start()
    assert woken.wait(10)
    woken.clear()
    feed.want(Wanted(visible=frozenset({"cells-0001"})))
    assert woken.wait(10)
    assert source.asked[-1].visible == {"cells-0001"}


def test_an_error_is_shown_and_goes_away(source: FakeSource, start: Start) -> None:
    """The last view stays while the workspace cannot be read."""
    feed, woken = start()
    assert woken.wait(10)
    woken.clear()
    source.error = OSError("Stale file handle")
    source.changes = 1
    assert woken.wait(10)
    assert "Stale" in feed.problem
    assert feed.view is not None
    source.error = None
    woken.clear()
    assert woken.wait(10)
    assert feed.problem == ""


def test_a_stalled_file_system_is_noticed(source: FakeSource, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the feed hangs, whoever draws can say for how long."""
    monkeypatch.setattr(feed_module, "STALLED_S", 0.0)
    feed, woken = start()
    assert woken.wait(10)
    source.may_go.clear()
    assert feed.stalled_s > 0
    assert feed.view is not None
