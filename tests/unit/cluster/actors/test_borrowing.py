"""Which devices of a Ray cluster of others are taken, and which are given back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.cluster.actors.borrowing import Slot, SlotPlan, plan_slots
from terry.cluster.core import events as e
from terry.cluster.core.model import Device, DeviceKind, Resources
from terry.cluster.core.policy import Policy
from terry.cluster.core.transitions import is_stale
from terry.cluster.scheduling.demand import DeviceLoad, IdleWatch, Need, WaitingJobs
from terry.cluster.scheduling.reasons import why_waiting
from tests.helpers.queue_values import T0, Queue, at, make_cpu, make_gpu

IDLE = 600.0


def slot(index: int = 0, **changes: Any) -> Slot:
    values: dict[str, Any] = {
        "name": f"agent-gpu{index}",
        "node": "quattro",
        "node_id": "quattro@1",
        "kind": DeviceKind.GPU,
        "amount": 1.0,
    }
    return Slot(**{**values, **changes})


def taken(index: int = 0, device: str | None = None, since: float = 0.0) -> Slot:
    return slot(index, device=f"quattro:{index}" if device is None else device, taken_at=at(since), tried=True)


def need(now: float = 1000.0, devices: int = 2, **changes: Any) -> Need:
    seen = tuple(make_gpu(index=i) for i in range(devices))
    return Need(**{"time": at(now), "devices": seen, **changes})


def load(index: int, free: float = 1.0, idle_since: float | None = 0.0) -> DeviceLoad:
    since = None if idle_since is None else at(idle_since)
    return DeviceLoad(device_id=f"quattro:{index}", free=free, idle_since=since)


def gpus(count: int, share: float = 1.0, **names: str) -> WaitingJobs:
    return WaitingJobs(kind=DeviceKind.GPU, share=share, count=count, **names)


def test_a_node_that_was_never_seen_is_taken_once() -> None:
    assert plan_slots([slot()], need(devices=0), IDLE).take == ("agent-gpu0",)
    assert plan_slots([slot(tried=True)], need(devices=0), IDLE) == SlotPlan(), "somebody else held it all the time"
    assert plan_slots([slot()], need(), IDLE) == SlotPlan(), "what it has is known"


def test_as_many_are_taken_as_jobs_wait_for() -> None:
    slots = [slot(i) for i in range(4)]
    assert len(plan_slots(slots, need(waiting=(gpus(3),)), IDLE).take) == 3
    assert len(plan_slots(slots, need(waiting=(gpus(3, share=0.25),)), IDLE).take) == 1
    assert len(plan_slots(slots, need(waiting=(gpus(9),)), IDLE).take) == 4


def test_what_is_free_or_on_its_way_counts() -> None:
    waits = (gpus(2),)
    coming, free = taken(0, device=""), taken(1)
    assert plan_slots([coming, free, slot(2)], need(waiting=waits, loads=(load(1),)), IDLE) == SlotPlan()
    busy = need(waiting=waits, loads=(load(1, free=0.0, idle_since=None),))
    assert plan_slots([coming, free, slot(2)], busy, IDLE).take == ("agent-gpu2",)


def test_only_what_could_take_the_jobs() -> None:
    for jobs in (
        gpus(1, node="seawolf*"),
        gpus(1, device="A100"),
        WaitingJobs(kind=DeviceKind.CPU, share=1.0, count=1),
        gpus(1, share=2.0),
    ):
        assert plan_slots([slot()], need(waiting=(jobs,)), IDLE) == SlotPlan(), jobs
    labelled = slot(labels=("fast",))
    assert plan_slots([labelled], need(waiting=(gpus(1, node="fast", device="H100"),)), IDLE).take


def test_idle_ones_are_given_back_after_a_while() -> None:
    both = [taken(0), taken(1)]
    loads = (load(0, idle_since=399.0), load(1, idle_since=401.0))
    assert plan_slots(both, need(loads=loads), IDLE) == SlotPlan(give_back=("agent-gpu0",))
    assert plan_slots(both, need(loads=loads, waiting=(gpus(1),)), IDLE) == SlotPlan(), "something waits for it"
    assert plan_slots(both, need(loads=loads, waiting=(gpus(1, device="A100"),)), IDLE).give_back
    assert plan_slots(both, need(loads=(load(0, idle_since=None),)), IDLE) == SlotPlan(), "in use; and away for now"


def test_one_that_still_waits_for_its_device_is_given_up_when_nobody_needs_it() -> None:
    assert plan_slots([taken(device="", since=399.0)], need(), IDLE).give_back == ("agent-gpu0",)
    assert plan_slots([taken(device="", since=401.0)], need(), IDLE) == SlotPlan()
    assert plan_slots([taken(device="", since=0.0)], need(waiting=(gpus(1),)), IDLE) == SlotPlan()


def test_a_device_with_a_job_is_never_without_an_agent() -> None:
    assert plan_slots([slot()], need(held=frozenset({"quattro:0"})), IDLE).take == ("agent-gpu0",)
    waits = taken(device="", since=0.0)
    assert plan_slots([waits], need(held=frozenset({"quattro:0"})), IDLE) == SlotPlan()


@given(
    states=st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 1000)), min_size=1, max_size=6),
    count=st.integers(0, 9),
    share=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_carried_out_and_asked_again_it_changes_nothing(
    states: list[tuple[bool, bool, float]], count: int, share: float
) -> None:
    slots, loads = [], []
    for i, (is_taken, is_busy, since) in enumerate(states):
        slots.append(taken(i) if is_taken else slot(i))
        if is_taken:
            loads.append(load(i, free=0.0 if is_busy else 1.0, idle_since=None if is_busy else since))
    wanted = need(devices=len(slots), loads=tuple(loads), waiting=(gpus(count, share),) if count else ())
    plan = plan_slots(slots, wanted, IDLE)
    assert not set(plan.take) & set(plan.give_back)
    after = [
        slot(i, tried=True)
        if each.name in plan.give_back
        else taken(i, device="", since=1000.0)
        if each.name in plan.take
        else each
        for i, each in enumerate(slots)
    ]
    left = {each.device for each in after}
    again = need(
        devices=len(slots),
        loads=tuple(each for each in loads if each.device_id in left),
        waiting=wanted.waiting,
    )
    assert plan_slots(after, again, IDLE) == SlotPlan()


def test_the_queue_tells_what_is_needed() -> None:
    queue, watch = Queue(make_cpu(cores=2.0)), IdleWatch()
    queue.submit("s-1", resources=Resources(cpus=2))
    queue.place("s-1", share=2)
    queue.submit("s-2", resources=Resources(gpus=1))
    found = watch.need(queue.state, T0, Policy())
    assert (found.held, [jobs.kind for jobs in found.waiting]) == ({"here:cpu"}, [DeviceKind.GPU])
    assert found.loads == (DeviceLoad(device_id="here:cpu", free=0.0),)


def _given_back(device: Device) -> Queue:
    queue = Queue(device)
    queue.do(e.DeviceGone(time=queue.now, device_id=device.id, reason="idle", given_back=True))
    return queue


def test_a_device_that_was_given_back_is_no_problem_and_comes_again() -> None:
    queue = _given_back(make_gpu())
    queue.submit("s-1", resources=Resources(gpus=1))
    said = "waits for a GPU: quattro:0 is taken again as soon as nobody else holds it in Ray"
    assert why_waiting(queue.state, "s-1", queue.now) == said
    known = queue.state.devices["quattro:0"]
    assert (known.online, known.given_back) == (False, True)
    queue.do(e.DeviceSeen(time=queue.now, device=make_gpu()))
    known = queue.state.devices["quattro:0"]
    assert (known.online, known.given_back) == (True, False)
    assert why_waiting(queue.state, "s-1", queue.now) == "starts in a moment"


def test_once_its_node_is_dead_it_was_not_given_back_but_lost() -> None:
    queue = _given_back(make_gpu())
    lost = e.NodeLost(time=queue.now, node="quattro", node_id="quattro@1")
    assert not is_stale(queue.state, lost)
    queue.do(lost)
    assert not queue.state.devices["quattro:0"].given_back
    assert is_stale(queue.state, lost)


@pytest.mark.parametrize(("before", "after", "stale"), [(False, True, False), (True, True, True), (True, False, True)])
def test_of_a_device_that_is_away_it_can_still_be_said_that_it_was_given_back(
    before: bool, after: bool, stale: bool
) -> None:
    queue = Queue(make_gpu())
    queue.do(e.DeviceGone(time=queue.now, device_id="quattro:0", reason="", given_back=before))
    assert (
        is_stale(queue.state, e.DeviceGone(time=queue.now, device_id="quattro:0", reason="", given_back=after)) is stale
    )
