"""Whose turn it is: by priority across all demands, then by age, which lifts neither a limit nor a back-off."""

from __future__ import annotations

from datetime import timedelta

from terry.cluster.core.model import EndReason, Resources, RetryPolicy
from terry.cluster.core.policy import Limit, Policy
from terry.cluster.scheduling.plan import plan
from tests.helpers.queue_values import Queue, make_cpu

HOUR = 3600.0


def _placed(queue: Queue, policy: Policy) -> list[str]:
    return [p.job_id for p in plan(queue.state, queue.now, policy).placements]


def test_priorities_hold_across_many_demands() -> None:
    queue = Queue(make_cpu(cores=8))
    order = (0, 1, 2, 3, 6, 5, 4)
    for number, priority in enumerate(order):
        queue.submit(f"p-{priority}", priority=priority, resources=Resources(cpus=0.5 + number / 10))
    assert _placed(queue, Policy()) == [f"p-{priority}" for priority in sorted(order, reverse=True)]


def test_of_users_who_have_waited_alike_the_first_to_submit_goes_first() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("z-1", owner="bob")
    queue.submit("a-1", owner="ann")
    queue.now += timedelta(hours=3)
    assert _placed(queue, Policy(aging_s=2 * HOUR)) == ["z-1"]


def test_those_that_have_waited_longest_go_in_order_of_submission_before_higher_priorities() -> None:
    queue = Queue(make_cpu(cores=3))
    for job_id in ("s-9", "t-1", "s-1", "t-9"):
        queue.submit(job_id)
    queue.now += timedelta(hours=3)
    queue.submit("new-1", priority=1)
    assert _placed(queue, Policy(aging_s=HOUR)) == ["s-9", "t-1", "s-1"]


def test_age_lifts_no_limit_of_a_sweep() -> None:
    queue = Queue(make_cpu(cores=3))
    queue.submit("old-0")
    queue.start("old-0")
    queue.submit("old-1")
    queue.now += timedelta(hours=3)
    queue.submit("new-1")
    policy = Policy(aging_s=HOUR, sweep_limits={"old": Limit(jobs=1)})
    assert _placed(queue, policy) == ["new-1"]


def test_age_lifts_no_back_off() -> None:
    queue = Queue(make_cpu(cores=1))
    queue.submit("old-1", retry=RetryPolicy(backoff_s=10 * HOUR, backoff_max_s=10 * HOUR))
    for _ in range(2):
        queue.start("old-1")
        queue.end("old-1", EndReason.KILLED)
    queue.submit("new-1", priority=-9)
    queue.now += timedelta(hours=3)
    made = plan(queue.state, queue.now, Policy(aging_s=HOUR))
    assert [p.job_id for p in made.placements] == ["new-1"]
    assert made.wake_at == queue["old-1"].not_before
