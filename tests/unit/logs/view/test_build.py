"""From what the queue knows to what is shown."""

from __future__ import annotations

import msgspec
import pytest

from terry.cluster.core.model import DeviceKind, EndReason, JobState, Progress, Resources
from terry.logs.records.results import JobOutcome
from terry.logs.view.build import ViewBuilder, job_view
from terry.logs.view.forecast import slots
from terry.logs.view.timeline import latest
from terry.logs.view.view import Attention, DeviceCondition, Severity
from tests.helpers.job_records import NOW, ago, attempt, device, known, record


def progress(number: int, attempt_number: int = 1, **changes: object) -> Progress:
    figures = {"step": 400, "total_steps": 1000, "steps_per_s": 10.0, "loss": 3.0, "time": ago(2)}
    return Progress(job_id=f"cells-{number:04d}", attempt=attempt_number, **(figures | changes))  # type: ignore[arg-type]


def test_a_running_job_shows_its_progress() -> None:
    """And ends after the steps left at its pace (10 a second now, 400 in 98 s so far), less the time since then."""
    running = record(1, JobState.RUNNING)
    shown = job_view(running, known(running, progress={"cells-0001": progress(1)}))
    assert (shown.step, shown.total_steps, shown.loss, shown.device) == (400, 1000, 3.0, "quattro:cpu")
    assert shown.eta_seconds == pytest.approx((60 + 147) / 2 - 2)
    assert shown.fraction == 0.4
    assert shown.elapsed_s == 100.0


def test_progress_of_an_earlier_attempt_is_not_shown() -> None:
    """live.json may be older than the journal."""
    again = record(1, JobState.RUNNING, attempts=(attempt(1, EndReason.CRASHED, step=412), attempt(2, None, began=5.0)))
    shown = job_view(again, known(again, progress={"cells-0001": progress(1, attempt_number=1)}))
    assert shown.step == 412  # what the end of the first attempt says
    assert shown.loss is None
    assert shown.attention is Attention.TROUBLED


@pytest.mark.parametrize(
    ("state", "reason", "attention"),
    [
        (JobState.PENDING, None, Attention.QUEUED),
        (JobState.HELD, None, Attention.HELD),
        (JobState.RUNNING, None, Attention.RUNNING),
        (JobState.PENDING, EndReason.HUNG, Attention.TROUBLED),
        (JobState.PENDING, EndReason.PREEMPTED, Attention.QUEUED),
        (JobState.FAILED, EndReason.EXCEPTION, Attention.FAILED),
        (JobState.COMPLETED, EndReason.SUCCESS, Attention.DONE),
        (JobState.CANCELLED, EndReason.CANCELLED, Attention.DONE),
    ],
)
def test_attention(state: JobState, reason: EndReason | None, attention: Attention) -> None:
    """What needs a person."""
    attempts = (attempt(1, reason),) if reason or state.holds_device else ()
    given = record(1, state, attempts=attempts)
    assert job_view(given, known(given)).attention is attention


def test_rows_of_jobs_that_did_not_change_are_kept() -> None:
    """Ten thousand finished jobs are not built anew each second; a new outcome is noticed."""
    builder, done = ViewBuilder(), record(1, JobState.COMPLETED, attempts=(attempt(1, EndReason.SUCCESS),))
    first = builder.view(known(done)).jobs[0]
    assert builder.view(known(done)).jobs[0] is first
    outcome = {"cells-0001": JobOutcome(step=10, loss=2.0)}
    assert builder.view(known(done, outcomes=outcome)).jobs[0].loss == 2.0
    changed = msgspec.structs.replace(done, priority=3)
    assert builder.view(known(changed)).jobs[0].priority == 3


def test_a_sweep_counts_and_predicts() -> None:
    """Two done in 60 s each, one running, two waiting on two cores."""
    ended = {"attempts": (attempt(1, EndReason.SUCCESS, began=160.0, ended=100.0),), "finished_at": ago(100)}
    records = [record(i, JobState.COMPLETED, **ended) for i in (1, 2)]
    records += [record(3, JobState.RUNNING), record(4, JobState.PENDING), record(5, JobState.PENDING)]
    sweep = ViewBuilder().view(known(*records, progress={"cells-0003": progress(3)})).sweeps[0]
    assert (sweep.total, sweep.final, sweep.restarts) == (5, 2, 0)
    assert sweep.fraction == pytest.approx((2 + 0.4) / 5)
    each = (60 + 60 + 201.5) / 3  # what jobs take: two are done, and one is well under way
    assert sweep.eta is not None
    assert sweep.eta.seconds == pytest.approx(101.5 + each)  # the second one waits for the job that runs 101.5 s more
    assert sweep.eta.low < sweep.eta.seconds < sweep.eta.high


def test_devices() -> None:
    """What runs on each, and whether it takes jobs."""
    devices = {
        "quattro:cpu": device(),
        "old:cpu": device("old:cpu", online=False),
        "lent:cpu": device("lent:cpu", online=False, given_back=True),
        "hot:cpu": device("hot:cpu", drained=True, drain_reason="too hot"),
    }
    shown = ViewBuilder().view(known(record(1, JobState.RUNNING), devices=devices)).devices
    assert (shown[0].id, shown[0].used, shown[0].jobs) == ("quattro:cpu", 1.0, ("cells-0001",))
    assert [d.condition for d in shown] == [
        DeviceCondition.ONLINE,
        DeviceCondition.OFFLINE,
        DeviceCondition.GIVEN_BACK,
        DeviceCondition.DRAINED,
    ]


@pytest.mark.parametrize(
    ("resources", "number"),
    [
        (Resources(cpus=1), 2),
        (Resources(cpus=0.1), 20),
        (Resources(cpus=2), 1),
        (Resources(cpus=3), 0),
        (Resources(cpus=1, exclusive=True), 1),
        (Resources(gpus=1), 0),
    ],
)
def test_room(resources: Resources, number: int) -> None:
    """How many such jobs run at once on two cores."""
    assert slots(device().device, resources) == number
    assert resources.kind in DeviceKind


def test_the_timeline_is_oldest_first_and_bounded() -> None:
    """In words, with what was done about it."""
    crashed = msgspec.structs.replace(
        attempt(1, EndReason.CRASHED, signal=11, message="SIGSEGV in backward", step=41_200),
        decision="goes on from step 41,000",
    )
    records = [record(1, JobState.RUNNING, attempts=(crashed, attempt(2, None, began=30.0)))]
    records += [record(i, JobState.HELD, reason="paused by ahab") for i in range(2, 90)]
    told = latest(records, 50)
    assert len(told) == 50
    assert list(told) == sorted(told)
    story = latest(records[:1], 10)
    assert [h.text for h in story] == [
        "started on quattro:cpu",
        "crashed (SIGSEGV in backward) at step 41,200 on quattro:cpu; goes on from step 41,000",
        "started on quattro:cpu (attempt 2)",
    ]
    assert story[1].severity is Severity.WARNING
    assert all(h.time <= NOW for h in told)
