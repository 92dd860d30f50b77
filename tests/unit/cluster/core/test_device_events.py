"""Drained devices: the jobs on them move at once, and when that happened can be told."""

from __future__ import annotations

from datetime import timedelta

from terry.cluster.core import events as e
from terry.cluster.core.events import Stop
from terry.cluster.core.model import EndReason, JobState, StopGoal
from terry.cluster.core.state_document import from_snapshot, to_snapshot
from terry.cluster.core.state_machine import apply, due
from tests.helpers.queue_values import Queue, make_cpu, make_gpu


def _two_running() -> Queue:
    queue = Queue(make_cpu(cores=4), make_cpu("there"))
    for job_id in ("s-1", "s-2"):
        queue.submit(job_id)
    queue.start("s-1")
    queue.place("s-2")
    queue.submit("s-3")
    queue.start("s-3", "there:cpu")
    queue.now += timedelta(minutes=5)
    return queue


def test_a_drain_moves_the_jobs_of_the_device_at_that_moment() -> None:
    queue = _two_running()
    drained = e.DeviceDrained(time=queue.now, device_id="here:cpu", reason="dust")
    asked = queue.do(drained)
    assert asked == [Stop(job_id=j, attempt=1, goal=StopGoal.PREEMPT) for j in ("s-1", "s-2")]
    for job_id in ("s-1", "s-2"):
        assert queue[job_id].state is JobState.STOPPING
        assert queue[job_id].changed_at == drained.time
        assert queue[job_id].reason == "here:cpu is drained: dust"
    assert queue["s-3"].state is JobState.RUNNING


def test_a_drain_whose_moves_never_reached_the_journal_is_made_up_for() -> None:
    """The controller died between the drain and what follows from it; its successor knows no other time than theirs."""
    queue = _two_running()
    apply(queue.state, e.DeviceDrained(time=queue.now, device_id="here:cpu", reason="dust"))
    again = from_snapshot(to_snapshot(queue.state))
    assert due(again) == [
        e.PreemptRequested(time=queue[j].changed_at or queue.now, job_id=j, reason="here:cpu is drained: dust")
        for j in ("s-1", "s-2")
    ]


def test_one_other_device_is_enough_to_take_over_from_a_suspicious_one() -> None:
    queue = Queue(make_cpu(), make_cpu("there"), make_cpu("gone"), make_gpu())
    queue.do(e.DeviceGone(time=queue.now, device_id="gone:cpu", reason="unplugged"))
    for number in range(3):
        queue.submit(f"s-{number}")
        queue.start(f"s-{number}")
        queue.end(f"s-{number}", EndReason.CRASHED)
    known = queue.state.devices["here:cpu"]
    assert known.drained
    assert known.drain_reason == "3 different jobs crashed on it within an hour"
    assert not queue.state.devices["there:cpu"].drained


def test_a_device_that_is_seen_again_no_longer_counts_as_given_back() -> None:
    queue = Queue(make_cpu())
    queue.do(e.DeviceGone(time=queue.now, device_id="here:cpu", reason="the queue wants it", given_back=True))
    assert queue.state.devices["here:cpu"].given_back
    queue.do(e.DeviceSeen(time=queue.now, device=make_cpu()))
    assert not queue.state.devices["here:cpu"].given_back
