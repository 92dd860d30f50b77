"""A disk that does not answer is told from one that does; nobody waits for it."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

from terry.cluster.files.durable import Calls
from terry.cluster.host.disk import DiskProbe


class Slow(Calls):
    """Its fsync blocks until it is let go."""

    def __init__(self, error: OSError | None = None) -> None:
        self.begun, self.may_go = threading.Event(), threading.Event()
        self._error = error

    def fsync(self, descriptor: int) -> None:
        self.begun.set()
        self.may_go.wait()
        if self._error is not None:
            raise self._error


def answer(ask: Callable[[], float | None]) -> float:
    deadline = time.monotonic() + 30.0
    while (found := ask()) is None:
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
    return found


def test_a_disk_that_works_answers_and_nothing_is_left(tmp_path: Path) -> None:
    probe = DiskProbe(tmp_path)
    since = time.monotonic()
    assert probe.ask(since) is None, "the question has just been asked"
    took = answer(lambda: probe.ask(since))
    assert 0.0 <= took < 30.0
    assert probe.ask(since) == took, "the answer stands"
    assert list(tmp_path.iterdir()) == []


def test_while_it_hangs_there_is_no_answer_and_afterwards_it_is_known_how_long(tmp_path: Path) -> None:
    calls = Slow()
    probe = DiskProbe(tmp_path, calls)
    since = time.monotonic()
    probe.ask(since)
    assert calls.begun.wait(30.0)
    before = threading.active_count()
    assert probe.ask(since) is None
    assert threading.active_count() == before, "one question at a time"
    assert probe.silent_s > 0.0
    hung = time.monotonic() - since
    calls.may_go.set()
    assert answer(lambda: probe.ask(since)) >= hung - 0.1
    assert probe.silent_s == 0.0


def test_an_old_answer_says_nothing_of_later_times(tmp_path: Path) -> None:
    probe = DiskProbe(tmp_path)
    since = time.monotonic()
    answer(lambda: probe.ask(since))
    assert probe.ask(time.monotonic()) is None


def test_an_error_is_an_answer(tmp_path: Path) -> None:
    calls = Slow(OSError(errno.EIO, "Input/output error"))
    calls.may_go.set()
    probe = DiskProbe(tmp_path, calls)
    since = time.monotonic()
    probe.ask(since)
    assert answer(lambda: probe.ask(since)) < 30.0
    probe = DiskProbe(tmp_path / "no such folder")
    probe.ask(since)
    assert answer(lambda: probe.ask(since)) < 30.0
