"""What waits for devices: only that brings nodes which would run on them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.core import events as e
from terry.cluster.core.model import DeviceKind, EndReason, Resources
from terry.cluster.core.policy import Limit, Policy
from terry.cluster.scheduling.demand import DeviceLoad, IdleWatch, Need, WaitingJobs, waiting_jobs
from terry.cluster.scheduling.plan import plan
from terry.cluster.slurm.plan import GroupPlan, Seen, plan_group
from tests.helpers.queue_values import Queue, make_cpu


def counts(queue: Queue, policy: Policy | None = None) -> dict[tuple[float, str | None], int]:
    """Share and node -> how many wait."""
    found: Counter[tuple[float, str | None]] = Counter()
    for jobs in waiting_jobs(queue.state, queue.now, policy or Policy()):
        found[jobs.share, jobs.node] += jobs.count
    return found


def submitted(queue: Queue, count: int, sweep: str = "s", **changes: object) -> None:
    for number in range(count):
        queue.submit(f"{sweep}-{number}", **changes)


def test_jobs_that_ask_for_the_same_are_counted_together() -> None:
    queue = Queue()
    submitted(queue, 3)
    submitted(queue, 2, "wide", resources=Resources(cpus=4), owner="bob")
    submitted(queue, 1, "there", resources=Resources(cpus=1, node="quattro*"))
    assert counts(queue) == {(1.0, None): 3, (4.0, None): 2, (1.0, "quattro*"): 1}


def test_jobs_beyond_a_limit_of_their_user_bring_no_node() -> None:
    queue = Queue(make_cpu(cores=2))
    submitted(queue, 5)
    submitted(queue, 4, "other", owner="bob")
    most = Policy(user_limits={"ann": Limit(cpus=3)})
    assert counts(queue, most) == {(1.0, None): 3 + 4}
    queue.start("s-0")
    queue.start("s-1")
    assert counts(queue, most) == {(1.0, None): 1 + 4}, "what runs counts"
    assert counts(queue, Policy(user_limits={"*": Limit(jobs=2)})) == {(1.0, None): 2}
    assert counts(queue, Policy(user_limits={"ann": Limit(jobs=2), "bob": Limit(jobs=0)})) == {}


def test_jobs_beyond_a_limit_of_their_sweep_bring_no_node() -> None:
    queue = Queue()
    submitted(queue, 5)
    submitted(queue, 4, "other")
    assert counts(queue, Policy(sweep_limits={"other": Limit(jobs=1)})) == {(1.0, None): 5 + 1}
    both = Policy(sweep_limits={"other": Limit(jobs=1)}, user_limits={"ann": Limit(jobs=3)})
    assert counts(queue, both) == {(1.0, None): 3}, "whichever is reached first"


def test_a_limit_is_shared_by_all_that_may_run_in_a_place() -> None:
    """Jobs of a place that does not come leave the others' room alone."""
    queue = Queue()
    submitted(queue, 2, "wide", resources=Resources(cpus=4))
    submitted(queue, 3)
    submitted(queue, 4, "there", resources=Resources(cpus=1, node="gone"))
    assert counts(queue, Policy(user_limits={"ann": Limit(cpus=6)})) == {(1.0, None): 3, (1.0, "gone"): 4}
    assert counts(queue, Policy(user_limits={"ann": Limit(cpus=7)})) == {
        (1.0, None): 3,
        (4.0, None): 1,
        (1.0, "gone"): 4,
    }


def test_jobs_that_back_off_bring_no_node() -> None:
    queue = Queue(make_cpu())
    submitted(queue, 2)
    for _ in range(2):
        queue.start("s-0")
        queue.end("s-0", EndReason.CRASHED)
    not_before = queue.state.jobs["s-0"].not_before
    assert not_before is not None
    began = queue.state.jobs["s-0"].changed_at
    assert began is not None
    queue.now = began
    assert counts(queue) == {(1.0, None): 1}
    queue.now = began - timedelta(hours=1)
    assert counts(queue) == {(1.0, None): 2}, "a clock that was set back holds nobody up"
    queue.now = not_before
    assert counts(queue) == {(1.0, None): 2}


def test_slurm_nodes_neither_come_nor_go_by_jobs_at_a_limit() -> None:
    """As many as are counted are placed once there is a node, and then nobody asks for more."""
    queue, policy = Queue(), Policy(user_limits={"ann": Limit(jobs=2)})
    submitted(queue, 9)
    group = SlurmGroup(name="queue", most=5, options={"cpus_per_task": 1})

    def asked() -> GroupPlan:
        now = datetime.now(UTC)
        return plan_group(group, Seen(waiting=waiting_jobs(queue.state, queue.now, policy)), now)

    assert asked().submit == ("queue-1", "queue-2")
    for name in asked().submit:
        queue.do(e.DeviceSeen(time=queue.now, device=make_cpu(name, cores=1)))
    placed = plan(queue.state, queue.now, policy).placements
    assert len(placed) == 2
    for each in placed:
        queue.place(each.job_id, each.allocation.device)
    assert asked() == GroupPlan()


def test_a_device_is_idle_from_when_its_last_job_has_left_it_or_it_has_come() -> None:
    queue, watch = Queue(make_cpu(cores=2)), IdleWatch()
    came = queue.now
    submitted(queue, 2)
    assert watch.look(queue.state, came) == (DeviceLoad(device_id="here:cpu", free=2.0, idle_since=came),)
    assert watch.look(queue.state, came + timedelta(hours=1))[0].idle_since == came, "it has been idle all the time"
    queue.start("s-0")
    assert watch.look(queue.state, queue.now) == (DeviceLoad(device_id="here:cpu", free=1.0, idle_since=None),)
    queue.end("s-0")
    left = queue.now
    assert watch.look(queue.state, left)[0].idle_since == left
    assert watch.look(queue.state, left + timedelta(hours=1))[0].idle_since == left
    queue.do(e.DeviceGone(time=queue.now, device_id="here:cpu", reason="unplugged"))
    assert watch.look(queue.state, queue.now) == ()
    queue.do(e.DeviceSeen(time=queue.now, device=make_cpu(cores=2, incarnation=2)))
    back = left + timedelta(hours=2)
    assert watch.look(queue.state, back)[0].idle_since == back, "another life of the node"


def test_what_is_needed_is_told_all_at_once() -> None:
    queue = Queue(make_cpu(cores=1), make_cpu("there"))
    submitted(queue, 3)
    queue.start("s-0")
    queue.do(e.DeviceGone(time=queue.now, device_id="there:cpu", reason="given back", given_back=True))
    assert IdleWatch().need(queue.state, queue.now, Policy()) == Need(
        time=queue.now,
        devices=(make_cpu(cores=1), make_cpu("there")),
        waiting=(WaitingJobs(kind=DeviceKind.CPU, share=1.0, count=2),),
        loads=(DeviceLoad(device_id="here:cpu", free=0.0, idle_since=None),),
        held=frozenset({"here:cpu"}),
    )


def test_a_limit_on_jobs_lets_either_kind_of_node_come() -> None:
    """Whichever of them is there first will run them."""
    queue = Queue()
    submitted(queue, 3)
    submitted(queue, 3, "g", resources=Resources(gpus=0.5))
    assert counts(queue, Policy(user_limits={"ann": Limit(jobs=2)})) == {(1.0, None): 2, (0.5, None): 2}
