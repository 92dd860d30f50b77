"""Who has used how much: exact at any moment, forgotten only where it is nothing any more."""

from __future__ import annotations

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.accounts import Account, Ledger
from terry.cluster.core.model import DeviceKind
from tests.helpers.queue_values import Queue, at, make_cpu

GPU = (DeviceKind.GPU, "ann", "")


def test_fractions_of_a_second_count() -> None:
    ledger = Ledger(half_life_s=3600.0)
    ledger.change(DeviceKind.GPU, "ann", "s", 1.0, 1, at=0.0)
    assert ledger.used(GPU, 0.5) == pytest.approx(0.5, rel=1e-3)
    for tick in range(1, 21):  # a job that is moved every half a second has used no less
        ledger.change(DeviceKind.GPU, "ann", "s", -1.0, -1, at=tick / 2)
        ledger.change(DeviceKind.GPU, "ann", "s", 1.0, 1, at=tick / 2)
    assert ledger.used(GPU, 10.0) == pytest.approx(10.0, rel=1e-2)


def test_a_clock_that_was_set_back_takes_nothing_away() -> None:
    ledger = Ledger(half_life_s=3600.0)
    ledger.change(DeviceKind.GPU, "ann", "s", 1.0, 1, at=100.0)
    ledger.change(DeviceKind.GPU, "ann", "s", -1.0, -1, at=40.0)
    assert ledger.used(GPU, 50.0) == 0.0
    assert ledger.rate(GPU) == 0.0


def test_what_is_below_a_second_of_a_device_is_forgotten() -> None:
    ledger = Ledger()
    for owner, value in (("ann", 1.0), ("bob", 0.99)):
        key = (DeviceKind.GPU, owner, "")
        ledger.accounts[key] = Account(kind=DeviceKind.GPU, owner=owner, sweep="", value=value, at=5.0)
    ledger.forget(5.0)
    assert set(ledger.accounts) == {GPU}


def test_whoever_has_something_running_is_not_forgotten() -> None:
    ledger = Ledger()
    ledger.change(DeviceKind.GPU, "ann", "s", 0.5, 1, at=0.0)
    ledger.forget(0.0)
    assert ledger.rate(GPU) == 0.5
    assert ledger.jobs("ann", "s") == 1


def test_a_new_controller_forgets_what_is_long_ago() -> None:
    """So that a workspace of years has as many accounts as there is recent work."""
    queue = Queue(make_cpu())
    queue.submit("s-1")
    queue.start("s-1")
    queue.end("s-1")
    queue.do(e.ControllerStarted(time=queue.now, epoch=1, host="head", pid=1))
    assert queue.state.ledger.accounts
    queue.do(e.ControllerStarted(time=at(30 * 86_400), epoch=2, host="head", pid=1))
    assert not queue.state.ledger.accounts
