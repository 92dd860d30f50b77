"""The state machine: each row of the transition table, and what follows from one job for another."""

from __future__ import annotations

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.events import JobFinished, Launch, Stop
from terry.cluster.core.model import AttemptEnd, Budget, EndReason, JobState, Resources, RetryPolicy, StopGoal
from terry.cluster.core.state_document import from_snapshot, to_snapshot
from terry.cluster.core.state_machine import KEPT_REQUESTS, apply, due, is_stale
from terry.cluster.core.transitions import TRANSITIONS
from terry.cluster.errors import InvalidTransition
from terry.cluster.scheduling.plan import plan
from tests.helpers.queue_values import Queue, make_cpu, make_gpu, make_job


@pytest.fixture
def queue() -> Queue:
    return Queue(make_cpu(cores=4.0), make_cpu("there", cores=4.0))


def test_a_job_goes_from_submission_to_completion(queue: Queue) -> None:
    assert queue.submit("s-1").state is JobState.PENDING
    assert queue.place("s-1") == [Launch(job_id="s-1", attempt=1)]
    assert queue["s-1"].state is JobState.STARTING
    queue.do(e.AttemptStarted(time=queue.now, job_id="s-1", attempt=1, pid=7))
    assert queue["s-1"].state is JobState.RUNNING
    assert queue["s-1"].attempts[0].pid == 7
    end = AttemptEnd(reason=EndReason.SUCCESS)
    assert queue.do(e.AttemptEnded(time=queue.now, job_id="s-1", attempt=1, end=end)) == [JobFinished(job_id="s-1")]
    assert queue["s-1"].state is JobState.COMPLETED
    assert queue["s-1"].finished_at is not None
    assert queue.state.free("here:cpu") == 4.0


def test_dependencies_are_waited_for(queue: Queue) -> None:
    queue.submit("s-1")
    queue.submit("s-2")
    assert queue.submit("s-3", ["s-1", "s-2"]).state is JobState.WAITING
    queue.start("s-1")
    queue.end("s-1")
    assert queue["s-3"].state is JobState.WAITING
    queue.start("s-2")
    queue.end("s-2")
    assert queue["s-3"].state is JobState.PENDING


def test_a_dependency_that_is_completed_before_submission_counts(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.end("s-1")
    assert queue.submit("s-2", ["s-1"]).state is JobState.PENDING


def test_a_dependency_that_failed_before_submission_cancels(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.end("s-1", EndReason.BAD_INPUT, message="no such column")
    record = queue.submit("s-2", ["s-1"])
    assert record.state is JobState.CANCELLED
    assert record.cancelled_by == "s-1"


def test_an_unknown_dependency_cancels_with_its_name(queue: Queue) -> None:
    assert "s-9" in queue.submit("s-1", ["s-9"]).reason
    assert queue["s-1"].state is JobState.CANCELLED


def test_failure_cancels_all_that_hang_on_it_and_resubmission_brings_them_back(queue: Queue) -> None:
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    queue.submit("s-3", ["s-2"])
    queue.submit("s-4", ["s-1", "s-3"])
    queue.start("s-1")
    queue.end("s-1", EndReason.BAD_INPUT)
    assert {queue[j].state for j in ("s-2", "s-3", "s-4")} == {JobState.CANCELLED}
    queue.do(e.Resubmitted(time=queue.now, job_id="s-1"))
    assert queue["s-1"].state is JobState.PENDING
    assert {queue[j].state for j in ("s-2", "s-3", "s-4")} == {JobState.WAITING}
    for job_id in ("s-1", "s-2", "s-3", "s-4"):
        queue.start(job_id)
        assert queue.end(job_id).state is JobState.COMPLETED


def test_who_was_cancelled_by_a_person_stays_so(queue: Queue) -> None:
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    queue.do(e.CancelRequested(time=queue.now, job_id="s-2"))
    queue.do(e.CancelRequested(time=queue.now, job_id="s-1"))
    queue.do(e.Resubmitted(time=queue.now, job_id="s-1"))
    assert queue["s-2"].state is JobState.CANCELLED


def test_who_came_back_and_was_then_cancelled_by_a_person_stays_so(queue: Queue) -> None:
    """What had cancelled it before is over: only the person's word counts, at once and after a recovery."""
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    queue.start("s-1")
    queue.end("s-1", EndReason.BAD_INPUT)
    queue.do(e.Resubmitted(time=queue.now, job_id="s-1"))
    assert (queue["s-2"].state, queue["s-2"].cancelled_by) == (JobState.WAITING, "")
    queue.do(e.CancelRequested(time=queue.now, job_id="s-2"))
    queue.start("s-1")
    queue.end("s-1", EndReason.BAD_INPUT)
    queue.do(e.Resubmitted(time=queue.now, job_id="s-1"))
    assert (queue["s-1"].state, queue["s-2"].state) == (JobState.PENDING, JobState.CANCELLED)
    assert due(queue.state) == []


def test_two_dependencies_that_end_with_one_node(queue: Queue) -> None:
    for job_id in ("s-1", "s-2"):
        queue.submit(job_id)
        queue.start(job_id)
        queue.do(e.CancelRequested(time=queue.now, job_id=job_id))
    queue.submit("s-3", ["s-1", "s-2"])
    queue.do(e.NodeLost(time=queue.now, node="here", node_id="here@1"))
    assert {queue[j].state for j in ("s-1", "s-2", "s-3")} == {JobState.CANCELLED}


@pytest.mark.parametrize(
    ("event", "goal", "reason", "after"),
    [
        (e.CancelRequested, StopGoal.CANCEL, EndReason.CANCELLED, JobState.CANCELLED),
        (e.CancelRequested, StopGoal.CANCEL, EndReason.CRASHED, JobState.CANCELLED),
        (e.PauseRequested, StopGoal.PAUSE, EndReason.PAUSED, JobState.HELD),
        (e.PauseRequested, StopGoal.PAUSE, EndReason.CRASHED, JobState.HELD),
        (e.PreemptRequested, StopGoal.PREEMPT, EndReason.PREEMPTED, JobState.PENDING),
        (e.PreemptRequested, StopGoal.PREEMPT, EndReason.BAD_INPUT, JobState.FAILED),
        (e.CancelRequested, StopGoal.CANCEL, EndReason.SUCCESS, JobState.COMPLETED),
        (e.PauseRequested, StopGoal.PAUSE, EndReason.SUCCESS, JobState.COMPLETED),
    ],
)
def test_stopping(
    queue: Queue, event: type[e.CancelRequested], goal: StopGoal, reason: EndReason, after: JobState
) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    assert queue.do(event(time=queue.now, job_id="s-1")) == [Stop(job_id="s-1", attempt=1, goal=goal)]
    assert queue["s-1"].state is JobState.STOPPING
    assert queue.state.free("here:cpu") == 3.0, "a share is freed only when the end is confirmed"
    assert queue.end("s-1", reason).state is after


def test_a_stronger_wish_replaces_a_weaker_one_and_not_the_other_way(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.do(e.PreemptRequested(time=queue.now, job_id="s-1"))
    assert len(queue.do(e.PauseRequested(time=queue.now, job_id="s-1"))) == 1
    assert len(queue.do(e.CancelRequested(time=queue.now, job_id="s-1"))) == 1
    assert queue.do(e.PauseRequested(time=queue.now, job_id="s-1")) == []
    assert queue["s-1"].goal is StopGoal.CANCEL


def test_resume_while_being_paused(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.do(e.PauseRequested(time=queue.now, job_id="s-1"))
    queue.do(e.Released(time=queue.now, job_id="s-1"))
    assert queue.end("s-1", EndReason.PAUSED).state is JobState.PENDING


def test_hold_and_release(queue: Queue) -> None:
    queue.submit("s-1")
    assert queue.submit("s-2", ["s-1"], held=True).state is JobState.HELD
    queue.do(e.Held(time=queue.now, job_id="s-1", reason="paused"))
    assert queue["s-1"].state is JobState.HELD
    queue.do(e.Released(time=queue.now, job_id="s-2"))
    assert queue["s-2"].state is JobState.WAITING
    queue.do(e.Released(time=queue.now, job_id="s-1"))
    assert queue["s-1"].state is JobState.PENDING


def test_release_of_a_job_whose_dependency_failed_meanwhile(queue: Queue) -> None:
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"], held=True)
    queue.do(e.CancelRequested(time=queue.now, job_id="s-1"))
    assert queue["s-2"].state is JobState.HELD
    queue.do(e.Released(time=queue.now, job_id="s-2"))
    assert queue["s-2"].state is JobState.CANCELLED


def test_node_loss_costs_nothing_and_spares_other_lives_of_the_node(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.do(e.DeviceSeen(time=queue.now, device=make_cpu(incarnation=2, cores=4.0)))
    assert is_stale(queue.state, e.NodeLost(time=queue.now, node="here", node_id="here@1"))
    queue.do(e.NodeLost(time=queue.now, node="here", node_id="here@2"))
    assert queue["s-1"].state is JobState.PENDING
    assert queue["s-1"].budget.crash == 0
    assert not queue.state.devices["here:cpu"].online
    assert queue.state.devices["there:cpu"].online


def test_from_scratch_counts_from_the_next_attempt_on(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.end("s-1", EndReason.BAD_INPUT)
    queue.do(e.Resubmitted(time=queue.now, job_id="s-1", from_scratch=True))
    assert queue.start("s-1").first_attempt == 2
    queue.end("s-1", EndReason.CRASHED)
    assert queue.start("s-1").first_attempt == 2, "a restart goes on with the checkpoints of the new series"
    assert queue["s-1"].series == 2
    assert queue["s-1"].restarts == 2


def test_priority_moves_a_pending_job_forward(queue: Queue) -> None:
    for job_id in ("s-1", "s-2", "s-3"):
        queue.submit(job_id)
    queue.do(e.PriorityChanged(time=queue.now, job_id="s-3", priority=5))
    placed = plan(queue.state, queue.now).placements
    assert [placement.job_id for placement in placed] == ["s-3", "s-1", "s-2"]


def test_a_controller_trusts_no_device_that_has_not_answered_it(queue: Queue) -> None:
    queue.do(e.ControllerStarted(time=queue.now, epoch=1, host="h", pid=1))
    assert queue.state.free("here:cpu") == 0.0
    with pytest.raises(InvalidTransition, match="epoch 1"):
        apply(queue.state, e.ControllerStarted(time=queue.now, epoch=1, host="h", pid=2))


def test_long_histories_are_shortened_and_numbers_go_on(queue: Queue) -> None:
    queue.submit("s-1")
    for _ in range(150):
        queue.start("s-1")
        queue.end("s-1", EndReason.PREEMPTED)
    assert len(queue["s-1"].attempts) == 100
    assert queue["s-1"].attempt == 150
    assert queue["s-1"].restarts == 149


# devices


def _crash(queue: Queue, job_id: str, device: str, reason: EndReason = EndReason.CRASHED, **evidence: str) -> None:
    if job_id not in queue.state.jobs:
        queue.submit(job_id)
    queue.start(job_id, device)
    queue.end(job_id, reason, **evidence)


def test_a_device_on_which_three_jobs_crash_is_drained_and_its_jobs_move(queue: Queue) -> None:
    queue.submit("s-9")
    queue.start("s-9", "here:cpu")
    for job_id in ("s-1", "s-2", "s-3"):
        assert not queue.state.devices["here:cpu"].drained
        _crash(queue, job_id, "here:cpu")
    assert queue.state.devices["here:cpu"].drained
    assert "3 different jobs" in queue.state.devices["here:cpu"].drain_reason
    assert queue["s-9"].goal is StopGoal.PREEMPT
    assert queue.state.free("here:cpu") == 0.0


def test_one_job_that_crashes_often_does_not_drain(queue: Queue) -> None:
    for _ in range(5):
        _crash(queue, "s-1", "here:cpu")
    assert not queue.state.devices["here:cpu"].drained


def test_jobs_that_crash_on_every_device_do_not_drain(queue: Queue) -> None:
    for job_id in ("s-1", "s-2", "s-3", "s-4"):
        _crash(queue, job_id, "there:cpu", EndReason.HUNG)
        queue.do(e.DeviceUndrained(time=queue.now, device_id="there:cpu"))
        _crash(queue, job_id, "here:cpu")
    assert not queue.state.devices["here:cpu"].drained


def test_the_last_device_of_its_kind_is_not_drained_by_rule() -> None:
    queue = Queue(make_cpu(), make_gpu())
    for job_id in ("s-1", "s-2", "s-3", "s-4"):
        _crash(queue, job_id, "here:cpu")
    assert not queue.state.devices["here:cpu"].drained


def test_a_fault_of_the_device_itself_drains_at_once(queue: Queue) -> None:
    _crash(queue, "s-1", "here:cpu", device_fault="Xid 79: the GPU has fallen off the bus")
    assert queue.state.devices["here:cpu"].drain_reason == "Xid 79: the GPU has fallen off the bus"


def test_crashes_long_ago_do_not_count(queue: Queue) -> None:
    from datetime import timedelta

    for job_id in ("s-1", "s-2", "s-3"):
        _crash(queue, job_id, "here:cpu")
        queue.now += timedelta(minutes=40)
    assert not queue.state.devices["here:cpu"].drained


# what is not allowed


def test_illegal_events_tell_the_story_and_change_nothing(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.end("s-1", EndReason.CRASHED)
    before = to_snapshot(queue.state)
    with pytest.raises(InvalidTransition, match=r"s-1 is pending.*\n.*attempt 1 on here:cpu.*crashed"):
        apply(queue.state, e.AttemptStarted(time=queue.now, job_id="s-1", attempt=1, pid=1))
    assert to_snapshot(queue.state) == before


def test_more_than_a_device_has_cannot_be_granted(queue: Queue) -> None:
    queue.submit("s-1", resources=Resources(cpus=3))
    queue.submit("s-2", resources=Resources(cpus=3))
    queue.place("s-1", share=3)
    with pytest.raises(InvalidTransition, match="no room"):
        queue.place("s-2", share=3)


def test_an_exclusive_job_stays_alone(queue: Queue) -> None:
    queue.submit("s-1", resources=Resources(cpus=1, exclusive=True))
    queue.submit("s-2")
    queue.place("s-2")
    with pytest.raises(InvalidTransition, match="no room"):
        queue.place("s-1")
    queue.place("s-1", "there:cpu")
    queue.submit("s-3")
    with pytest.raises(InvalidTransition, match="no room"):
        queue.place("s-3", "there:cpu")


def test_reports_of_earlier_attempts_are_stale(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.end("s-1", EndReason.CRASHED)
    queue.start("s-1")
    end = AttemptEnd(reason=EndReason.SUCCESS)
    assert is_stale(queue.state, e.AttemptEnded(time=queue.now, job_id="s-1", attempt=1, end=end))
    assert is_stale(queue.state, e.AttemptStarted(time=queue.now, job_id="s-1", attempt=2, pid=1))
    assert not is_stale(queue.state, e.AttemptEnded(time=queue.now, job_id="s-1", attempt=2, end=end))
    assert is_stale(queue.state, e.AttemptEnded(time=queue.now, job_id="nobody", attempt=2, end=end))


def test_the_table_names_every_event_about_a_job() -> None:
    about_jobs = {kind for kind in e.Event.__args__ if "job_id" in kind.__struct_fields__}
    assert set(TRANSITIONS) == about_jobs
    for kind, row in TRANSITIONS.items():
        if kind not in {e.Resubmitted, e.Extended}:
            stays = row.get(JobState.COMPLETED, frozenset({JobState.COMPLETED}))
            assert stays == {JobState.COMPLETED}, "COMPLETED is left only by what a person asks for"


# recovery


def test_what_should_have_followed_is_found_again(queue: Queue) -> None:
    """The journal may be cut between an event and what follows from it."""
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    queue.start("s-1")
    end = AttemptEnd(reason=EndReason.SUCCESS)
    queue.apply_one(e.AttemptEnded(time=queue.now, job_id="s-1", attempt=1, end=end))
    assert [type(event) for event in due(queue.state)] == [e.DependenciesMet]
    queue.apply_one(e.Submitted(time=queue.now, job=make_job("s-3", ["nowhere"])))
    assert [type(event) for event in due(queue.state)] == [e.DependenciesMet, e.DependencyFailed]
    queue.submit("s-4")
    queue.start("s-4")
    queue.apply_one(e.DeviceDrained(time=queue.now, device_id="here:cpu", reason="dust"))
    assert type(due(queue.state)[-1]) is e.PreemptRequested
    for event in due(queue.state):
        queue.do(event)
    assert due(queue.state) == []


def test_a_resubmission_that_was_cut_off_is_completed(queue: Queue) -> None:
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    queue.do(e.CancelRequested(time=queue.now, job_id="s-1"))
    queue.apply_one(e.Resubmitted(time=queue.now, job_id="s-1"))
    for event in due(queue.state):
        queue.do(event)
    assert queue["s-2"].state is JobState.WAITING


def test_a_snapshot_is_the_state(queue: Queue) -> None:
    queue.submit("s-1")
    queue.submit("s-2", ["s-1"])
    queue.start("s-1")
    queue.end("s-1", EndReason.CRASHED, step=3, message="SIGSEGV")
    queue.do(e.SubmissionTaken(time=queue.now, sweep="s", number=2, request="r"))
    queue.do(e.RequestHandled(time=queue.now, request="r", note="added 2 jobs"))
    copy = from_snapshot(to_snapshot(queue.state))
    assert copy.__dict__ == queue.state.__dict__


@pytest.mark.parametrize(
    ("blocked", "reason", "spent"), [(False, EndReason.LAUNCH_ERROR, 1), (True, EndReason.DEVICE_BLOCKED, 0)]
)
def test_a_failed_launch_says_why_and_costs_only_where_it_was_nobody_elses_device(
    queue: Queue, blocked: bool, reason: EndReason, spent: int
) -> None:
    queue.submit("s-1")
    queue.place("s-1")
    queue.do(e.LaunchFailed(time=queue.now, job_id="s-1", attempt=1, message="pid 7 is on it", blocked=blocked))
    record = queue["s-1"]
    assert record.state is JobState.PENDING
    assert record.attempts[-1].end == AttemptEnd(reason=reason, message="pid 7 is on it")
    assert record.budget.launch == spent
    assert queue.state.free("here:cpu") == 4.0


def test_a_lost_node_is_named_in_its_jobs_and_no_longer_counts_as_lent(queue: Queue) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.do(e.DeviceGone(time=queue.now, device_id="here:cpu", reason="the queue wants it", given_back=True))
    queue.do(e.NodeLost(time=queue.now, node="here", node_id="here@1"))
    end = queue["s-1"].attempts[-1].end
    assert end is not None
    assert (end.reason, end.message) == (EndReason.NODE_LOST, "node here was lost")
    assert not queue.state.devices["here:cpu"].given_back


@pytest.mark.parametrize(
    ("said", "shown"), [("here:cpu is drained: dust", "here:cpu is drained: dust"), ("", "makes room")]
)
def test_a_job_that_is_asked_to_go_says_why(queue: Queue, said: str, shown: str) -> None:
    queue.submit("s-1")
    queue.start("s-1")
    queue.do(e.PreemptRequested(time=queue.now, job_id="s-1", reason=said))
    assert queue["s-1"].reason == shown


def test_a_resubmission_forgives_all(queue: Queue) -> None:
    queue.submit("s-1", retry=RetryPolicy(backoff_s=0.0))
    for reason in (EndReason.CRASHED, EndReason.CRASHED, EndReason.HOST_OUT_OF_MEMORY):
        queue.start("s-1")
        queue.end("s-1", reason)
    before = queue["s-1"]
    assert (before.avoid_devices, before.exclusive) == (("here:cpu",), True)
    queue.do(e.CancelRequested(time=queue.now, job_id="s-1"))
    queue.do(e.Resubmitted(time=queue.now, job_id="s-1"))
    after = queue["s-1"]
    assert (after.avoid_devices, after.exclusive, after.budget, after.series) == ((), False, Budget(), 2)
    assert after.finished_at is None


def test_as_many_requests_are_remembered_as_was_promised(queue: Queue) -> None:
    """A client that asks again is told what was done, instead of its being done twice."""
    for number in range(KEPT_REQUESTS):
        apply(queue.state, e.RequestHandled(time=queue.now, request=f"r-{number}", note=str(number)))
    assert len(queue.state.requests) == KEPT_REQUESTS
    apply(queue.state, e.RequestHandled(time=queue.now, request="new", note="held 1 job"))
    assert len(queue.state.requests) == KEPT_REQUESTS
    assert "r-0" not in queue.state.requests
    assert queue.state.requests["r-1"] == "1"
    assert queue.state.requests["new"] == "held 1 job"


def test_the_newest_submission_of_a_sweep_counts_in_whatever_order_they_are_taken(queue: Queue) -> None:
    for number, newest in ((2, 2), (1, 2), (3, 3)):
        queue.do(e.SubmissionTaken(time=queue.now, sweep="s", number=number, request=f"r-{number}"))
        assert queue.state.submissions == {"s": newest}
