"""The failure table: what each cause brings, and how budgets count."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from terry.cluster.core.failures import Decision, decide
from terry.cluster.core.model import AttemptEnd, Budget, EndReason, JobRecord, JobState, RetryPolicy
from tests.helpers.queue_values import Queue, make_cpu


@pytest.fixture
def queue() -> Queue:
    queue = Queue(make_cpu(), make_cpu("there"))
    queue.submit("s-1", retry=RetryPolicy(crash=3, backoff_s=2.0, backoff_max_s=5.0))
    return queue


def _end(queue: Queue, reason: EndReason, device: str = "here:cpu", **evidence: Any) -> JobRecord:
    queue.start("s-1", device)
    return queue.end("s-1", reason, **evidence)


def _waited(record: JobRecord) -> float | None:
    ended = record.attempts[-1].ended_at
    assert ended is not None
    return None if record.not_before is None else (record.not_before - ended).total_seconds()


@pytest.mark.parametrize("reason", [EndReason.CRASHED, EndReason.HUNG, EndReason.KILLED])
def test_crashes_back_off_and_then_fail(queue: Queue, reason: EndReason) -> None:
    waits = [_waited(_end(queue, reason)) for _ in range(3)]
    assert waits == [None, 2.0, 4.0], "the first is tried again at once"
    record = _end(queue, reason)
    assert record.state is JobState.FAILED
    did, blame = {
        EndReason.CRASHED: ("it crashed", "always on here:cpu, so it may be the device's fault"),
        EndReason.HUNG: ("it hung", "always on here:cpu, so it may be the device's fault"),
        EndReason.KILLED: ("it was killed", "by SIGKILL from outside, so look for who sends it"),
    }[reason]
    assert f"{did} 4 times in a row" in record.reason
    assert blame in record.reason


def test_a_job_that_always_crashes_at_the_same_step_is_blamed_rather_than_its_only_device(queue: Queue) -> None:
    for _ in range(3):
        _end(queue, EndReason.CRASHED, step=130, checkpoint_step=100)
    reason = _end(queue, EndReason.CRASHED, step=130, checkpoint_step=100).reason
    assert "(a crash loop: 4 times at step 130)" in reason
    assert "always at the same step, so the fault is most probably the job's own" in reason


def test_progress_resets_the_budget(queue: Queue) -> None:
    for step in range(20):
        assert _end(queue, EndReason.CRASHED, checkpoint_step=step).state is JobState.PENDING
    for _ in range(2):
        assert _end(queue, EndReason.CRASHED, checkpoint_step=19).state is JobState.PENDING
    assert _end(queue, EndReason.CRASHED, checkpoint_step=18).state is JobState.FAILED


def test_causes_are_counted_apart(queue: Queue) -> None:
    for reason in (EndReason.CRASHED, EndReason.DEVICE_OUT_OF_MEMORY, EndReason.HOST_OUT_OF_MEMORY, EndReason.CRASHED):
        assert _end(queue, reason).state is JobState.PENDING
    assert queue["s-1"].budget.crash == 2


def test_after_two_crashes_on_a_device_another_is_wanted(queue: Queue) -> None:
    assert _end(queue, EndReason.CRASHED, checkpoint_step=41000).avoid_devices == ()
    record = _end(queue, EndReason.CRASHED, checkpoint_step=41000)
    assert record.avoid_devices == ("here:cpu",)
    assert record.attempts[-1].decision == "goes on from step 41,000 on another device if there is one in 2 s"


def test_killed_from_outside_is_not_held_against_the_device(queue: Queue) -> None:
    for _ in range(3):
        assert _end(queue, EndReason.KILLED).avoid_devices == ()


def test_a_crash_loop_is_named_with_its_step(queue: Queue) -> None:
    for checkpoint in (1000, 1100):
        assert "loop" not in _end(queue, EndReason.CRASHED, step=1234, checkpoint_step=checkpoint).reason
    assert "3 times at step 1,234" in _end(queue, EndReason.CRASHED, step=1234, checkpoint_step=1200).reason


def test_a_job_that_crashes_on_different_devices_is_blamed(queue: Queue) -> None:
    for _ in range(2):
        _end(queue, EndReason.CRASHED)
    _end(queue, EndReason.CRASHED, "there:cpu")
    assert "2 different devices, so the fault is the job's own" in _end(queue, EndReason.CRASHED, "there:cpu").reason


@pytest.mark.parametrize("reason", [EndReason.NODE_LOST, EndReason.AGENT_LOST])
def test_what_is_nobodys_fault_costs_nothing(queue: Queue, reason: EndReason) -> None:
    for _ in range(30):
        record = _end(queue, reason, checkpoint_step=5)
        assert record.state is JobState.PENDING
        assert record.not_before is None
    assert record.reason == "goes on from step 5"


def test_a_job_that_puts_itself_back_without_a_step_waits_longer_each_time(queue: Queue) -> None:
    waits = []
    for step in (None, None, None, 7, 7, 8):
        record = _end(queue, EndReason.PREEMPTED, step=step)
        assert record.state is JobState.PENDING
        waits.append((record.not_before - record.attempts[-1].ended_at).total_seconds() if record.not_before else 0.0)
    assert waits == [0.0, 2.0, 4.0, 0.0, 2.0, 0.0]  # the queue's retry policy begins with 2 s
    assert record.budget == Budget(), "it is no failure"


def test_an_exception_before_the_first_step_is_a_bug(queue: Queue) -> None:
    record = _end(queue, EndReason.EXCEPTION, message="KeyError: 'lr'")
    assert record.state is JobState.FAILED
    assert "KeyError: 'lr'" in record.reason


def test_an_exception_later_gets_one_more_try(queue: Queue) -> None:
    assert _end(queue, EndReason.EXCEPTION, first_step_done=True).state is JobState.PENDING
    assert _end(queue, EndReason.EXCEPTION, first_step_done=True).state is JobState.FAILED


@pytest.mark.parametrize(
    ("reason", "advice"),
    [(EndReason.DEVICE_OUT_OF_MEMORY, "batch"), (EndReason.HOST_OUT_OF_MEMORY, "larger share")],
)
def test_out_of_memory_once_more_alone(queue: Queue, reason: EndReason, advice: str) -> None:
    record = _end(queue, reason)
    assert record.exclusive
    assert "with the device to itself" in record.reason
    record = _end(queue, reason)
    assert record.state is JobState.FAILED
    assert advice in record.reason


def test_launch_errors_go_to_another_device(queue: Queue) -> None:
    record = _end(queue, EndReason.LAUNCH_ERROR, message="CUDA is not available")
    assert record.avoid_devices == ("here:cpu",)
    for _ in range(3):
        record = _end(queue, EndReason.LAUNCH_ERROR, "there:cpu", message="CUDA is not available")
    assert record.state is JobState.FAILED
    assert "CUDA is not available" in record.reason


def test_a_full_disk_holds(queue: Queue) -> None:
    record = _end(queue, EndReason.DISK_FULL, message="No space left on device: runs/s-1")
    assert record.state is JobState.HELD
    assert "No space left" in record.reason


def test_a_lost_disk_is_tried_again_and_at_last_waited_for(queue: Queue) -> None:
    queue.submit("s-2", retry=RetryPolicy(disk=3, backoff_s=2.0))
    waits = []
    for _ in range(3):
        queue.start("s-2")
        waits.append(_waited(queue.end("s-2", EndReason.DISK_LOST, message="runs/s-2: Stale file handle")))
    assert waits == [None, 2.0, 4.0]
    assert queue["s-2"].avoid_devices == (), "no device is to blame"
    queue.start("s-2")
    record = queue.end("s-2", EndReason.DISK_LOST, message="runs/s-2: Stale file handle")
    assert record.state is JobState.HELD, "nothing is lost: it waits for a person"
    assert "Stale file handle" in record.reason
    assert "`resume`" in record.reason


@pytest.mark.parametrize("reason", [EndReason.NOT_FINITE, EndReason.TIME_LIMIT, EndReason.BAD_INPUT])
def test_what_trying_again_cannot_help_fails_at_once(queue: Queue, reason: EndReason) -> None:
    assert _end(queue, reason).state is JobState.FAILED


def test_stopped_early_is_a_completion(queue: Queue) -> None:
    record = _end(queue, EndReason.STOPPED_EARLY)
    assert record.state is JobState.COMPLETED
    assert record.attempts[-1].decision == "completed: stopped early"


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_cause_has_a_decision_in_words(queue: Queue, reason: EndReason) -> None:
    queue.start("s-1")
    decision = decide(queue["s-1"], AttemptEnd(reason=reason), queue.now)
    assert isinstance(decision, Decision)
    assert decision.words
    assert decision.state in {JobState.PENDING, JobState.HELD, JobState.FAILED, JobState.COMPLETED}


def test_very_many_failures_do_not_overflow(queue: Queue) -> None:
    queue.submit("s-2", retry=RetryPolicy(crash=5000))
    queue.start("s-2")
    record = msgspec.structs.replace(queue["s-2"], budget=Budget(crash=4000))
    decision = decide(record, AttemptEnd(reason=EndReason.KILLED), queue.now)
    assert decision.not_before == queue.now + timedelta(seconds=300)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (EndReason.DISK_FULL, "held: No space left; make room, then `resume`"),
        (EndReason.DISK_LOST, "held: No space left; once the workspace's file system is back, `resume`"),
    ],
)
def test_who_is_held_for_its_disk_keeps_what_was_learnt_of_it(reason: EndReason, words: str) -> None:
    """Devices on which it crashed, and that it needs one to itself; what is to be done is said."""
    queue = Queue(make_cpu(), make_cpu("there"))
    queue.submit("s-1", retry=RetryPolicy(disk=0, backoff_s=0.0))
    for before in (EndReason.CRASHED, EndReason.CRASHED, EndReason.HOST_OUT_OF_MEMORY):
        queue.start("s-1")
        queue.end("s-1", before)
    queue.start("s-1", "there:cpu")
    record = queue.end("s-1", reason, message="No space left")
    assert record.state is JobState.HELD
    assert record.reason == words
    assert record.attempts[-1].decision == words
    assert record.avoid_devices == ("here:cpu",)
    assert record.exclusive
    assert record.budget.disk == (1 if reason is EndReason.DISK_LOST else 0)
