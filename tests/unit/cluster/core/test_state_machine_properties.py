"""The state machine under any sequence of events that it allows, and refusing any that it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from terry.cluster.core import events as e
from terry.cluster.core.events import Event
from terry.cluster.core.model import AttemptEnd, Device, EndReason, Resources, RetryPolicy
from terry.cluster.core.state_document import from_snapshot, to_snapshot, validate
from terry.cluster.core.state_machine import State, apply, due, follow
from terry.cluster.core.transitions import TRANSITIONS
from terry.cluster.errors import InvalidTransition
from terry.cluster.scheduling.plan import plan
from tests.helpers.queue_values import at, make_cpu, make_gpu, make_job

DEVICES = [make_cpu("a", 2.0), make_cpu("b", 1.0), make_gpu("b", 0)]
_devices = st.sampled_from(DEVICES)
_resources = st.sampled_from(
    [Resources(cpus=1), Resources(cpus=0.5), Resources(gpus=0.5), Resources(cpus=1, exclusive=True), Resources(cpus=9)]
)
_steps = st.one_of(st.none(), st.integers(0, 5))
_ends = st.builds(
    AttemptEnd,
    reason=st.sampled_from(EndReason),
    step=_steps,
    checkpoint_step=_steps,
    first_step_done=st.booleans(),
    device_fault=st.sampled_from(["", "", "", "Xid 79"]),
)
_picks = st.integers(0, 10**6)

#: What can happen to a device.
_HAPPENINGS = ["seen", "blocked", "unblocked", "gone", "lost", "drained", "undrained", "controller"]


class Life(RuleBasedStateMachine):
    """Events at random, most of them legal; a twin that is only ever replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.twin = State()
        self.twin.defer()
        self.seconds = 0

    @initialize()
    def devices_appear(self) -> None:
        for device in DEVICES:
            self.do(e.DeviceSeen(time=at(0), device=device))

    def do(self, event: Event) -> None:
        before = to_snapshot(self.state)

        def left_out(_: Event, error: InvalidTransition | None) -> None:
            assert error is None or to_snapshot(self.state) == before, "a refused event changes nothing"

        for applied, _ in follow(self.state, event, left_out):
            validate(self.state)
            apply(self.twin, applied)
            before = to_snapshot(self.state)

    def pick(self, number: int) -> str:
        return list(self.state.jobs)[number % len(self.state.jobs)]

    @rule(needs=st.lists(_picks, max_size=2), resources=_resources, held=st.booleans(), priority=st.integers(-1, 1))
    def submit(self, needs: list[int], resources: Resources, held: bool, priority: int) -> None:
        depends_on = [self.pick(n) for n in needs] if self.state.jobs else []
        job = make_job(f"s-{len(self.state.jobs)}", depends_on, resources=resources, held=held, priority=priority)
        self.do(e.Submitted(time=self.time(), job=job))

    @rule()
    def place(self) -> None:
        for placement in plan(self.state, self.time()).placements:
            attempt = self.state.jobs[placement.job_id].attempt + 1
            event = e.Placed(
                time=self.time(), job_id=placement.job_id, attempt=attempt, allocation=placement.allocation
            )
            apply(self.state, event)  # a plan is always allowed
            apply(self.twin, event)

    @precondition(lambda self: self.state.jobs)
    @rule(number=_picks, kind=st.sampled_from(sorted(TRANSITIONS, key=lambda kind: kind.__name__)), end=_ends)
    def anything(self, number: int, kind: type, end: AttemptEnd) -> None:
        record = self.state.jobs[self.pick(number)]
        values = {
            "time": self.time(),
            "job_id": record.job.id,
            "attempt": record.attempt,
            "end": end,
            "pid": 1,
            "message": "",
            "reason": "",
            "priority": number % 3,
            "dependency": (record.job.depends_on or ("?",))[0],
            "from_scratch": number % 2 == 0,
            "job": replace(record.job, identity=f"{number:064d}", former=(*record.job.former, record.job.identity)),
            "resources": Resources(cpus=1 + number % 2),
            "retry": RetryPolicy(crash=number % 5),
            "time_limit_s": None if number % 2 else 60.0,
            "hang_after_s": None,
            "threads": None,
            "note": "as in the paper" * (number % 2),
            "tags": ("paper",) * (number % 3),
            "starred": number % 2 == 0,
            "archived": number % 3 == 0,
            "checkpoints": ("step-000000010-a0001",) * (number % 2),
        }
        if kind is not e.Placed:
            self.do(kind(**{field: values[field] for field in kind.__struct_fields__ if field in values}))

    @precondition(lambda self: self.state.on_device)
    @rule(end=_ends, start=st.booleans())
    def run_on(self, end: AttemptEnd, start: bool) -> None:
        for record in list(self.state.active()):
            if start:
                self.do(e.AttemptStarted(time=self.time(), job_id=record.job.id, attempt=record.attempt, pid=1))
            else:
                self.do(e.AttemptEnded(time=self.time(), job_id=record.job.id, attempt=record.attempt, end=end))

    @rule(device=_devices, what=st.sampled_from(_HAPPENINGS))
    def device(self, device: Device, what: str) -> None:
        now = self.time()
        self.do(
            {
                "seen": e.DeviceSeen(time=now, device=device),
                "blocked": e.DeviceBlocked(time=now, device_id=device.id, reason="in use by somebody else"),
                "unblocked": e.DeviceBlocked(time=now, device_id=device.id, reason=""),
                "gone": e.DeviceGone(time=now, device_id=device.id, reason=""),
                "lost": e.NodeLost(time=now, node=device.node, node_id=device.node_id),
                "drained": e.DeviceDrained(time=now, device_id=device.id, reason=""),
                "undrained": e.DeviceUndrained(time=now, device_id=device.id),
                "controller": e.ControllerStarted(time=now, epoch=self.state.epoch + 1, host="h", pid=1),
            }[what]
        )

    @precondition(lambda self: self.state.jobs)
    @rule(number=_picks, priority=st.integers(-1, 1))
    def change_priority(self, number: int, priority: int) -> None:
        self.do(e.PriorityChanged(time=self.time(), job_id=self.pick(number), priority=priority))

    def time(self) -> datetime:
        self.seconds += 100
        return at(self.seconds)

    @invariant()
    def all_is_in_order(self) -> None:
        validate(self.state)
        assert due(self.state) == []
        self.twin.settle()
        assert self.twin.__dict__ == self.state.__dict__, "the same events make the same state"
        self.twin.defer()
        assert from_snapshot(to_snapshot(self.state)).__dict__ == self.state.__dict__
        for record in self.state.jobs.values():
            if record.state.holds_device:
                assert all(self.state.is_completed(d) for d in record.job.depends_on)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
