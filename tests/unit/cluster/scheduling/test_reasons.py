"""Why a job waits: one line names the true reason, with figures that a person can check."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.model import Resources
from terry.cluster.core.policy import Limit, Policy
from terry.cluster.scheduling.plan import plan, why_waiting
from terry.cluster.scheduling.reasons import is_for_devices
from tests.helpers.queue_values import Queue, make_cpu, make_gpu


def _why(queue: Queue, job_id: str, policy: Policy | None = None) -> str:
    return why_waiting(queue.state, job_id, queue.now, policy)


# dependencies


def test_only_dependencies_that_are_still_open_are_named() -> None:
    queue = Queue(make_cpu())
    for job_id in ("a-1", "a-2", "a-3"):
        queue.submit(job_id)
    queue.submit("s-1", ["a-1", "a-2", "a-3"])
    assert _why(queue, "s-1") == "waits for a-1 (pending) and 2 more"
    queue.start("a-1")
    queue.end("a-1")
    queue.start("a-2")
    assert _why(queue, "s-1") == "waits for a-2 (running) and 1 more"
    queue.end("a-2")
    assert _why(queue, "s-1") == "waits for a-3 (pending)"


def test_of_a_job_that_can_do_without_some_only_those_are_named_that_may_still_come() -> None:
    queue = Queue(make_cpu())
    for job_id in ("a-1", "a-2", "a-3"):
        queue.submit(job_id)
    queue.submit("s-1", ["a-1", "a-2", "a-3"], minimum=1)
    queue.do(e.CancelRequested(time=queue.now, job_id="a-1"))
    assert _why(queue, "s-1") == "waits for a-2 (pending) and 1 more"


# devices


def test_devices_that_are_away_are_counted() -> None:
    queue = Queue(make_cpu(), make_cpu("there"), make_gpu())
    queue.submit("s-1")
    for device in ("here:cpu", "there:cpu"):
        queue.do(e.DeviceGone(time=queue.now, device_id=device, reason="unplugged"))
    assert _why(queue, "s-1") == "waits for CPU cores: none of 2 is online"


def test_the_largest_device_that_matches_is_named() -> None:
    queue = Queue(make_cpu(cores=2), make_cpu("there", cores=8), make_cpu("big", cores=64))
    queue.do(e.DeviceGone(time=queue.now, device_id="big:cpu", reason="unplugged"))
    queue.submit("s-1", resources=Resources(cpus=16))
    assert _why(queue, "s-1") == "waits for CPU cores: it asks for 16, and the largest device has 8"


def test_drained_devices_that_are_too_small_anyway_are_not_the_reason() -> None:
    queue = Queue(make_cpu(cores=2), make_cpu("there", cores=8))
    queue.do(e.DeviceDrained(time=queue.now, device_id="here:cpu", reason="dust"))
    queue.do(e.DeviceDrained(time=queue.now, device_id="there:cpu", reason="fan"))
    queue.submit("s-1", resources=Resources(cpus=4))
    assert _why(queue, "s-1") == "waits for CPU cores: all that match are drained (fan)"


def test_all_that_was_asked_for_is_named() -> None:
    queue = Queue(replace(make_gpu(), away=True), make_cpu())
    queue.submit("s-1", resources=Resources(gpus=1, node="lab*", device="A100"))
    queue.submit("s-2", resources=Resources(gpus=1, at_home=True))
    queue.submit("s-3", resources=Resources(gpus=1, node="quattro", at_home=True))
    assert _why(queue, "s-1") == "waits for a GPU: none online matches node 'lab*' and device 'A100'"
    assert _why(queue, "s-2") == "waits for a GPU: none online is on a node that sees the workspace"
    assert _why(queue, "s-3") == "waits for a GPU: none online matches node 'quattro' and sees the workspace"


def test_what_was_given_back_comes_again() -> None:
    queue = Queue(make_gpu(index=0), make_gpu(index=1), make_gpu(index=2))
    queue.submit("s-1", resources=Resources(gpus=1))
    queue.do(e.DeviceGone(time=queue.now, device_id="quattro:0", reason="", given_back=True))
    assert _why(queue, "s-1") == "starts in a moment", "the others are there"
    queue.do(e.DeviceGone(time=queue.now, device_id="quattro:1", reason="unplugged"))
    queue.do(e.DeviceGone(time=queue.now, device_id="quattro:2", reason="unplugged"))
    again = "taken again as soon as nobody else holds it in Ray"
    assert _why(queue, "s-1") == f"waits for a GPU: quattro:0 is {again}"
    queue.do(e.DeviceGone(time=queue.now, device_id="quattro:1", reason="", given_back=True))
    assert _why(queue, "s-1") == f"waits for a GPU: 2 that were given back are {again}"


# what is free


def test_what_is_free_is_told_where_it_is_too_little() -> None:
    queue = Queue(make_cpu(cores=4))
    queue.submit("s-1", resources=Resources(cpus=3))
    queue.place("s-1", share=3.0)
    queue.submit("s-2", resources=Resources(cpus=2))
    assert _why(queue, "s-2") == "4 cores busy but for 1; it asks for 2"
    queue.submit("s-3")
    queue.place("s-3")
    assert _why(queue, "s-2") == "all 4 cores busy"


def test_gpus_are_counted_and_cores_are_added_up() -> None:
    queue = Queue(make_gpu(index=0), make_gpu(index=1), make_cpu(cores=2), make_cpu("there", cores=3))
    for number, device in enumerate(("quattro:0", "quattro:1")):
        queue.submit(f"g-{number}", resources=Resources(gpus=1))
        queue.place(f"g-{number}", device)
    for number, (device, cores) in enumerate((("here:cpu", 2.0), ("there:cpu", 3.0))):
        queue.submit(f"c-{number}", resources=Resources(cpus=cores))
        queue.place(f"c-{number}", device, cores)
    queue.submit("s-1", resources=Resources(gpus=1))
    queue.submit("s-2")
    assert _why(queue, "s-1") == "all 2 GPUs busy"
    assert _why(queue, "s-2") == "all 5 cores busy"


def test_what_is_free_in_pieces_is_told() -> None:
    queue = Queue(make_cpu(cores=2), make_cpu("there", cores=2))
    for job_id, device in (("s-1", "here:cpu"), ("s-2", "there:cpu")):
        queue.submit(job_id)
        queue.place(job_id, device)
    queue.submit("s-3", resources=Resources(cpus=2))
    assert plan(queue.state, queue.now).placements == ()
    assert _why(queue, "s-3") == "what is free lies on several devices, on none enough"


def test_a_job_that_wants_a_device_to_itself_says_so() -> None:
    queue = Queue(make_gpu())
    queue.submit("s-1", resources=Resources(gpus=0.5))
    queue.place("s-1", "quattro:0", 0.5)
    queue.submit("s-2", resources=Resources(gpus=0.5, exclusive=True))
    assert _why(queue, "s-2") == "waits for a device to itself (1 GPU in use by others)"


# memory


def test_jobs_whose_memory_just_suffices_side_by_side_do_not_lack_any() -> None:
    queue = Queue(replace(make_gpu(), memory_bytes=80 * 10**9))
    queue.submit("s-1", resources=Resources(gpus=0.5))
    queue.place("s-1", "quattro:0", 0.5)
    queue.submit("s-2", resources=Resources(gpus=0.5))
    assert len(plan(queue.state, queue.now).placements) == 1
    assert _why(queue, "s-2") == "starts in a moment"


def test_of_memory_that_was_never_measured_no_figure_is_told() -> None:
    queue = Queue(replace(make_gpu(), memory_bytes=80 * 10**9))
    queue.submit("fat-0", resources=Resources(gpus=1))
    queue.start("fat-0", "quattro:0")
    queue.end("fat-0", device_memory_bytes=60 * 10**9)
    queue.submit("fat-1", resources=Resources(gpus=0.5))
    queue.place("fat-1", "quattro:0", 0.5)
    queue.submit("new-1", resources=Resources(gpus=0.5))
    assert plan(queue.state, queue.now).placements == ()
    assert _why(queue, "new-1") == "no GPU with a free share has memory enough beside what runs there"


# limits


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (Policy(user_limits={"ann": Limit(gpus=1.25)}), "at a limit of the user ann: 1 of at most 1.25 GPUs in use"),
        (Policy(sweep_limits={"s": Limit(gpus=1)}), "at a limit of the sweep s: 1 of at most 1 GPUs in use"),
        (Policy(sweep_limits={"s": Limit(jobs=1)}), "at a limit of the sweep s: 1 of at most 1 jobs run"),
        (Policy(sweep_limits={"s": Limit(jobs=1, gpus=9)}), "at a limit of the sweep s: 1 of at most 1 jobs run"),
        (Policy(user_limits={"ann": Limit(jobs=1, gpus=1)}), "at a limit of the user ann: 1 of at most 1 GPUs in use"),
        (Policy(user_limits={"bob": Limit(jobs=0)}), "starts in a moment"),
    ],
)
def test_the_limit_that_was_reached_is_named(policy: Policy, why: str) -> None:
    queue = Queue(make_gpu(index=0), make_gpu(index=1))
    queue.submit("s-1", resources=Resources(gpus=1))
    queue.start("s-1", "quattro:0")
    queue.submit("s-2", resources=Resources(gpus=0.5))
    assert _why(queue, "s-2", policy) == why


def test_a_node_at_its_limit_is_the_reason_only_where_there_is_no_other() -> None:
    policy = Policy(node_limits={"here": Limit(jobs=1), "other": Limit(jobs=1)})
    queue = Queue(make_cpu(cores=4))
    queue.submit("s-1")
    queue.start("s-1")
    queue.submit("s-2")
    assert _why(queue, "s-2", policy) == "at a limit of the node here: 1 jobs run there"
    assert _why(queue, "s-2", Policy(node_limits={"here": Limit(jobs=2)})) == "starts in a moment"
    queue.do(e.DeviceSeen(time=queue.now, device=make_cpu("there")))
    assert _why(queue, "s-2", policy) == "starts in a moment"


# whose turn it is


def test_the_highest_priority_that_goes_first_is_named() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("busy-1")
    queue.place("busy-1")
    for priority in (0, 3, 7):
        queue.submit(f"s-{priority}", priority=priority, owner="ann" if priority == 3 else "bob")
    queue.submit("g-1", priority=9, resources=Resources(gpus=1))
    assert _why(queue, "s-0") == "all 1 cores busy; waits behind jobs of priority 7 (it has 0)"
    assert _why(queue, "s-3") == "all 1 cores busy; waits behind jobs of priority 7 (it has 3)"
    assert _why(queue, "s-7") == "all 1 cores busy"


def test_among_users_who_have_had_the_same_the_order_of_submission_is_the_reason() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("b-1", owner="bob")
    queue.submit("a-1", owner="ann")
    assert _why(queue, "b-1") == "starts in a moment"
    assert _why(queue, "a-1") == "waits behind b-1, whose turn it is"


def test_a_job_whose_turn_it_is_waits_behind_nobody_who_came_before() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("early-1")
    queue.submit("urgent-1", priority=3)
    assert [p.job_id for p in plan(queue.state, queue.now).placements] == ["urgent-1"]
    assert _why(queue, "urgent-1") == "starts in a moment"
    assert _why(queue, "early-1") == "waits behind jobs of priority 3 (it has 0)"


def test_jobs_that_may_not_run_now_are_not_waited_for() -> None:
    queue = Queue(make_cpu(cores=2))
    queue.submit("held-1", owner="bob", priority=9)
    queue.submit("a-1")
    policy = Policy(user_limits={"bob": Limit(jobs=0)})
    assert [p.job_id for p in plan(queue.state, queue.now, policy).placements] == ["a-1"]
    assert _why(queue, "a-1", policy) == "starts in a moment"


def test_a_job_that_has_waited_so_long_that_it_goes_first_is_named() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("old-1")
    queue.now += timedelta(days=2)
    queue.submit("new-1", priority=1)
    assert [p.job_id for p in plan(queue.state, queue.now).placements] == ["old-1"]
    assert _why(queue, "old-1") == "starts in a moment"
    assert _why(queue, "new-1") == "waits behind old-1, which has gained priority by waiting long"
    queue.submit("busy-1", priority=9)
    queue.place("busy-1")
    queue.submit("new-2")
    queue.now += timedelta(days=2)
    assert _why(queue, "new-2") == "all 1 cores busy", "all have waited long"


def test_shares_are_told_by_kind_of_device() -> None:
    queue = Queue(make_gpu(index=0), make_cpu(cores=1))
    for job_id, owner, resources, device in (
        ("a-1", "ann", Resources(gpus=1), "quattro:0"),
        ("b-1", "bob", Resources(cpus=1), "here:cpu"),
    ):
        queue.submit(job_id, owner=owner, resources=resources)
        queue.start(job_id, device)
    queue.now += timedelta(hours=2)
    for job_id in ("a-1", "b-1"):
        queue.end(job_id)
    for owner in ("ann", "bob"):
        queue.submit(f"{owner}-1", owner=owner, resources=Resources(gpus=1))
        queue.submit(f"{owner}-2", owner=owner)
    assert _why(queue, "ann-1").startswith(
        "waits for its share: bob has had 0.0 GPU-hours lately (0 GPUs now), ann 1.9"
    )
    assert _why(queue, "bob-2").startswith("waits for its share: ann has had 0.0 core-hours lately (0 cores now), bob")


def test_whoever_has_had_less_but_asks_for_a_lower_priority_is_not_the_reason() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("ann-1", owner="ann")
    queue.start("ann-1")
    queue.now += timedelta(hours=2)
    queue.end("ann-1")
    queue.submit("ann-2", owner="ann", priority=1)
    queue.submit("bob-1", owner="bob")
    assert [p.job_id for p in plan(queue.state, queue.now).placements] == ["ann-2"]
    assert _why(queue, "ann-2") == "starts in a moment"


@pytest.mark.parametrize(
    ("reason", "for_devices"),
    [
        ("waits for CPU cores: none is online", True),
        ("waits for a GPU: none online matches node 'x'", True),
        ("all 2 GPUs busy; waits behind jobs of priority 5 (it has 0)", True),
        ("3 GPUs busy but for 0.5; it asks for 1", True),
        ("waits for a device to itself (2 GPUs in use by others)", True),
        ("at a limit of the user ann: 2 of at most 2 GPUs in use", False),
        ("waits for cells-0001 (running)", False),
        ("held: paused", False),
        ("", False),
    ],
)
def test_more_nodes_would_help_where_devices_are_lacking(reason: str, for_devices: bool) -> None:
    assert is_for_devices(reason) is for_devices
