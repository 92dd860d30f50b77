"""How many Slurm jobs are asked for and let go: examples, and what holds whatever is seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.config.node_values import DeviceChoice
from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.core.model import Device, DeviceKind
from terry.cluster.scheduling.demand import DeviceLoad, WaitingJobs
from terry.cluster.slurm.plan import (
    LOST_AFTER,
    GroupPlan,
    Phase,
    Seen,
    SlurmJob,
    expected_cores,
    expected_gpus,
    in_group,
    plan_group,
    strangers,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CPU, GPU = DeviceKind.CPU, DeviceKind.GPU


def group(**settings: object) -> SlurmGroup:
    return SlurmGroup(**{"name": "queue", "most": 3, "gres": "gpu:2", **settings})  # type: ignore[arg-type]


def waiting(count: int, kind: DeviceKind = GPU, share: float = 1.0, **more: str) -> WaitingJobs:
    return WaitingJobs(kind=kind, share=share, count=count, **more)


def job(number: int, phase: Phase = Phase.RUNNING, node: str = "") -> SlurmJob:
    return SlurmJob(id=str(100 + number), node=node or f"queue-{number}", phase=phase)


def gpu(node: str, index: int = 0, model: str = "NVIDIA H100") -> Device:
    return Device(id=f"{node}:{index}", node=node, node_id="life", kind=GPU, capacity=1.0, model=model)


def load(device: Device, free: float = 1.0, idle_s: float | None = None) -> DeviceLoad:
    since = None if idle_s is None else NOW - timedelta(seconds=idle_s)
    return DeviceLoad(device_id=device.id, free=free, idle_since=since)


def test_nodes_are_asked_for_by_what_waits() -> None:
    assert plan_group(group(), Seen(), NOW) == GroupPlan()
    assert plan_group(group(), Seen(waiting=(waiting(1),)), NOW).submit == ("queue-1",)
    assert plan_group(group(), Seen(waiting=(waiting(3),)), NOW).submit == ("queue-1", "queue-2")
    assert plan_group(group(), Seen(waiting=(waiting(9, share=0.25),)), NOW).submit == ("queue-1", "queue-2")
    assert plan_group(group(), Seen(waiting=(waiting(100),)), NOW).submit == ("queue-1", "queue-2", "queue-3")
    assert plan_group(group(least=2), Seen(), NOW).submit == ("queue-1", "queue-2")


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    coming = (job(1, Phase.PENDING), job(3))
    assert plan_group(group(), Seen(waiting=(waiting(4),), jobs=coming), NOW) == GroupPlan()
    assert plan_group(group(), Seen(waiting=(waiting(5),), jobs=coming), NOW).submit == ("queue-2",)


def test_jobs_that_no_node_of_the_group_could_run_bring_none() -> None:
    for jobs in (waiting(5, node="quattro*"), waiting(5, CPU, share=2.0)):
        assert plan_group(group(), Seen(waiting=(jobs,)), NOW) == GroupPlan()
    assert plan_group(group(gres=None), Seen(waiting=(waiting(5),)), NOW) == GroupPlan()
    assert (
        plan_group(group(devices=DeviceChoice(leave_out=("cpu",))), Seen(waiting=(waiting(5, CPU),)), NOW).submit == ()
    )
    assert plan_group(group(labels=("fast",)), Seen(waiting=(waiting(1, node="fast"),)), NOW).submit
    assert plan_group(group(), Seen(waiting=(waiting(1, node="queue*"),)), NOW).submit
    # Of which model they are is known once one was there.
    seen = Seen(waiting=(waiting(1, device="A100"),))
    assert plan_group(group(), seen, NOW).submit == ("queue-1",)
    assert plan_group(group(), replace(seen, devices=(gpu("queue-1"),)), NOW).submit == ()


def test_jobs_that_wait_although_devices_are_free_wait_for_something_else() -> None:
    lab = gpu("seawolf")
    seen = Seen(waiting=(waiting(1),), devices=(lab,), loads=(load(lab, free=1.0, idle_s=1),))
    assert plan_group(group(), seen, NOW) == GroupPlan()
    assert plan_group(group(), replace(seen, loads=(load(lab, free=0.0),)), NOW).submit == ("queue-1",)


def test_a_node_that_was_idle_for_long_is_let_go() -> None:
    devices = (gpu("queue-1"), gpu("queue-1", 1), gpu("queue-2"))
    here = Seen(jobs=(job(1), job(2)), members=frozenset({"queue-1", "queue-2"}), devices=devices)
    busy, short, long = (None, 0.0), (1.0, 1.0), (601.0, 1.0)

    def planned(*idle: tuple[float | None, float], least: int = 0) -> tuple[str, ...]:
        loads = tuple(load(d, free, idle_s) for d, (idle_s, free) in zip(devices, idle, strict=True))
        return plan_group(group(least=least), replace(here, loads=loads), NOW).release

    assert planned(long, long, long) == ("102", "101")
    assert planned(long, long, long, least=1) == ("102",), "the newest goes first"
    assert planned(long, busy, long) == ("102",), "all of a node's devices count"
    assert planned(long, long, short) == ("101",)
    assert planned(short, short, busy) == ()
    # Whoever goes already counts neither as idle nor as one of `min`.
    loads = tuple(load(d, 1.0, 601.0) for d in devices)
    left = plan_group(group(least=1), replace(here, loads=loads, leaving=frozenset({"102"})), NOW)
    assert left == GroupPlan()


def test_what_nobody_needs_any_more_is_taken_back() -> None:
    jobs = (job(1, Phase.PENDING), job(2, Phase.PENDING), job(3, Phase.PENDING))
    assert plan_group(group(), Seen(jobs=jobs), NOW).cancel == ("103", "102", "101")
    assert plan_group(group(least=1), Seen(jobs=jobs), NOW).cancel == ("103", "102")
    assert plan_group(group(), Seen(jobs=jobs, waiting=(waiting(3),)), NOW).cancel == ("103",)


def test_a_running_job_that_is_no_node_for_long_is_lost() -> None:
    seen = Seen(jobs=(job(1),), waiting=(waiting(1),), absent_since={"101": NOW - LOST_AFTER})
    assert plan_group(group(), seen, NOW) == GroupPlan()
    later = plan_group(group(), seen, NOW + timedelta(seconds=1))
    assert later == GroupPlan(cancel=("101",), submit=("queue-1",))


def test_of_two_jobs_for_one_node_the_running_one_stays() -> None:
    doubles = (job(1, Phase.PENDING), SlurmJob(id="200", node="queue-1", phase=Phase.RUNNING))
    assert plan_group(group(), Seen(jobs=doubles, waiting=(waiting(1),)), NOW).cancel == ("101",)


def test_jobs_of_no_group_are_strangers() -> None:
    assert in_group(group(), "queue-12")
    assert not any(
        in_group(group(), name) for name in ("queue", "queue-", "queue-0", "queue-x", "a-queue-1", "queue-1-1")
    )
    assert strangers([group()], [job(1), job(2, node="gone-1")]) == ("102",)


def test_what_is_asked_of_slurm_says_what_a_node_brings() -> None:
    for gres, count in {"gpu": 1, "gpu:4": 4, "gpu:h100:2": 2, "gpu:h100": 1, "shard:3,gpu:2": 2, "tmp:5": 0}.items():
        assert expected_gpus(group(gres=gres)) == count, gres
    assert expected_gpus(group(gres=None)) == 0
    assert expected_gpus(group(gres=None, options={"gpus_per_node": "a100:8"})) == 8
    assert expected_cores(group()) == 1
    assert expected_cores(group(options={"cpus_per_task": 6})) == 6
    assert expected_cores(group(options={"cpus_per_task": 6}, cpus=2)) == 2


@st.composite
def situations(draw: st.DrawFn) -> tuple[SlurmGroup, Seen]:
    most = draw(st.integers(0, 5))
    made = group(most=most, least=draw(st.integers(0, most)))
    numbers = draw(st.lists(st.integers(1, 7), max_size=8))
    jobs = tuple(
        SlurmJob(id=str(100 + i), node=f"queue-{n}", phase=draw(st.sampled_from(Phase))) for i, n in enumerate(numbers)
    )
    running = [j for j in jobs if j.phase is Phase.RUNNING]
    members = frozenset(j.node for j in running if draw(st.booleans()))
    devices = tuple(gpu(name, index) for name in sorted(members) for index in range(2))
    loads = tuple(
        load(d, 1.0 - (idle is None), idle) for d in devices for idle in [draw(st.sampled_from([None, 5.0, 700.0]))]
    )
    return made, Seen(
        jobs=jobs,
        members=members,
        devices=devices,
        loads=loads,
        waiting=tuple(draw(st.lists(st.builds(waiting, st.integers(1, 20)), max_size=2))),
        leaving=frozenset(j.id for j in running if draw(st.integers(0, 4)) == 0),
        absent_since={
            j.id: NOW - draw(st.sampled_from([timedelta(seconds=1), 2 * LOST_AFTER]))
            for j in running
            if j.node not in members
        },
    )


@given(situations())
@settings(max_examples=400, deadline=None)
def test_whatever_is_seen(situation: tuple[SlurmGroup, Seen]) -> None:
    made, seen = situation
    plan = plan_group(made, seen, NOW)
    known = {j.id: j for j in seen.jobs}
    left = [j for j in seen.jobs if j.id not in plan.cancel]

    # Never more than `max` by our doing; no name twice; only what is there is cancelled.
    assert not plan.submit or len(left) + len(plan.submit) <= made.most + len(plan.cancel)
    assert len({j.node for j in left} | set(plan.submit)) == len(left) + len(plan.submit)
    assert len({*plan.cancel, *plan.release}) == len(plan.cancel) + len(plan.release)
    assert {*plan.cancel, *plan.release} <= known.keys()

    # Nothing on which a job runs is let go.
    busy = {load.device_id.rpartition(":")[0] for load in seen.loads if load.idle_since is None}
    assert not busy & {known[i].node for i in plan.release}
    assert all(known[i].node in seen.members and known[i].phase is Phase.RUNNING for i in plan.release)

    # Without anything that waits, no more than `min` are asked for.
    if not seen.waiting:
        assert len(plan.submit) <= made.least

    # `min` are there afterwards, or on their way, as far as `max` allows.
    staying = [j for j in left if j.id not in seen.leaving and j.id not in plan.release]
    room = len(left) + len(plan.submit) < made.most
    assert len(staying) + len(plan.submit) >= made.least or not room


@given(situations())
@settings(max_examples=200, deadline=None)
def test_carried_out_it_is_settled(situation: tuple[SlurmGroup, Seen]) -> None:
    made, seen = situation
    plan = plan_group(made, seen, NOW)
    asked = tuple(SlurmJob(id=str(500 + i), node=n, phase=Phase.PENDING) for i, n in enumerate(plan.submit))
    jobs = (*(j for j in seen.jobs if j.id not in plan.cancel), *asked)
    after = replace(seen, jobs=jobs, leaving=seen.leaving | set(plan.release))
    again = plan_group(made, after, NOW)
    # Who was let go makes room for nobody until he has left; what is asked for then is `min` at most.
    assert again.cancel == ()
    assert again.release == ()
    assert len(again.submit) <= max(0, len(plan.release))
