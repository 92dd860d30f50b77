"""Where a job goes: gaps stay for who needs them, files are near, room that is kept is lent to who is gone in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.model import Device, EndReason, Resources, RetryPolicy
from terry.cluster.core.policy import Limit, Policy
from terry.cluster.scheduling.plan import Plan, plan
from tests.helpers.queue_values import Queue, make_cpu, make_gpu


def _where(queue: Queue, policy: Policy | None = None) -> dict[str, str]:
    return _devices(plan(queue.state, queue.now, policy))


def _devices(made: Plan) -> dict[str, str]:
    return {p.job_id: p.allocation.device for p in made.placements}


def _model(name: str, model: str, cores: float = 2.0) -> Device:
    return replace(make_cpu(name, cores=cores), model=model)


def _learn(queue: Queue, sweep: str, seconds: float, device: str = "here:cpu") -> None:
    """One job of the sweep has run for so long."""
    queue.submit(f"{sweep}-0")
    queue.start(f"{sweep}-0", device)
    queue.now += timedelta(seconds=seconds - 1)
    queue.end(f"{sweep}-0")


# the best fit


@pytest.mark.parametrize("models", [("EPYC", "Xeon"), ("Xeon", "EPYC"), ("Xeon", "Xeon")])
def test_the_fullest_device_with_room_is_taken_whatever_its_model(models: tuple[str, str]) -> None:
    queue = Queue(_model("aa", models[0], cores=4), _model("bb", models[1], cores=4))
    queue.submit("s-0")
    queue.place("s-0", "bb:cpu")
    queue.submit("s-1")
    assert _where(queue) == {"s-1": "bb:cpu"}


@pytest.mark.parametrize("models", [("EPYC", "Xeon"), ("Xeon", "EPYC"), ("Xeon", "Xeon")])
def test_among_equally_full_devices_the_one_near_the_files_is_taken(models: tuple[str, str]) -> None:
    queue = Queue(_model("aa", models[0]), _model("bb", models[1]))
    queue.submit("data-1")
    queue.submit("s-1", ["data-1"])
    queue.start("data-1", "bb:cpu")
    queue.end("data-1")
    assert _where(queue) == {"s-1": "bb:cpu"}


@pytest.mark.parametrize("models", [("EPYC", "Xeon"), ("Xeon", "EPYC")])
def test_a_gap_that_fits_goes_before_nearness(models: tuple[str, str]) -> None:
    queue = Queue(_model("aa", models[0]), _model("bb", models[1], cores=4))
    queue.submit("data-1")
    queue.submit("s-1", ["data-1"])
    queue.start("data-1", "bb:cpu")
    queue.end("data-1")
    assert _where(queue) == {"s-1": "aa:cpu"}


def test_a_job_goes_on_where_its_checkpoint_is() -> None:
    queue = Queue(make_cpu("aa"), make_cpu("bb"))
    queue.submit("s-1")
    queue.start("s-1", "bb:cpu")
    queue.end("s-1", EndReason.KILLED, checkpoint_step=5)
    assert _where(queue) == {"s-1": "bb:cpu"}


@pytest.mark.parametrize("near", ["aa", "bb", "cc"])
def test_a_near_device_without_room_is_not_taken(near: str) -> None:
    queue = Queue(*(make_cpu(name, cores=1) for name in ("aa", "bb", "cc")))
    queue.submit("data-1")
    queue.submit("s-1", ["data-1"])
    queue.start("data-1", f"{near}:cpu")
    queue.end("data-1")
    queue.submit("t-1")
    queue.place("t-1", f"{near}:cpu")
    (device,) = _where(queue).values()
    assert device != f"{near}:cpu"


def test_devices_of_the_kind_alone_count() -> None:
    queue = Queue(make_cpu(cores=1), make_gpu())
    for number in range(2):
        queue.submit(f"c-{number}")
        queue.submit(f"g-{number}", resources=Resources(gpus=1))
    assert _where(queue) == {"c-0": "here:cpu", "g-0": "quattro:0"}


# devices to avoid


def _crashed_twice(queue: Queue, device: str = "here:cpu", **changes: object) -> None:
    queue.submit("s-1", retry=RetryPolicy(backoff_s=0.0), **changes)
    for _ in range(2):
        queue.start("s-1", device)
        queue.end("s-1", EndReason.CRASHED)
    assert queue["s-1"].avoid_devices == (device,)


@pytest.mark.parametrize(
    ("other", "place"),
    [
        (make_cpu("there", cores=2), "there:cpu"),
        (make_cpu("there", cores=1), "here:cpu"),  # too small for it
        (make_gpu("there"), "here:cpu"),  # no processor
        (replace(make_cpu("there", cores=2), away=True), "here:cpu"),  # does not see its files
    ],
)
def test_a_device_is_avoided_where_another_one_could_do_it(other: Device, place: str) -> None:
    queue = Queue(make_cpu(cores=2), other)
    _crashed_twice(queue, resources=Resources(cpus=2, at_home=True))
    assert _where(queue) == {"s-1": place}


def test_who_waits_for_another_device_keeps_that_one_and_not_the_avoided() -> None:
    queue = Queue(make_cpu(cores=4), make_cpu("there", cores=2))
    _crashed_twice(queue, resources=Resources(cpus=2), priority=1)
    queue.submit("t-0")
    queue.place("t-0", "there:cpu")
    queue.submit("t-1")
    assert _where(queue) == {"t-1": "here:cpu"}, "the other core of `there` is kept"


def test_where_all_are_avoided_the_roomiest_is_kept_all_the_same() -> None:
    queue = Queue(make_cpu(cores=2))
    _crashed_twice(queue, resources=Resources(cpus=2), priority=1)
    queue.submit("t-0")
    queue.place("t-0")
    queue.submit("t-1")
    assert _where(queue) == {}


# what is kept for a large job


def test_only_a_device_that_could_ever_hold_a_job_is_kept_for_it() -> None:
    queue = Queue(make_cpu("aa", cores=3), make_cpu("big", cores=4))
    queue.submit("busy-1", resources=Resources(cpus=2))
    queue.place("busy-1", "big:cpu", 2.0)
    queue.submit("wide-1", resources=Resources(cpus=4), priority=1)
    for number in range(5):
        queue.submit(f"s-{number}")
    assert set(_where(queue).values()) == {"aa:cpu"}


def test_only_a_device_that_was_asked_for_is_kept() -> None:
    queue = Queue(make_cpu("aa", cores=4), make_cpu("big", cores=4))
    queue.submit("busy-1", resources=Resources(cpus=2))
    queue.place("busy-1", "big:cpu", 2.0)
    queue.submit("wide-1", resources=Resources(cpus=4, node="big"), priority=1)
    queue.submit("s-1", resources=Resources(cpus=2))
    queue.submit("s-2", resources=Resources(cpus=2))
    assert set(_where(queue).values()) == {"aa:cpu"}


def test_the_roomiest_device_is_kept() -> None:
    """There the wait is shortest."""
    queue = Queue(*(make_cpu(name, cores=4) for name in ("aa", "bb", "cc")))
    for name, cores in (("aa", 3.0), ("bb", 1.0), ("cc", 3.0)):
        queue.submit(f"busy-{name}", resources=Resources(cpus=cores))
        queue.place(f"busy-{name}", f"{name}:cpu", cores)
    queue.submit("wide-1", resources=Resources(cpus=4), priority=1)
    for number in range(5):
        queue.submit(f"s-{number}")
    assert set(_where(queue).values()) == {"aa:cpu", "cc:cpu"}


def test_a_device_to_oneself_is_full() -> None:
    queue = Queue(make_cpu(cores=4), make_cpu("there", cores=4))
    queue.submit("s-1", resources=Resources(cpus=1, exclusive=True))
    queue.submit("s-2", resources=Resources(cpus=3))
    queue.submit("s-3", resources=Resources(cpus=1))
    queue.submit("s-4", resources=Resources(cpus=1))
    found = _where(queue)
    assert found["s-2"] == found["s-3"] != found["s-1"]
    assert "s-4" not in found


# what is lent


def _kept(cores: float = 4.0, runs_for: float = 100.0) -> Queue:
    """One core runs a job of `long` for so much longer; the others are kept for `wide`, which needs all.

    `unknown-1`, of which nobody knows how long it takes, goes before whoever has a lower priority.
    """
    queue = Queue(make_cpu(cores=cores))
    _learn(queue, "long", runs_for)
    _learn(queue, "short", 10)
    queue.submit("long-1")
    queue.start("long-1")
    queue.submit("wide-1", priority=1, resources=Resources(cpus=cores))
    queue.submit("unknown-1")
    return queue


def _submit_short(queue: Queue, count: int) -> None:
    for number in range(1, count + 1):
        queue.submit(f"short-{number}", priority=-1)


def test_no_more_is_lent_than_there_is() -> None:
    queue = _kept(cores=4)
    _submit_short(queue, 5)
    assert set(_where(queue)) == {"short-1", "short-2", "short-3"}


def test_lent_room_is_counted_against_the_limit_of_the_node() -> None:
    queue = _kept(cores=4)
    _submit_short(queue, 5)
    assert set(_where(queue, Policy(node_limits={"here": Limit(jobs=2)}))) == {"short-1"}
    assert set(_where(queue, Policy(node_limits={"here": Limit(jobs=1)}))) == set()


def test_what_is_lent_is_back_in_time_with_a_margin() -> None:
    queue = _kept()
    _submit_short(queue, 1)
    began = queue["long-1"].attempts[-1].started_at
    assert began is not None
    for left, lent in ((12.0, {"short-1"}), (10.5, set()), (9.0, set()), (-1.0, set())):
        queue.now = began + timedelta(seconds=100 - left)
        assert set(_where(queue)) == lent, left


def test_a_job_of_which_nothing_is_known_is_lent_nothing() -> None:
    queue = _kept()
    queue.submit("new-1")
    queue.submit("new-2", time_limit_s=20.0)
    queue.submit("short-1", resources=Resources(cpus=1, exclusive=True))
    assert _where(queue) == {}


def test_while_a_job_is_on_its_way_out_nobody_knows_when_there_is_room() -> None:
    queue = _kept()
    _submit_short(queue, 1)
    queue.do(e.PreemptRequested(time=queue.now, job_id="long-1"))
    assert _where(queue) == {}


def test_room_is_lent_until_a_job_ends_that_the_same_plan_has_placed() -> None:
    queue = Queue(make_cpu(cores=2))
    _learn(queue, "long", 100)
    _learn(queue, "short", 10)
    queue.submit("long-1", priority=2)
    queue.submit("wide-1", priority=1, resources=Resources(cpus=2))
    queue.submit("unknown-1")
    _submit_short(queue, 1)
    assert set(_where(queue)) == {"long-1", "short-1"}


def test_room_for_a_job_that_wants_all_of_a_device_is_lent_until_all_have_ended() -> None:
    queue = Queue(make_cpu(cores=3))
    for sweep, seconds in (("long", 100), ("middle", 50)):
        _learn(queue, sweep, seconds)
    for sweep in ("long", "middle"):
        queue.submit(f"{sweep}-1")
        queue.start(f"{sweep}-1")
    queue.submit("wide-1", priority=1, resources=Resources(cpus=1, exclusive=True))
    queue.submit("unknown-1")
    queue.submit("middle-2", priority=-1)
    assert set(_where(queue)) == {"middle-2"}, "gone before the long one ends"


def test_many_jobs_that_can_use_no_kept_room_do_not_hide_one_that_can() -> None:
    queue = _kept(runs_for=1000)
    for number in range(1, 60):
        queue.submit(f"wider-{number}", resources=Resources(cpus=3.5))
        queue.submit(f"alone-{number}", resources=Resources(cpus=1, exclusive=True))
    queue.do(e.PriorityChanged(time=queue.now, job_id="unknown-1", priority=-1))  # after them
    _submit_short(queue, 1)
    assert set(_where(queue)) == {"short-1"}


@pytest.mark.parametrize(("before", "lent"), [(10, {"short-1", "short-2"}), (100, set())])
def test_some_jobs_that_take_too_long_are_passed_over_and_not_however_many(before: int, lent: set[str]) -> None:
    """A turn of the scheduler stays short: of twenty jobs it is asked whether they would be gone in time."""
    queue = _kept(cores=8, runs_for=1000)
    for number in range(2, before + 2):
        queue.submit(f"long-{number}")
    _submit_short(queue, 2)
    assert set(_where(queue)) == lent


# memory


def _gpu(index: int = 0) -> Device:
    return replace(make_gpu(index=index), memory_bytes=80 * 10**9)


def _measured(queue: Queue, sweep: str, gigabytes: float, seconds: float = 2.0) -> None:
    queue.submit(f"{sweep}-0", resources=Resources(gpus=1))
    queue.start(f"{sweep}-0", "quattro:0")
    queue.now += timedelta(seconds=seconds - 1)
    queue.end(f"{sweep}-0", device_memory_bytes=int(gigabytes * 10**9))


@pytest.mark.parametrize(("gigabytes", "together"), [(30, 2), (36, 2), (37, 1), (50, 1)])
def test_measured_memory_is_taken_with_a_margin(gigabytes: float, together: int) -> None:
    queue = Queue(_gpu())
    _measured(queue, "s", gigabytes)
    for number in range(1, 3):
        queue.submit(f"s-{number}", resources=Resources(gpus=0.25))
    assert len(_where(queue)) == together


def test_who_was_never_measured_is_taken_at_his_share() -> None:
    queue = Queue(_gpu())
    _measured(queue, "s", 50)
    queue.submit("s-1", resources=Resources(gpus=0.25))
    queue.place("s-1", "quattro:0", 0.25)
    queue.submit("half-1", resources=Resources(gpus=0.5))
    queue.submit("quarter-1", resources=Resources(gpus=0.25), priority=-1)
    assert _where(queue, Policy(backfill=False)) == {}, "50 GB and half of 80 are too much; what is free is kept"
    queue.do(e.Held(time=queue.now, job_id="half-1", reason="later"))
    assert _where(queue) == {"quarter-1": "quattro:0"}


def test_a_gpu_that_does_not_tell_its_memory_takes_what_its_shares_allow() -> None:
    queue = Queue(make_gpu())
    _measured(queue, "s", 50)
    for number in range(1, 6):
        queue.submit(f"s-{number}", resources=Resources(gpus=0.25))
    assert len(_where(queue)) == 4


def test_cores_are_not_held_against_the_memory_of_gpus() -> None:
    queue = Queue(_gpu(), replace(make_cpu(cores=4), memory_bytes=10**9))
    _measured(queue, "s", 50)
    for number in range(1, 4):
        queue.submit(f"s-{number}")
    assert len(_where(queue)) == 3


def test_until_something_was_measured_shares_alone_decide() -> None:
    queue = Queue(_gpu())
    for number in range(8):
        queue.submit(f"s-{number}", resources=Resources(gpus=0.125))
    assert len(_where(queue)) == 8


def test_lent_room_is_held_against_the_memory_of_all_who_are_there() -> None:
    queue = Queue(_gpu())
    _measured(queue, "long", 10, seconds=100)
    _measured(queue, "short", 30, seconds=10)
    queue.submit("long-1", resources=Resources(gpus=0.25))
    queue.start("long-1", "quattro:0", 0.25)
    queue.submit("wide-1", resources=Resources(gpus=1), priority=1)
    queue.submit("unknown-1", resources=Resources(gpus=0.25))
    for number in range(1, 4):
        queue.submit(f"short-{number}", resources=Resources(gpus=0.25), priority=-1)
    assert set(_where(queue)) == {"short-1", "short-2"}, "11 and twice 33 GB of 80"
