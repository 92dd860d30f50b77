"""No job waits for ever, whatever others do: any job that some device could hold gets its turn."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.core import events as e
from terry.cluster.core.model import AttemptEnd, EndReason, JobState, Resources
from terry.cluster.core.policy import Limit, Policy, Preemption
from terry.cluster.core.state_machine import State, apply
from terry.cluster.scheduling.plan import plan
from tests.helpers.queue_values import at, make_cpu, make_job

STEP_S = 10.0
SUCCESS = AttemptEnd(reason=EndReason.SUCCESS, first_step_done=True)


@dataclass
class Flood:
    """Others submit more than the devices can do, without end; among them small and important jobs."""

    seed: int
    policy: Policy
    state: State = field(default_factory=State)
    steps: int = 0
    ends: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        for name, cores in (("a", 4.0), ("b", 2.0)):
            apply(self.state, e.DeviceSeen(time=at(0), device=make_cpu(name, cores)))

    def submit(self, job_id: str, **details: object) -> None:
        apply(self.state, e.Submitted(time=at(self.steps * STEP_S), job=make_job(job_id, **details)))

    def step(self) -> None:
        now, self.steps = at(self.steps * STEP_S), self.steps + 1
        for _ in range(self.random.choice([1, 2, 3, 4])):
            self.submit(
                f"flood{self.random.randrange(3)}-{len(self.state.jobs)}",
                owner=self.random.choice(["ann", "bob", "eve"]),
                priority=self.random.choice([0, 1, 2]),
                resources=Resources(cpus=self.random.choice([0.5, 1.0, 2.0])),
                labels={"size": self.random.choice("abc")},
            )
        for job_id in [j for j, end in self.ends.items() if end <= self.steps]:
            reason = EndReason.PREEMPTED if self.state.jobs[job_id].state is JobState.STOPPING else None
            del self.ends[job_id]
            end = SUCCESS if reason is None else AttemptEnd(reason=reason)
            apply(self.state, e.AttemptEnded(time=now, job_id=job_id, attempt=self.attempt(job_id), end=end))
        made = plan(self.state, now, self.policy)
        for p in made.placements:
            number = self.attempt(p.job_id) + 1
            apply(self.state, e.Placed(time=now, job_id=p.job_id, attempt=number, allocation=p.allocation))
            apply(self.state, e.AttemptStarted(time=now, job_id=p.job_id, attempt=number, pid=1))
            self.ends[p.job_id] = self.steps + self.random.randint(2, 12)  # so that no device is empty by luck
        for leave in made.preemptions:
            apply(self.state, e.PreemptRequested(time=now, job_id=leave.job_id))
            self.ends[leave.job_id] = self.steps + 1

    def attempt(self, job_id: str) -> int:
        return self.state.jobs[job_id].attempt

    def steps_until(self, job_id: str, most: int, state: JobState | None = None) -> int | None:
        """Steps until the job has begun (or is in `state`); None if it has not after `most`."""
        for number in range(most):
            self.step()
            record = self.state.jobs[job_id]
            if record.state is state or (state is None and record.attempts):
                return number
        return None


_policies = st.builds(
    Policy,
    aging_s=st.just(60.0),
    backfill=st.booleans(),
    longest_first=st.booleans(),
    user_weights=st.sampled_from([{}, {"ann": 100.0}, {"zoe": 0.01}]),
    user_limits=st.sampled_from([{}, {"ann": Limit(cpus=3.0)}]),
    node_limits=st.sampled_from([{}, {"a": Limit(jobs=3)}]),
    preemption=st.sampled_from([None, Preemption(difference=1, after_s=20.0, at_most=2)]),
)


@given(
    seed=st.integers(0, 10**6),
    policy=_policies,
    cores=st.sampled_from([0.5, 1.0, 3.0, 4.0]),
    exclusive=st.booleans(),
    priority=st.integers(-2, 2),
    owner=st.sampled_from(["zoe", "ann"]),
)
@settings(max_examples=60, deadline=None)
def test_every_job_gets_its_turn(
    seed: int, policy: Policy, cores: float, exclusive: bool, priority: int, owner: str
) -> None:
    if owner == "ann" and policy.user_limits and cores > 3.0:
        cores = 3.0  # what is beyond its user's limit may wait for ever, and says so
    flood = Flood(seed, policy)
    for _ in range(5):
        flood.step()
    wanted = Resources(cpus=cores, exclusive=exclusive)
    flood.submit("last-1", priority=priority, owner=owner, resources=wanted)
    assert flood.steps_until("last-1", 500) is not None
    assert flood.steps_until("last-1", 3000, JobState.COMPLETED) is not None, "and is not sent away for ever"


def test_without_age_a_flood_of_higher_priority_would_starve_it() -> None:
    """That the test above can fail."""
    flood = Flood(1, Policy(aging_s=1e9))
    for _ in range(30):
        flood.step()
    flood.submit("last-1", priority=-1, owner="zoe")
    assert flood.steps_until("last-1", 500) is None
