"""The scheduler: order, packing, what is avoided, and why a job waits."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.core import events as e
from terry.cluster.core.model import EndReason, JobState, Resources, RetryPolicy
from terry.cluster.core.state import EPSILON
from terry.cluster.scheduling.plan import Plan, Policy, plan, why_waiting
from tests.helpers.queue_values import Queue, at, make_cpu, make_gpu


def _placed(made: Plan) -> list[tuple[str, str]]:
    return [(p.job_id, p.allocation.device) for p in made.placements]


def _carry_out(queue: Queue, made: Plan) -> None:
    for placement in made.placements:
        attempt = queue[placement.job_id].attempt + 1
        queue.do(e.Placed(time=queue.now, job_id=placement.job_id, attempt=attempt, allocation=placement.allocation))


def test_priority_then_order_of_submission() -> None:
    queue = Queue(make_cpu(cores=2))
    for job_id, priority in (("s-1", 0), ("s-2", 0), ("s-3", 7)):
        queue.submit(job_id, priority=priority)
    assert _placed(plan(queue.state, queue.now)) == [("s-3", "here:cpu"), ("s-1", "here:cpu")]


def test_order_holds_across_different_demands() -> None:
    queue = Queue(make_cpu(cores=3))
    for job_id, cores in (("s-1", 1), ("s-2", 0.5), ("s-3", 1), ("s-4", 0.5)):
        queue.submit(job_id, resources=Resources(cpus=cores))
    assert [job_id for job_id, _ in _placed(plan(queue.state, queue.now))] == ["s-1", "s-2", "s-3", "s-4"]


def test_shares_are_packed_where_they_fit_best() -> None:
    queue = Queue(make_gpu(index=0), make_gpu(index=1))
    queue.submit("s-1", resources=Resources(gpus=0.5))
    queue.place("s-1", "quattro:1", 0.5)
    queue.submit("s-2", resources=Resources(gpus=0.5))
    queue.submit("s-3", resources=Resources(gpus=1))
    assert _placed(plan(queue.state, queue.now)) == [("s-2", "quattro:1"), ("s-3", "quattro:0")]


def test_ten_tenths_fill_a_device() -> None:
    queue = Queue(make_gpu())
    for i in range(11):
        queue.submit(f"s-{i}", resources=Resources(gpus=0.1))
    made = plan(queue.state, queue.now)
    assert len(made.placements) == 10
    _carry_out(queue, made)


def test_kind_node_and_model_must_match() -> None:
    queue = Queue(make_cpu(cores=8), make_gpu("quattro"), make_gpu("seawolf", model="NVIDIA A100"))
    queue.submit("s-1", resources=Resources(gpus=1, device="*A100*"))
    queue.submit("s-2", resources=Resources(gpus=1, node="quattro"))
    queue.submit("s-3", resources=Resources(cpus=1, node="elsewhere"))
    queue.submit("s-4", resources=Resources(cpus=1))
    assert dict(_placed(plan(queue.state, queue.now))) == {
        "s-1": "seawolf:0",
        "s-2": "quattro:0",
        "s-4": "here:cpu",
    }


def test_nodes_may_be_asked_for_by_label_and_models_by_a_part_of_their_name() -> None:
    fast = replace(make_gpu("quattro"), labels=("fast", "lab"))
    queue = Queue(fast, make_gpu("seawolf", model="NVIDIA A100 80GB"), make_cpu("quattro-cpu"))
    queue.submit("s-1", resources=Resources(gpus=1, node="fast"))
    queue.submit("s-2", resources=Resources(gpus=1, device="a100"))
    queue.submit("s-3", resources=Resources(cpus=1, node="fa*"))
    assert dict(_placed(plan(queue.state, queue.now))) == {"s-1": "quattro:0", "s-2": "seawolf:0"}


def test_offline_and_drained_devices_take_nothing() -> None:
    queue = Queue(make_cpu(), make_cpu("there"))
    queue.submit("s-1")
    queue.do(e.DeviceGone(time=queue.now, device_id="here:cpu", reason="unplugged"))
    queue.do(e.DeviceDrained(time=queue.now, device_id="there:cpu", reason="dust"))
    assert plan(queue.state, queue.now) == Plan()


def test_a_device_that_somebody_else_uses_is_left_alone_and_those_that_wait_say_who_has_it() -> None:
    queue = Queue(make_gpu(index=0), make_gpu(index=1))
    who = "quattro:0 is in use by somebody else: pid 7 (python, of bob)"
    queue.submit("s-1", resources=Resources(gpus=1))
    queue.do(e.DeviceBlocked(time=queue.now, device_id="quattro:0", reason=who))
    assert _placed(plan(queue.state, queue.now)) == [("s-1", "quattro:1")]
    queue.do(e.DeviceBlocked(time=queue.now, device_id="quattro:1", reason="also"))
    assert plan(queue.state, queue.now) == Plan()
    assert why_waiting(queue.state, "s-1", queue.now) == f"waits for a GPU: {who}, and so are 1 more"
    queue.do(e.DeviceBlocked(time=queue.now, device_id="quattro:1", reason=""))
    queue.start("s-1", "quattro:1")
    queue.submit("s-2", resources=Resources(gpus=1))
    assert "all 1 GPU busy, 1 more in use by others" in why_waiting(queue.state, "s-2", queue.now)
    queue.do(e.DeviceBlocked(time=queue.now, device_id="quattro:0", reason=""))
    assert _placed(plan(queue.state, queue.now)) == [("s-2", "quattro:0")]


def _avoiding(queue: Queue) -> None:
    queue.submit("s-1", retry=RetryPolicy(backoff_s=0.0))
    for _ in range(2):
        queue.start("s-1", "here:cpu")
        queue.end("s-1", EndReason.CRASHED)
    assert queue["s-1"].avoid_devices == ("here:cpu",)


def test_a_device_to_avoid_is_used_only_where_there_is_no_other() -> None:
    queue = Queue(make_cpu(cores=1))
    _avoiding(queue)
    assert _placed(plan(queue.state, queue.now)) == [("s-1", "here:cpu")]
    queue.do(e.DeviceSeen(time=queue.now, device=make_cpu("there", cores=1)))
    assert _placed(plan(queue.state, queue.now)) == [("s-1", "there:cpu")]
    queue.submit("s-2")
    queue.place("s-2", "there:cpu")
    assert plan(queue.state, queue.now) == Plan(), "it waits for the other one"


def test_an_exclusive_job_gets_an_empty_device_and_keeps_it() -> None:
    queue = Queue(make_cpu(cores=4), make_cpu("there", cores=4))
    queue.submit("s-1")
    queue.place("s-1", "here:cpu")
    queue.submit("s-2", resources=Resources(cpus=1, exclusive=True))
    queue.submit("s-3")
    assert _placed(plan(queue.state, queue.now)) == [("s-2", "there:cpu"), ("s-3", "here:cpu")]


def test_back_off_is_waited_for_without_blocking_others() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("s-1")
    queue.start("s-1")
    queue.end("s-1", EndReason.KILLED)  # tried again at once
    queue.start("s-1")
    record = queue.end("s-1", EndReason.KILLED)
    queue.submit("s-2", priority=-1)
    assert record.not_before is not None
    now = record.attempts[-1].ended_at
    assert now is not None
    made = plan(queue.state, now)
    assert _placed(made) == [("s-2", "here:cpu")]
    assert made.wake_at == record.not_before
    assert _placed(plan(queue.state, record.not_before)) == [("s-1", "here:cpu")]


def test_small_jobs_do_not_starve_a_large_one() -> None:
    queue = Queue(make_cpu(cores=2))
    queue.submit("small-0")
    queue.place("small-0")
    queue.submit("large-1", resources=Resources(cpus=2))
    for i in range(1, 5):
        queue.submit(f"small-{i}")
    assert plan(queue.state, queue.now) == Plan()
    queue.end("small-0")
    assert _placed(plan(queue.state, queue.now)) == [("large-1", "here:cpu")]


def test_a_job_that_fits_nowhere_holds_up_nobody() -> None:
    queue = Queue(make_cpu(cores=2))
    queue.submit("s-1", resources=Resources(cpus=64))
    queue.submit("s-2", resources=Resources(gpus=1))
    queue.submit("s-3")
    assert _placed(plan(queue.state, queue.now)) == [("s-3", "here:cpu")]


def test_a_plan_has_a_limit() -> None:
    queue = Queue(make_cpu(cores=10))
    for i in range(10):
        queue.submit(f"s-{i}")
    assert len(plan(queue.state, queue.now, Policy(placements_per_turn=3)).placements) == 3


def test_ten_thousand_waiting_jobs_cost_nothing() -> None:
    from terry.cluster.core.state_machine import apply
    from tests.helpers.queue_values import make_job

    queue = Queue(make_cpu(cores=2), make_gpu())
    for i in range(10_000):
        apply(queue.state, e.Submitted(time=at(0), job=make_job(f"s-{i}")))
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        assert len(plan(queue.state, queue.now).placements) == 2
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.002


_shares = st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0, 2.0, 3.0])
_jobs = st.lists(st.tuples(_shares, st.booleans(), st.integers(-2, 2)), max_size=15)


@given(cores=st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=1, max_size=3), jobs=_jobs)
@settings(max_examples=150, deadline=None)
def test_any_plan_can_be_carried_out_and_everything_ends(
    cores: list[float], jobs: list[tuple[float, bool, int]]
) -> None:
    queue = Queue(*(make_cpu(f"n{i}", c) for i, c in enumerate(cores)))
    for i, (share, exclusive, priority) in enumerate(jobs):
        queue.submit(f"s-{i}", priority=priority, resources=Resources(cpus=share, exclusive=exclusive))
    for _ in range(len(jobs)):
        _carry_out(queue, plan(queue.state, queue.now))  # validated at each event
        for record in list(queue.state.active())[:1]:
            queue.end(record.job.id)
    for record in queue.state.jobs.values():
        fits = record.job.resources.cpus <= max(cores) + EPSILON
        assert record.state is (JobState.COMPLETED if fits else JobState.PENDING)


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        (Resources(gpus=1), "waits for a GPU: none is online"),
        (Resources(cpus=64), "waits for CPU cores: it asks for 64, and the largest device has 2"),
        (Resources(cpus=1, node="quattro"), "waits for CPU cores: none online matches node 'quattro'"),
        (Resources(cpus=1), "all 2 cores busy"),
        (Resources(cpus=1, exclusive=True), "all 2 cores busy"),
    ],
)
def test_why_a_job_waits(resources: Resources, why: str) -> None:
    queue = Queue(make_cpu(cores=2))
    queue.submit("s-1", resources=Resources(cpus=2))
    queue.place("s-1", share=2)
    queue.submit("s-2", resources=resources)
    assert why_waiting(queue.state, "s-2", queue.now) == why
    assert why_waiting(queue.state, "s-1", queue.now) == ""


def test_why_a_job_waits_for_other_reasons() -> None:
    queue = Queue(make_cpu(cores=2))
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    queue.submit("s-3", held=True)
    assert why_waiting(queue.state, "s-2", queue.now) == "waits for s-1 (pending)"
    assert why_waiting(queue.state, "s-3", queue.now) == "held: submitted with --hold"
    queue.start("s-1")
    queue.end("s-1", EndReason.KILLED)  # tried again at once
    queue.start("s-1")
    record = queue.end("s-1", EndReason.KILLED)
    assert record.attempts[-1].ended_at is not None
    assert why_waiting(queue.state, "s-1", record.attempts[-1].ended_at).startswith("backs off until")
    queue.do(e.DeviceDrained(time=queue.now, device_id="here:cpu", reason="dust"))
    assert why_waiting(queue.state, "s-1", at(99)) == "waits for CPU cores: all that match are drained (dust)"
