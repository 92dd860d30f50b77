"""The controller carries out what the policy says, and journals what of it the state depends on."""

from __future__ import annotations

from pathlib import Path

from terry.cluster.controller.loop import Controller
from terry.cluster.core import events as e
from terry.cluster.core.model import AttemptEnd, EndReason, JobState
from terry.cluster.core.policy import Policy, Preemption
from terry.cluster.files.journal import read
from tests.helpers.controller_bench import Bench
from tests.helpers.queue_values import NoSync


class PolicyBench(Bench):
    """A bench whose policy a person changes."""

    policy = Policy()

    def new_controller(self) -> Controller:
        self.calls = NoSync()
        self.controller = Controller(
            self.workspace, self.pool, self.clock, calls=self.calls, policy=lambda: self.policy
        )
        self.controller.recover()
        return self.controller


def test_a_job_of_high_priority_makes_others_leave_and_they_go_on_later(tmp_path: Path) -> None:
    bench = PolicyBench(tmp_path)
    bench.policy = Policy(preemption=Preemption(difference=5, after_s=10.0))
    bench.submit("low-1", "low-2", sweep="low")
    bench.turn(2)
    bench.submit("high-1", sweep="high", priority=9)
    bench.turn(2)
    assert bench["high-1"].state is JobState.PENDING
    bench.clock.advance(10.0)  # nothing happens but that time goes by
    bench.turn(4)
    assert bench["high-1"].state is JobState.RUNNING
    left = [r for r in (bench["low-1"], bench["low-2"]) if r.state is JobState.PENDING]
    assert len(left) == 1, "one core was enough"
    assert left[0].attempts[-1].end == AttemptEnd(reason=EndReason.PREEMPTED)
    bench.pool.end("high-1", AttemptEnd(reason=EndReason.SUCCESS))
    bench.turn(3)
    assert left[0].job.id in {job_id for job_id, _ in bench.pool.running()}


def test_a_changed_policy_counts_at_once_and_survives_the_controller(tmp_path: Path) -> None:
    bench = PolicyBench(tmp_path)
    bench.turn()
    bench.policy = Policy(half_life_s=60.0, longest_first=False)
    bench.turn()
    bench.restart()
    assert bench.controller.state.ledger.half_life_s == 60.0
    assert bench.controller.state.longest_first is False
    bench.turn()
    applied = [entry.event for entry in read(bench.workspace.journal) if isinstance(entry.event, e.PolicyApplied)]
    assert len(applied) == 1, "only what is new is said"
