"""The policy at work: shares, limits, back-fill, memory, longest first, nearness, preemption; what is said of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.accounts import Ledger
from terry.cluster.core.model import DeviceKind, EndReason, JobState, Resources
from terry.cluster.core.policy import Limit, Policy, Preemption
from terry.cluster.core.profiles import ALIKE, Effects, Profile
from terry.cluster.scheduling.plan import Plan, plan, why_waiting
from tests.helpers.queue_values import Queue, at, make_cpu, make_gpu

HOUR = 3600.0


def _placed(made: Plan) -> list[str]:
    return [p.job_id for p in made.placements]


def _devices(made: Plan) -> dict[str, str]:
    return {p.job_id: p.allocation.device for p in made.placements}


def _carry_out(queue: Queue, made: Plan) -> None:
    for p in made.placements:
        queue.do(
            e.Placed(time=queue.now, job_id=p.job_id, attempt=queue[p.job_id].attempt + 1, allocation=p.allocation)
        )
        queue.do(e.AttemptStarted(time=queue.now, job_id=p.job_id, attempt=queue[p.job_id].attempt, pid=1))


# accounts


def test_use_is_counted_while_it_lasts_and_half_is_forgotten_after_a_half_life() -> None:
    ledger = Ledger(half_life_s=HOUR)
    gpu = (DeviceKind.GPU, "ann", "")
    ledger.change(DeviceKind.GPU, "ann", "s", 0.5, 1, at=0.0)
    assert ledger.used(gpu, 0.0) == 0.0
    assert ledger.used(gpu, 36.0) == pytest.approx(18.0, rel=0.01), "hardly anything is forgotten yet"
    for second in range(36, 7200, 36):  # looked at often or once: the same
        before = ledger.used(gpu, second)
    assert before == pytest.approx(0.5 * HOUR / 0.6931 * 0.75, rel=0.01)
    ledger.change(DeviceKind.GPU, "ann", "s", -0.5, -1, at=7200.0)
    most = ledger.used(gpu, 7200.0)
    assert ledger.used(gpu, 7200.0 + HOUR) == pytest.approx(most / 2)
    assert ledger.rate(gpu) == 0.0
    ledger.forget(7200.0 + 10 * HOUR)
    assert ledger.accounts, "a second of a device is still left"
    ledger.forget(7200.0 + 11 * HOUR)
    assert not ledger.accounts


def test_another_half_life_counts_from_then_on() -> None:
    ledger = Ledger(half_life_s=HOUR)
    ledger.change(DeviceKind.CPU, "ann", "s", 1.0, 1, at=0.0)
    ledger.change(DeviceKind.CPU, "ann", "s", -1.0, -1, at=100.0)
    before = ledger.used((DeviceKind.CPU, "ann", "s"), 100.0)
    ledger.set_half_life(10.0, at=100.0)
    assert ledger.used((DeviceKind.CPU, "ann", "s"), 110.0) == pytest.approx(before / 2)


# shares


def test_a_turn_is_shared_between_users_by_weight() -> None:
    queue = Queue(make_cpu(cores=9))
    for owner in ("ann", "bob"):
        for i in range(9):
            queue.submit(f"{owner}-{i}", owner=owner)
    placed = _placed(plan(queue.state, queue.now, Policy(user_weights={"ann": 2.0})))
    assert sum(job_id.startswith("ann") for job_id in placed) == 6
    assert sum(job_id.startswith("bob") for job_id in placed) == 3


def test_who_has_had_much_waits_for_who_has_had_little() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("ann-1", owner="ann")
    queue.start("ann-1")
    queue.now += timedelta(hours=2)
    queue.end("ann-1")
    queue.submit("ann-2", owner="ann")
    queue.submit("bob-1", owner="bob")
    assert _placed(plan(queue.state, queue.now)) == ["bob-1"]
    why = why_waiting(queue.state, "ann-2", queue.now)
    assert "waits for its share: bob has had 0.0 core-hours lately (0 cores now), ann 1.9 (0 cores now)" in why
    later = queue.now + timedelta(days=30)  # everything is forgotten: the order of submission counts
    assert _placed(plan(queue.state, later)) == ["ann-2"]


def test_what_somebody_has_had_is_told_as_it_was_not_as_it_counts() -> None:
    queue = Queue(make_cpu(cores=2))
    for i in range(3):
        queue.submit(f"ann-{i}", owner="ann")
    queue.start("ann-0")
    queue.start("ann-1")
    queue.submit("bob-1", owner="bob")
    why = why_waiting(queue.state, "ann-2", queue.now, Policy(user_weights={"ann": 2.0}))
    assert why.endswith("bob has had 0.0 core-hours lately (0 cores now), ann (weight 2) 0.0 (2 cores now)")


def test_sweeps_of_a_user_share_too() -> None:
    queue = Queue(make_cpu(cores=4))
    for sweep in ("a", "b"):
        for i in range(4):
            queue.submit(f"{sweep}-{i}")
    assert sorted(_placed(plan(queue.state, queue.now))) == ["a-0", "a-1", "b-0", "b-1"]
    policy = Policy(sweep_weights={"b": 3.0})
    assert sorted(_placed(plan(queue.state, queue.now, policy))) == ["a-0", "b-0", "b-1", "b-2"]


def test_priority_goes_before_shares_and_age_before_priority() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("low-1", priority=0)
    queue.submit("high-1", priority=2, owner="bob")
    assert _placed(plan(queue.state, queue.now)) == ["high-1"]
    assert "waits behind jobs of priority 2 (it has 0)" in why_waiting(queue.state, "low-1", queue.now)
    queue.now += timedelta(hours=3)
    queue.submit("high-2", priority=2, owner="bob")
    queue.place("high-1")
    queue.do(e.AttemptStarted(time=queue.now, job_id="high-1", attempt=1, pid=1))
    queue.end("high-1")
    assert _placed(plan(queue.state, queue.now, Policy(aging_s=HOUR))) == ["low-1"]
    assert _placed(plan(queue.state, queue.now, Policy(aging_s=2 * HOUR))) == ["high-2"]


def test_another_priority_does_not_make_a_job_young() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("old-1", priority=1)
    queue.now += timedelta(hours=3)
    queue.submit("new-1", priority=2)
    queue.do(e.PriorityChanged(time=queue.now, job_id="old-1", priority=0))
    assert _placed(plan(queue.state, queue.now, Policy(aging_s=HOUR))) == ["old-1"]


# limits


def test_limits_of_user_sweep_and_node() -> None:
    queue = Queue(make_cpu(cores=4), make_cpu("there", cores=4))
    for i in range(8):
        queue.submit(f"a-{i}")
    assert len(_placed(plan(queue.state, queue.now, Policy(user_limits={"ann": Limit(cpus=3)})))) == 3
    assert len(_placed(plan(queue.state, queue.now, Policy(user_limits={"*": Limit(jobs=2)})))) == 2
    assert len(_placed(plan(queue.state, queue.now, Policy(sweep_limits={"a": Limit(jobs=5)})))) == 5
    made = plan(queue.state, queue.now, Policy(node_limits={"here": Limit(jobs=1)}))
    assert sorted(_devices(made).values()) == ["here:cpu"] + 4 * ["there:cpu"]


def test_a_job_at_a_limit_says_so_and_holds_up_nobody() -> None:
    queue = Queue(make_cpu(cores=4))
    policy = Policy(
        user_limits={"ann": Limit(jobs=1)}, sweep_limits={"b": Limit(cpus=2)}, node_limits={"here": Limit(jobs=2)}
    )
    queue.submit("a-1")
    queue.submit("a-2")
    queue.submit("b-1", owner="bob")
    _carry_out(queue, plan(queue.state, queue.now, policy))
    assert queue["b-1"].state is JobState.RUNNING
    queue.submit("b-2", owner="bob", resources=Resources(cpus=2))
    queue.submit("c-1", owner="bob")
    assert plan(queue.state, queue.now, policy).placements == ()
    why = {j: why_waiting(queue.state, j, queue.now, policy) for j in ("a-2", "b-2", "c-1")}
    assert why == {
        "a-2": "at a limit of the user ann: 1 of at most 1 jobs run",
        "b-2": "at a limit of the sweep b: 1 of at most 2 CPU cores in use",
        "c-1": "at a limit of the node here: 2 jobs run there",
    }


# what was learnt


def test_main_effects_are_found_again_in_a_grid() -> None:
    seconds, effects = {"gru": 10.0, "lstm": 14.0}, Effects()
    for cell, base in seconds.items():
        for size in (1, 2, 4):
            for seed in range(3):
                effects.add({"cell": cell, "size": str(size), "seed": str(seed)}, base * size)
    for cell, base in seconds.items():
        for size in (1, 2, 4):
            assert effects.expect({"cell": cell, "size": str(size), "seed": "77"}) == pytest.approx(base * size)
    assert effects.expect({"cell": "lstm", "size": "4", "new": "x"}) == pytest.approx(56.0)
    assert Effects().expect({"cell": "gru"}) is None


def test_a_setting_with_very_many_values_is_forgotten() -> None:
    effects = Effects()
    for seed in range(1000):
        effects.add({"seed": str(seed)}, 1.0 + seed)
    assert len(effects.cells["seed"]) == 1
    assert effects.expect({"seed": "999"}) == effects.expect({"seed": "3"})


def test_the_waiting_are_put_in_order_each_time_four_times_as_much_is_known() -> None:
    profile = Profile()
    assert profile.rank({}) == ALIKE
    again = [n for n in range(1, 100) if profile.learn_seconds({"n": str(n % 3)}, 10.0 * (1 + n % 3))]
    assert again == [4, 16, 64]
    assert profile.rank({"n": "2"}) > profile.rank({"n": "1"}) > profile.rank({"n": "0"})


def _three_sizes(queue: Queue) -> None:
    """Small, middle and large jobs, of which one each has run."""
    for i, size in enumerate(("small", "middle", "large") * 4):
        queue.submit(f"s-{i:02d}", labels={"size": size})
    for i, seconds in ((0, 10), (1, 60), (2, 600), (3, 10)):
        queue.start(f"s-{i:02d}")
        queue.now += timedelta(seconds=seconds)
        queue.end(f"s-{i:02d}")


def test_longest_first_within_a_sweep_once_durations_are_known() -> None:
    queue = Queue(make_cpu(cores=3))
    _three_sizes(queue)
    assert _placed(plan(queue.state, queue.now)) == ["s-05", "s-08", "s-11"], "the large ones"
    queue.do(e.PolicyApplied(time=queue.now, half_life_s=HOUR, longest_first=False))
    assert _placed(plan(queue.state, queue.now)) == ["s-04", "s-05", "s-06"]


def test_what_is_alike_goes_in_order_of_submission() -> None:
    queue = Queue(make_cpu(cores=2))
    for i in range(6):
        queue.submit(f"s-{i}", labels={"seed": str(i)})
    for i in range(2):
        queue.start(f"s-{i}")
        queue.now += timedelta(seconds=100)
        queue.end(f"s-{i}")
    assert _placed(plan(queue.state, queue.now)) == ["s-2", "s-3"]


def test_measured_memory_decides_what_goes_side_by_side() -> None:
    gpus = [replace(make_gpu(index=i), memory_bytes=80 * 10**9) for i in range(2)]
    queue = Queue(gpus[0])
    for name, used in (("fat", 50e9), ("thin", 10e9)):
        queue.submit(f"{name}-0", resources=Resources(gpus=1), labels={"n": name})
        queue.start(f"{name}-0", "quattro:0")
        queue.end(f"{name}-0", device_memory_bytes=int(used))
    for i in range(1, 4):
        queue.submit(f"fat-{i}", resources=Resources(gpus=0.25), labels={"n": "fat"})
    _carry_out(queue, plan(queue.state, queue.now))
    assert [queue[f"fat-{i}"].state for i in (1, 2, 3)] == [JobState.RUNNING, JobState.PENDING, JobState.PENDING]
    why = why_waiting(queue.state, "fat-2", queue.now)
    assert why == "no GPU with a free share has memory enough beside what runs there (jobs like it needed 50.0 GB)"
    queue.end("fat-1")
    queue.do(e.CancelRequested(time=queue.now, job_id="fat-2"))
    queue.do(e.CancelRequested(time=queue.now, job_id="fat-3"))
    for i in range(1, 5):
        queue.submit(f"thin-{i}", resources=Resources(gpus=0.25), labels={"n": "thin"})
    assert len(plan(queue.state, queue.now).placements) == 4
    del gpus


def test_memory_of_a_shared_device_teaches_nothing() -> None:
    queue = Queue(replace(make_gpu(), memory_bytes=80 * 10**9))
    queue.submit("s-1", resources=Resources(gpus=0.5))
    queue.start("s-1", "quattro:0", 0.5)
    queue.end("s-1", device_memory_bytes=70 * 10**9)
    assert queue.state.expected_memory(queue["s-1"].job) is None


# back-fill


def _kept_room(queue: Queue) -> None:
    """One core runs a long job for 590 s more, the other is kept for a job that needs both."""
    _three_sizes(queue)
    queue.start("s-05")
    queue.now += timedelta(seconds=10)
    for i in (4, 6, 7, 8, 9, 10, 11):
        queue.do(e.Held(time=queue.now, job_id=f"s-{i:02d}", reason="later"))
    queue.submit("wide-1", resources=Resources(cpus=2), priority=1)


def test_a_short_job_uses_room_that_is_kept_for_a_large_one() -> None:
    queue = Queue(make_cpu(cores=2))
    _kept_room(queue)
    assert plan(queue.state, queue.now) == Plan()
    queue.do(e.Released(time=queue.now, job_id="s-08"))
    assert plan(queue.state, queue.now) == Plan(), "a long one would be in the way"
    queue.do(e.Released(time=queue.now, job_id="s-07"))
    assert _placed(plan(queue.state, queue.now)) == ["s-07"]
    assert plan(queue.state, queue.now, Policy(backfill=False)) == Plan()
    late = queue.now + timedelta(seconds=580)
    assert plan(queue.state, late) == Plan(), "it would not be gone in time"
    over = queue.now + timedelta(seconds=2000)
    assert plan(queue.state, over) == Plan(), "nobody knows when the other one will end"
    patient = Policy(aging_s=100.0)
    assert plan(queue.state, queue.now + timedelta(seconds=150), patient) == Plan(), "it has waited too long already"


def test_a_lone_short_job_uses_kept_room_too() -> None:
    """It needs no other of its kind before it: the first of each demand was never asked."""
    queue = Queue(make_cpu(cores=2))
    _kept_room(queue)
    queue.do(e.Released(time=queue.now, job_id="s-07"))
    assert _placed(plan(queue.state, queue.now)) == ["s-07"]


@pytest.mark.parametrize(("before", "placed"), [(19, ["s-short"]), (20, [])])
def test_kept_room_is_offered_to_twenty_jobs_a_plan(before: int, placed: list[str]) -> None:
    """However many wait that it is too short for: a plan costs the same."""
    queue = Queue(make_cpu(cores=2))
    _kept_room(queue)
    for number in range(before):
        queue.submit(f"s-long-{number:02d}", sweep="s", labels={"size": "large"})
    queue.submit("s-short", sweep="s", labels={"size": "small"})
    assert _placed(plan(queue.state, queue.now)) == placed


def test_jobs_that_ask_for_the_same_have_one_device_kept_for_them_together() -> None:
    """Also where each of them is asked whether it could use the room of another one meanwhile."""
    queue = Queue(make_cpu("aa", cores=4), make_cpu("bb", cores=2), make_cpu("cc", cores=2))
    for job_id in ("s-0", "s-1"):
        queue.submit(job_id, labels={"size": "large"}, resources=Resources(cpus=2))
        queue.start(job_id, "aa:cpu", 2.0)
        if job_id == "s-0":
            queue.now += timedelta(seconds=600)
            queue.end(job_id)
    for job_id, device in (("b-1", "bb:cpu"), ("c-1", "cc:cpu")):
        queue.submit(job_id)
        queue.start(job_id, device)
    queue.submit("wide-1", priority=2, resources=Resources(cpus=4))
    for job_id in ("middle-1", "middle-2"):
        queue.submit(job_id, priority=1, resources=Resources(cpus=2))
    queue.submit("small-1")
    assert _placed(plan(queue.state, queue.now)) == ["small-1"]


# nearness


def test_a_job_goes_where_its_data_was_prepared() -> None:
    nodes = [make_cpu(name, cores=1) for name in ("aa", "bb", "cc")]
    queue = Queue(*nodes)
    queue.submit("s-data")
    queue.submit("s-1", ["s-data"])
    queue.start("s-data", "bb:cpu")
    queue.end("s-data")
    assert _devices(plan(queue.state, queue.now)) == {"s-1": "bb:cpu"}
    queue.submit("t-1", priority=1)
    assert _devices(plan(queue.state, queue.now))["t-1"] == "aa:cpu"


# preemption

PREEMPT = Policy(preemption=Preemption(difference=5, after_s=60.0, at_most=2))


def _full(queue: Queue) -> None:
    for i, priority in enumerate((0, 3, 0)):
        queue.submit(f"low-{i}", priority=priority)
        queue.start(f"low-{i}", "here:cpu")
    queue.submit("high-1", priority=5, resources=Resources(cpus=2))


def test_the_least_important_make_room_after_a_while() -> None:
    queue = Queue(make_cpu(cores=3))
    _full(queue)
    made = plan(queue.state, queue.now, PREEMPT)
    assert made.preemptions == ()
    began = queue["high-1"].changed_at
    assert began is not None
    assert made.wake_at == began + timedelta(seconds=60)
    made = plan(queue.state, at(200), PREEMPT)
    assert sorted(leave.job_id for leave in made.preemptions) == ["low-0", "low-2"]
    assert made.preemptions[0].reason == "makes room for high-1, whose priority is 5"
    assert plan(queue.state, at(200)).preemptions == (), "by default whatever runs runs on"
    for leave in made.preemptions:
        queue.do(e.PreemptRequested(time=queue.now, job_id=leave.job_id, reason=leave.reason))
    assert plan(queue.state, at(200), PREEMPT).preemptions == (), "room is on its way"
    for job_id in ("low-0", "low-2"):
        queue.end(job_id, EndReason.PREEMPTED)
        assert queue[job_id].state is JobState.PENDING
    assert _placed(plan(queue.state, at(201), PREEMPT)) == ["high-1"]


def test_the_next_plan_is_made_when_the_first_thing_may_happen() -> None:
    """The end of a back-off, though a job may preempt later."""
    queue = Queue(make_cpu(cores=4))
    queue.submit("x-1")
    for _ in range(2):
        queue.start("x-1")
        queue.end("x-1", EndReason.CRASHED)
        queue.now += timedelta(seconds=20)
    queue.start("x-1")
    _full(queue)
    queue.end("x-1", EndReason.CRASHED)
    made = plan(queue.state, queue.now, PREEMPT)
    again, began = queue["x-1"].not_before, queue["high-1"].changed_at
    assert again is not None
    assert began is not None
    assert queue.now < again < began + timedelta(seconds=60)
    assert made.wake_at == again


def test_a_job_is_left_in_peace_after_some_times() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("low-1")
    for _ in range(2):
        queue.start("low-1")
        queue.do(e.PreemptRequested(time=queue.now, job_id="low-1"))
        queue.end("low-1", EndReason.PREEMPTED)
    queue.start("low-1")
    queue.submit("high-1", priority=9)
    assert plan(queue.state, at(500), PREEMPT).preemptions == ()
    assert plan(queue.state, at(500), Policy(preemption=Preemption(at_most=3))).preemptions != ()


def test_nobody_is_sent_away_for_nothing() -> None:
    queue = Queue(make_cpu(cores=2))
    queue.submit("low-1")
    queue.start("low-1")
    queue.submit("even-1", priority=5)
    queue.start("even-1")
    queue.submit("high-1", priority=6, resources=Resources(cpus=2))
    assert plan(queue.state, at(500), PREEMPT).preemptions == (), "the other core would still be taken"
