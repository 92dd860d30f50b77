"""What may happen when: what is not allowed is refused by name and changes nothing, what is late is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.model import Allocation, AttemptEnd, EndReason, JobState, Resources
from terry.cluster.core.state_document import to_snapshot
from terry.cluster.core.state_machine import apply
from terry.cluster.core.transitions import is_stale, story
from terry.cluster.errors import InvalidTransition
from tests.helpers.queue_values import Queue, make_cpu, make_job


@pytest.fixture
def queue() -> Queue:
    return Queue(make_cpu(cores=2.0), make_cpu("there", cores=4.0))


def _refused(queue: Queue, event: e.Event, why: str) -> None:
    before = to_snapshot(queue.state)
    with pytest.raises(InvalidTransition, match=why):
        apply(queue.state, event)
    assert to_snapshot(queue.state) == before, "and nothing has changed"


def _placed(queue: Queue, attempt: int, share: float = 1.0, device: str = "here:cpu", job_id: str = "s-1") -> e.Placed:
    grant = Allocation(device=device, node=device.partition(":")[0], share=share)
    return e.Placed(time=queue.now, job_id=job_id, attempt=attempt, allocation=grant)


def test_a_job_is_submitted_once(queue: Queue) -> None:
    queue.submit("s-1")
    _refused(queue, e.Submitted(time=queue.now, job=make_job("s-1")), "s-1 was submitted before")


def test_each_controller_has_a_newer_epoch(queue: Queue) -> None:
    queue.do(e.ControllerStarted(time=queue.now, epoch=2, host="head", pid=1))
    for epoch in (1, 2):
        started = e.ControllerStarted(time=queue.now, epoch=epoch, host="head", pid=1)
        _refused(queue, started, f"epoch {epoch} after epoch 2")
    queue.do(e.ControllerStarted(time=queue.now, epoch=3, host="head", pid=1))
    assert queue.state.epoch == 3


def test_a_job_is_placed_on_a_device_that_is_known_and_has_room(queue: Queue) -> None:
    queue.submit("s-1")
    _refused(queue, _placed(queue, attempt=2), "placed as attempt 2; s-1 is pending")
    _refused(queue, _placed(queue, attempt=0), "placed as attempt 0")
    _refused(queue, _placed(queue, attempt=1, device="gone:cpu"), "'gone:cpu', which was never seen")
    _refused(queue, _placed(queue, attempt=1, share=2.5), "here:cpu, which has no room for 2.5")
    queue.do(_placed(queue, attempt=1, share=2.0))
    queue.submit("s-2")
    _refused(queue, _placed(queue, attempt=1, share=0.1, job_id="s-2"), "no room for 0.1")


def test_shares_that_fill_a_device_but_for_the_rounding_of_floats_have_room(queue: Queue) -> None:
    for number in range(20):
        queue.submit(f"s-{number}", resources=Resources(cpus=0.1))
        queue.do(_placed(queue, attempt=1, share=0.1, job_id=f"s-{number}"))
    assert queue.state.used("here:cpu") == pytest.approx(2.0)
    queue.submit("t-1")
    _refused(queue, _placed(queue, attempt=1, share=0.01, job_id="t-1"), "no room")


@pytest.mark.parametrize("beyond", [-1e-6, 0.0, 1e-6])
def test_so_little_too_much_is_the_rounding_of_floats(queue: Queue, beyond: float) -> None:
    queue.submit("s-1")
    queue.do(_placed(queue, attempt=1, share=2.0 + beyond))
    assert queue["s-1"].state is JobState.STARTING


def test_who_wants_a_device_to_himself_gets_an_empty_one_only(queue: Queue) -> None:
    queue.submit("s-1", resources=Resources(cpus=1, exclusive=True))
    queue.submit("s-2")
    queue.place("s-2")
    _refused(queue, _placed(queue, attempt=1), "here:cpu, which has no room for 1")
    queue.do(_placed(queue, attempt=1, device="there:cpu"))


def test_news_of_another_attempt_is_no_news_of_this_one(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.end("s-1", EndReason.NODE_LOST)
    queue.place("s-1")
    end = AttemptEnd(reason=EndReason.SUCCESS)
    for attempt in (1, 3):
        for event in (
            e.AttemptStarted(time=queue.now, job_id="s-1", attempt=attempt, pid=9),
            e.AttemptEnded(time=queue.now, job_id="s-1", attempt=attempt, end=end),
            e.LaunchFailed(time=queue.now, job_id="s-1", attempt=attempt, message="no such file"),
        ):
            assert is_stale(queue.state, event)
            _refused(queue, event, f"{type(event).__name__} of attempt {attempt}; s-1 is starting")
    queue.do(e.AttemptStarted(time=queue.now, job_id="s-1", attempt=2, pid=9))
    assert queue["s-1"].state is JobState.RUNNING


def test_a_start_that_is_told_twice_is_old_news(queue: Queue) -> None:
    """An agent tells the new controller again of all that it has running."""
    queue.submit("s-1")
    queue.place("s-1")
    started = e.AttemptStarted(time=queue.now, job_id="s-1", attempt=1, pid=9)
    assert not is_stale(queue.state, started)
    queue.do(e.PreemptRequested(time=queue.now, job_id="s-1"))
    assert not is_stale(queue.state, started), "it may still start while it is asked to stop"
    queue.do(started)
    assert is_stale(queue.state, started)


def test_dependencies_are_met_or_failed_only_where_they_are(queue: Queue) -> None:
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    met = e.DependenciesMet(time=queue.now, job_id="s-2")
    failed = e.DependencyFailed(time=queue.now, job_id="s-2", dependency="s-1")
    assert is_stale(queue.state, met)
    assert is_stale(queue.state, failed)
    _refused(queue, met, "1 dependencies are open; s-2 is waiting")
    _refused(queue, failed, "dependency s-1 may still be completed; s-2 is waiting")


def test_a_job_that_can_do_without_a_dependency_does_not_fail_with_it(queue: Queue) -> None:
    queue.submit("a-0")
    queue.submit("a-1")
    queue.submit("s-1", ["a-0", "a-1"], minimum=1)
    queue.do(e.CancelRequested(time=queue.now, job_id="a-0"))
    failed = e.DependencyFailed(time=queue.now, job_id="s-1", dependency="a-0")
    assert is_stale(queue.state, failed)
    _refused(queue, failed, "dependency a-0 may still be completed; s-1 is waiting")


def test_a_job_of_which_nobody_heard_is_named(queue: Queue) -> None:
    cancel = e.CancelRequested(time=queue.now, job_id="s-9")
    assert is_stale(queue.state, cancel)
    _refused(queue, cancel, "CancelRequested: there is no job 's-9'")


def test_a_device_of_which_nobody_heard_is_named(queue: Queue) -> None:
    for event in (
        e.DeviceBlocked(time=queue.now, device_id="gone:cpu", reason="bob"),
        e.DeviceGone(time=queue.now, device_id="gone:cpu", reason="unplugged"),
        e.DeviceDrained(time=queue.now, device_id="gone:cpu", reason="dust"),
        e.DeviceUndrained(time=queue.now, device_id="gone:cpu"),
    ):
        _refused(queue, event, "no device 'gone:cpu' was ever seen")
    assert is_stale(queue.state, e.DeviceBlocked(time=queue.now, device_id="gone:cpu", reason="bob"))
    assert is_stale(queue.state, e.DeviceGone(time=queue.now, device_id="gone:cpu", reason="unplugged"))


# devices: the journal takes in what is new, and only that


def test_a_device_is_seen_once(queue: Queue) -> None:
    known = make_cpu(cores=2.0)
    assert is_stale(queue.state, e.DeviceSeen(time=queue.now, device=known))
    for news in (
        e.DeviceSeen(time=queue.now, device=make_cpu("new")),
        e.DeviceSeen(time=queue.now, device=known, blocked="bob is on it"),
        e.DeviceSeen(time=queue.now, device=replace(known, agent="another")),
        e.DeviceSeen(time=queue.now, device=make_cpu(cores=2.0, incarnation=2)),
    ):
        assert not is_stale(queue.state, news)
        queue.do(news)
        assert is_stale(queue.state, news)


def test_a_device_that_is_back_is_news(queue: Queue) -> None:
    seen = e.DeviceSeen(time=queue.now, device=make_cpu(cores=2.0))
    for given_back in (False, True):
        queue.do(e.DeviceGone(time=queue.now, device_id="here:cpu", reason="unplugged", given_back=given_back))
        assert not is_stale(queue.state, seen)
        queue.do(seen)
        assert queue.state.free("here:cpu") == 2.0


def test_a_device_is_blocked_for_a_reason_once(queue: Queue) -> None:
    bob, nobody = (e.DeviceBlocked(time=queue.now, device_id="here:cpu", reason=who) for who in ("bob", ""))
    assert is_stale(queue.state, nobody)
    assert not is_stale(queue.state, bob)
    queue.do(bob)
    assert is_stale(queue.state, bob)
    assert not is_stale(queue.state, nobody)


def test_a_device_is_gone_once_and_may_be_given_back_after_that(queue: Queue) -> None:
    gone, given = (
        e.DeviceGone(time=queue.now, device_id="here:cpu", reason="away", given_back=given_back)
        for given_back in (False, True)
    )
    assert not is_stale(queue.state, gone)
    queue.do(gone)
    assert is_stale(queue.state, gone)
    assert not is_stale(queue.state, given), "that it was given back says more"
    queue.do(given)
    assert is_stale(queue.state, given)
    assert is_stale(queue.state, gone)


def test_a_node_is_lost_with_what_is_on_it(queue: Queue) -> None:
    """One that is gone already is lost all the same, as long as a job is there or it counts as lent."""
    queue.submit("s-1")
    queue.start("s-1")
    lost = e.NodeLost(time=queue.now, node="here", node_id="here@1")
    assert not is_stale(queue.state, lost)
    queue.do(e.DeviceGone(time=queue.now, device_id="here:cpu", reason="no answer"))
    assert not is_stale(queue.state, lost)
    queue.do(lost)
    assert queue["s-1"].state is JobState.PENDING
    assert is_stale(queue.state, lost)
    queue.do(e.DeviceGone(time=queue.now, device_id="here:cpu", reason="", given_back=True))
    assert not is_stale(queue.state, lost)


@pytest.mark.parametrize(("node", "node_id"), [("here", "here@0"), ("there", "here@1"), ("nowhere", "nowhere@1")])
def test_an_earlier_life_of_a_node_is_none_of_its_present_one(queue: Queue, node: str, node_id: str) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    lost = e.NodeLost(time=queue.now, node=node, node_id=node_id)
    assert is_stale(queue.state, lost)
    queue.do(lost)
    assert queue["s-1"].state is JobState.RUNNING
    assert all(known.online for known in queue.state.devices.values())


def test_what_a_person_asks_of_a_device_or_a_job_is_never_old_news(queue: Queue) -> None:
    queue.submit("s-1")
    for event in (
        e.DeviceDrained(time=queue.now, device_id="here:cpu", reason="dust"),
        e.DeviceUndrained(time=queue.now, device_id="here:cpu"),
        e.PriorityChanged(time=queue.now, job_id="s-1", priority=3),
        e.PolicyApplied(time=queue.now, half_life_s=60.0),
        e.RequestHandled(time=queue.now, request="r-1"),
        e.Submitted(time=queue.now, job=make_job("s-2")),
    ):
        assert not is_stale(queue.state, event)


def test_an_errors_story_names_the_newest_attempts_and_what_was_done(queue: Queue) -> None:
    queue.submit("s-1")
    for _ in range(6):
        queue.start("s-1")
        queue.end("s-1", EndReason.NODE_LOST)
    queue.start("s-1")
    lines = story(queue["s-1"]).splitlines()
    assert lines[0].startswith("s-1 is running (attempt 7, series 1)")
    assert len(lines) == 6, "the newest five"
    assert lines[1].startswith("  attempt 3 on here:cpu, placed 2026-01-01 00:")
    assert lines[1].endswith(": node_lost: starts again")
    assert lines[-1].endswith(": not ended")
