"""The queue in memory: its indexes follow from its jobs and devices, however these came about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.model import Device, DeviceKind, EndReason, JobState, Resources
from terry.cluster.core.state import State
from terry.cluster.core.state_document import validate
from terry.cluster.core.state_machine import apply
from tests.helpers.queue_values import Queue, make_cpu, make_gpu


def test_a_replay_leaves_out_what_only_planning_looks_at_until_it_is_over() -> None:
    queue = Queue(make_cpu(cores=4), make_gpu())
    for number, priority in enumerate((0, 3, 1, 0)):
        queue.submit(f"s-{number}", priority=priority, owner="ann" if number % 2 else "bob")
    queue.start("s-0")
    queue.end("s-0", EndReason.NODE_LOST)
    queue.start("s-1")
    replayed = State()
    replayed.defer()
    for event in queue.events:
        apply(replayed, event)
        assert not replayed.pending
        assert not replayed.demands
        assert not replayed.free_capacity.free
    replayed.settle()
    validate(replayed)
    assert vars(replayed) == vars(queue.state)


@pytest.mark.parametrize("changes", [{"model": "NVIDIA A100"}, {"node": "lab", "node_id": "lab@1"}, {"capacity": 2.0}])
@pytest.mark.parametrize("others", [(), ("quattro:1",)])
def test_a_device_that_comes_back_as_another_one_is_found_only_as_that(
    changes: dict[str, object], others: tuple[str, ...]
) -> None:
    """A GPU was exchanged, or its node renamed: no plan may still see the old one."""
    queue = Queue(make_gpu(index=0), *(make_gpu(index=int(other[-1])) for other in others))
    device: Device = replace(make_gpu(index=0), **changes)  # type: ignore[arg-type]
    queue.do(e.DeviceSeen(time=queue.now, device=device))  # validated: the indexes are as if it had always been so
    assert queue.state.free("quattro:0") == device.capacity
    assert "quattro:0" in queue.state.nodes[device.node]
    where = {
        key: {device_id for ids in buckets.values() for device_id in ids}
        for key, buckets in queue.state.free_capacity.classes.items()
    }
    assert "quattro:0" in where.pop((DeviceKind.GPU, device.model))
    assert all("quattro:0" not in ids for ids in where.values())
    if not others:
        assert list(queue.state.nodes) == [device.node], "a node without a device is none"


def test_of_several_dependencies_as_many_must_be_completed_as_was_asked_for() -> None:
    queue = Queue(make_cpu(cores=4))
    for number in range(3):
        queue.submit(f"a-{number}")
    queue.submit("two-1", ["a-0", "a-1", "a-2"], minimum=2)
    queue.submit("one-1", ["a-0", "a-1", "a-2"], minimum=1)
    queue.start("a-0")
    queue.end("a-0")
    queue.do(e.CancelRequested(time=queue.now, job_id="a-1"))
    assert not queue.state.is_ready(queue["one-1"].job), "the third may still come"
    queue.do(e.CancelRequested(time=queue.now, job_id="a-2"))
    assert not queue.state.is_ready(queue["two-1"].job)
    assert queue["two-1"].state is JobState.CANCELLED
    assert queue["one-1"].state is JobState.PENDING


def test_a_device_to_oneself_has_nothing_free() -> None:
    queue = Queue(make_cpu(cores=4))
    queue.submit("s-1", resources=Resources(cpus=1, exclusive=True))
    queue.start("s-1")
    assert queue.state.exclusively_used("here:cpu")
    assert queue.state.free("here:cpu") == 0.0
    queue.end("s-1")
    assert queue.state.free("here:cpu") == 4.0
