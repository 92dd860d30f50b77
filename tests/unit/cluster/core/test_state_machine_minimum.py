"""Jobs that can do without some of what they depend on: an ensemble and its members."""

from __future__ import annotations

import pytest

from terry.cluster.core import events as e
from terry.cluster.core.model import EndReason, JobState
from terry.cluster.core.state_machine import due
from terry.cluster.errors import InvalidTransition
from tests.helpers.queue_values import Queue, make_cpu

MEMBERS = ("s-1", "s-2", "s-3")


@pytest.fixture
def queue() -> Queue:
    queue = Queue(make_cpu(cores=4.0))
    for job in MEMBERS:
        queue.submit(job)
    return queue


def end(queue: Queue, job: str, reason: EndReason = EndReason.SUCCESS) -> None:
    queue.start(job)
    queue.end(job, reason)
    assert due(queue.state) == []


def test_it_waits_for_all_and_then_goes_on_without_the_lost_one(queue: Queue) -> None:
    assert queue.submit("s-ensemble", MEMBERS, minimum=2).state is JobState.WAITING
    end(queue, "s-1")
    end(queue, "s-2", EndReason.BAD_INPUT)
    assert queue["s-2"].state is JobState.FAILED
    assert queue["s-ensemble"].state is JobState.WAITING, "two are possible still, but one of them runs"
    end(queue, "s-3")
    assert queue["s-ensemble"].state is JobState.PENDING


def test_the_lost_one_may_be_the_last(queue: Queue) -> None:
    queue.submit("s-ensemble", MEMBERS, minimum=2)
    end(queue, "s-1")
    end(queue, "s-2")
    assert queue["s-ensemble"].state is JobState.WAITING
    end(queue, "s-3", EndReason.BAD_INPUT)
    assert queue["s-ensemble"].state is JobState.PENDING


def test_it_is_cancelled_once_too_many_are_lost_and_comes_back_with_any_of_them(queue: Queue) -> None:
    queue.submit("s-ensemble", MEMBERS, minimum=2)
    end(queue, "s-1", EndReason.BAD_INPUT)
    end(queue, "s-2", EndReason.BAD_INPUT)
    assert queue["s-ensemble"].state is JobState.CANCELLED
    assert "s-1, on which it depends, failed" in queue["s-ensemble"].reason
    queue.do(e.Resubmitted(time=queue.now, job_id="s-2"))
    assert queue["s-ensemble"].state is JobState.WAITING, "though it was s-1 that it was cancelled for"
    end(queue, "s-2")
    end(queue, "s-3")
    assert queue["s-ensemble"].state is JobState.PENDING


def test_submitted_when_all_has_ended(queue: Queue) -> None:
    end(queue, "s-1")
    end(queue, "s-2", EndReason.BAD_INPUT)
    end(queue, "s-3")
    assert queue.submit("s-ensemble", MEMBERS, minimum=2).state is JobState.PENDING
    assert queue.submit("s-other", MEMBERS, minimum=3).state is JobState.CANCELLED
    assert due(queue.state) == []


def test_released_when_enough_have_ended(queue: Queue) -> None:
    queue.submit("s-ensemble", MEMBERS, minimum=1, held=True)
    end(queue, "s-1")
    for job in ("s-2", "s-3"):
        queue.do(e.CancelRequested(time=queue.now, job_id=job))
    queue.do(e.Released(time=queue.now, job_id="s-ensemble"))
    assert queue["s-ensemble"].state is JobState.PENDING


def test_it_may_not_go_on_while_one_runs(queue: Queue) -> None:
    queue.submit("s-ensemble", MEMBERS, minimum=1)
    end(queue, "s-1")
    with pytest.raises(InvalidTransition):
        queue.do(e.DependenciesMet(time=queue.now, job_id="s-ensemble"))
