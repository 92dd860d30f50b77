"""Who has to leave: for each job that goes first another device, and nobody for one that has a place already."""

from __future__ import annotations

from terry.cluster.core import events as e
from terry.cluster.core.model import Resources
from terry.cluster.core.policy import Policy, Preemption
from terry.cluster.scheduling.plan import plan
from tests.helpers.queue_values import Queue, at, make_cpu

PREEMPT = Policy(preemption=Preemption(difference=5, after_s=60.0, at_most=2))


def _leaving(queue: Queue) -> list[tuple[str, str]]:
    """Who is to leave for whom."""
    made = plan(queue.state, at(500), PREEMPT)
    return sorted((leave.job_id, leave.reason.split()[3].rstrip(",")) for leave in made.preemptions)


def _busy(*names: str) -> Queue:
    queue = Queue(*(make_cpu(name, cores=1) for name in names))
    for name in names:
        queue.submit(f"low-{name}")
        queue.start(f"low-{name}", f"{name}:cpu")
    return queue


def test_each_important_job_gets_a_device_of_its_own() -> None:
    queue = _busy("aa", "bb", "cc")
    queue.submit("high-1", priority=9)
    queue.submit("high-2", priority=9)
    assert _leaving(queue) == [("low-aa", "high-1"), ("low-bb", "high-2")]
    queue.submit("other-1", priority=9, owner="bob", resources=Resources(cpus=0.5))
    assert {job_id for job_id, _ in _leaving(queue)} == {"low-aa", "low-bb", "low-cc"}


def test_nobody_leaves_a_device_that_the_job_may_not_use() -> None:
    queue = _busy("aa", "bb", "cc", "dd")
    queue.do(e.DeviceBlocked(time=queue.now, device_id="aa:cpu", reason="bob is on it"))
    queue.do(e.DeviceGone(time=queue.now, device_id="bb:cpu", reason="no answer"))
    queue.submit("high-1", priority=9, resources=Resources(cpus=1, node="[abd]*"))
    assert _leaving(queue) == [("low-dd", "high-1")]


def test_nobody_leaves_for_a_job_that_is_placed_in_the_same_plan() -> None:
    queue = _busy("aa")
    queue.do(e.DeviceSeen(time=queue.now, device=make_cpu("bb", cores=1)))
    queue.submit("high-1", priority=9)
    for when in (at(500), queue.now):
        made = plan(queue.state, when, PREEMPT)
        assert [p.job_id for p in made.placements] == ["high-1"]
        assert made.preemptions == ()
        assert made.wake_at is None, "nor is there anything to look at again"
