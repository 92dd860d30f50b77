"""What to do after an attempt ended: pure. The failure table of docs/architecture.md, "Failures".

Failures are counted per cause and in a row: a checkpoint newer than at the last failure is progress, and counting
starts anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from terry.cluster.core.model import SUCCESSES, Attempt, AttemptEnd, Budget, EndReason, JobRecord, JobState

#: Causes that count as a crash of the process.
CRASHES = frozenset({EndReason.CRASHED, EndReason.HUNG, EndReason.KILLED})
#: Crashes that speak against the device, too: nobody outside ended the process.
SUSPICIOUS = frozenset({EndReason.CRASHED, EndReason.HUNG})
#: Causes that are nobody's fault: no budget is spent.
FREE = frozenset(
    {
        EndReason.NODE_LOST,
        EndReason.AGENT_LOST,
        EndReason.DEVICE_BLOCKED,
        EndReason.PAUSED,
        EndReason.CANCELLED,
    }
)
#: After so many crashes on one device the job goes elsewhere.
CRASHES_PER_DEVICE = 2
#: So many crashes at one step are a crash loop.
CRASHES_AT_STEP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of the job."""

    state: JobState  #: PENDING (again), HELD, FAILED or COMPLETED
    budget: Budget
    words: str  #: for people: what is done, and why
    not_before: datetime | None = None  #: back-off
    avoid_devices: tuple[str, ...] = ()
    exclusive: bool = False


def decide(record: JobRecord, end: AttemptEnd, now: datetime) -> Decision:
    """What to do about the end of the record's newest attempt, which nobody had asked for."""
    for reasons, rule in _RULES:
        if end.reason in reasons:
            return rule(record, end, now)
    return _final(record, end, f"failed: {_cause(end)}")


def crashes_on(record: JobRecord, device: str) -> int:
    """Crashes of the job on the device in its present series of attempts, its newest attempt not counted."""
    return sum(
        a.device == device and a.series == record.series and a.end is not None and a.end.reason in SUSPICIOUS
        for a in record.attempts
    )


def _after_crash(record: JobRecord, end: AttemptEnd, now: datetime) -> Decision:
    budget, count = _spend(record, end, "crash")
    loop = _crash_loop(record, end)
    if count > record.job.retry.crash:
        times = "once" if count == 1 else f"{count} times in a row without a new checkpoint between"
        return _final(record, end, f"failed: it {_did(record, end)} {times}{loop}; {_blame(record, end)}", budget)
    device = record.attempts[-1].device
    avoid = record.avoid_devices
    if crashes_on(record, device) + (end.reason in SUSPICIOUS) >= CRASHES_PER_DEVICE and device not in avoid:
        avoid = (*avoid, device)
    return _again(record, end, now, budget, count=count, avoid=avoid, remark=loop)


def _after_exception(record: JobRecord, end: AttemptEnd, now: datetime) -> Decision:
    stepped = end.first_step_done or end.checkpoint_step is not None
    if not stepped:
        return _final(record, end, f"failed: an exception before the first step is a bug ({_cause(end)})")
    budget, count = _spend(record, end, "exception")
    if count > record.job.retry.exception:
        return _final(record, end, f"failed: {_cause(end)}{', again' if count > 1 else ''}", budget)
    return _again(record, end, now, budget, count=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OutOfMemory:
    """The rule for memory: once more with the device to itself, as often as the retry policy has it."""

    budget: str  #: name of the field of Budget and RetryPolicy
    whose: str
    advice: str

    def __call__(self, record: JobRecord, end: AttemptEnd, now: datetime) -> Decision:
        budget, count = _spend(record, end, self.budget)
        if count > getattr(record.job.retry, self.budget):
            return _final(record, end, f"failed: the {self.whose}'s memory does not suffice; {self.advice}", budget)
        return _again(record, end, now, budget, count=count, exclusive=True)


def _after_launch_error(record: JobRecord, end: AttemptEnd, now: datetime) -> Decision:
    budget, count = _spend(record, end, "launch")
    if count > record.job.retry.launch:
        return _final(record, end, f"failed: it could not be started {count} times: {_cause(end)}", budget)
    device = record.attempts[-1].device
    avoid = record.avoid_devices if device in record.avoid_devices else (*record.avoid_devices, device)
    return _again(record, end, now, budget, count=count, avoid=avoid)


def _for_free(record: JobRecord, end: AttemptEnd, now: datetime) -> Decision:
    return _again(record, end, now, _fresh(record.budget, end), count=0)


def _put_back(record: JobRecord, end: AttemptEnd, now: datetime) -> Decision:
    """It left by itself, to go on later. One that does so again and again without a step waits longer each time."""
    if record.goal is not None:  # it was asked to make room
        return _for_free(record, end, now)
    times = 1
    for attempt in reversed(_series(record)[:-1]):
        before = attempt.end
        if before is None or before.reason is not EndReason.PREEMPTED or (before.step or 0) < (end.step or 0):
            break
        times += 1
    return _again(record, end, now, _fresh(record.budget, end), count=times)


def _hold(record: JobRecord, end: AttemptEnd, _now: datetime) -> Decision:
    words = f"held: {end.message or 'the disk is full'}; make room, then `resume`"
    return Decision(
        state=JobState.HELD,
        budget=_fresh(record.budget, end),
        words=words,
        avoid_devices=record.avoid_devices,
        exclusive=record.exclusive,
    )


def _after_disk_lost(record: JobRecord, end: AttemptEnd, now: datetime) -> Decision:
    budget, count = _spend(record, end, "disk")
    if count <= record.job.retry.disk:
        return _again(record, end, now, budget, count=count)
    words = f"held: {_cause(end)}; once the workspace's file system is back, `resume`"
    return replace(_hold(record, end, now), budget=budget, words=words)


def _complete(record: JobRecord, end: AttemptEnd, _now: datetime) -> Decision:
    words = "completed" if end.reason is EndReason.SUCCESS else "completed: stopped early"
    return _done(JobState.COMPLETED, record, words, _fresh(record.budget, end))


def _bad_input(record: JobRecord, end: AttemptEnd, _now: datetime) -> Decision:
    return _final(record, end, f"failed: {end.message or 'its input cannot work'}; trying again is no use")


_Rule = Callable[[JobRecord, AttemptEnd, datetime], Decision]

_RULES: tuple[tuple[frozenset[EndReason], _Rule], ...] = (
    (SUCCESSES, _complete),
    (CRASHES, _after_crash),
    (FREE, _for_free),
    (frozenset({EndReason.PREEMPTED}), _put_back),
    (frozenset({EndReason.EXCEPTION}), _after_exception),
    (
        frozenset({EndReason.DEVICE_OUT_OF_MEMORY}),
        _OutOfMemory(
            budget="device_out_of_memory",
            whose="device",
            advice="make the batch, the sequence or the model smaller, or ask for a device with more memory",
        ),
    ),
    (
        frozenset({EndReason.HOST_OUT_OF_MEMORY}),
        _OutOfMemory(
            budget="host_out_of_memory",
            whose="host",
            advice="ask for a larger share of the device, so that fewer jobs run beside it, or for another node",
        ),
    ),
    (frozenset({EndReason.LAUNCH_ERROR}), _after_launch_error),
    (frozenset({EndReason.DISK_FULL}), _hold),
    (frozenset({EndReason.DISK_LOST}), _after_disk_lost),
    (frozenset({EndReason.BAD_INPUT}), _bad_input),
)  # NOT_FINITE and TIME_LIMIT are final: they have no rule


def _fresh(budget: Budget, end: AttemptEnd) -> Budget:
    """The budget after progress: all counts start anew where there is a checkpoint newer than at the last failure."""
    newest = end.checkpoint_step
    if newest is not None and (budget.checkpoint_step is None or newest > budget.checkpoint_step):
        return Budget(checkpoint_step=newest)
    return budget


def _spend(record: JobRecord, end: AttemptEnd, cause: str) -> tuple[Budget, int]:
    """The budget with one failure more of this cause (a field of Budget), and how many there are now in a row."""
    budget = _fresh(record.budget, end)
    count: int = getattr(budget, cause) + 1
    return replace(budget, **{cause: count}), count


def _again(
    record: JobRecord,
    end: AttemptEnd,
    now: datetime,
    budget: Budget,
    *,
    count: int,
    avoid: tuple[str, ...] | None = None,
    exclusive: bool = False,
    remark: str = "",
) -> Decision:
    retry = record.job.retry
    # The first is tried again at once. 2**count may be beyond any float: the limit is reached long before.
    wait = min(retry.backoff_max_s, retry.backoff_s * 2.0 ** min(count - 2, 60)) if count > 1 else 0.0
    avoid = record.avoid_devices if avoid is None else avoid
    place = "" if avoid == record.avoid_devices else " on another device if there is one"
    alone = " with the device to itself" if exclusive and not record.exclusive else ""
    later = f" in {wait:g} s" if wait else ""
    return Decision(
        state=JobState.PENDING,
        budget=budget,
        words=f"{_from(end)}{place}{alone}{later}{remark}",
        not_before=now + timedelta(seconds=wait) if wait else None,
        avoid_devices=avoid,
        exclusive=exclusive or record.exclusive,
    )


def _final(record: JobRecord, end: AttemptEnd, words: str, budget: Budget | None = None) -> Decision:
    return _done(JobState.FAILED, record, words, _fresh(record.budget, end) if budget is None else budget)


def _done(state: JobState, record: JobRecord, words: str, budget: Budget) -> Decision:
    return Decision(
        state=state, budget=budget, words=words, avoid_devices=record.avoid_devices, exclusive=record.exclusive
    )


def _from(end: AttemptEnd) -> str:
    return "starts again" if end.checkpoint_step is None else f"goes on from step {end.checkpoint_step:,}"


def _cause(end: AttemptEnd) -> str:
    return end.message or end.reason.replace("_", " ")


def _series(record: JobRecord) -> list[Attempt]:
    return [a for a in record.attempts if a.series == record.series]


def _crashes(record: JobRecord, end: AttemptEnd) -> list[AttemptEnd]:
    """How the attempts of this series ended that crashed; `end` is the newest attempt's."""
    return [*(a.end for a in _series(record) if a.end is not None and a.end.reason in CRASHES), end]


def _times_at_step(record: JobRecord, end: AttemptEnd) -> int:
    return 0 if end.step is None else sum(other.step == end.step for other in _crashes(record, end))


def _crash_loop(record: JobRecord, end: AttemptEnd) -> str:
    """Words that name a crash at the same step again and again; else nothing."""
    times = _times_at_step(record, end)
    return f" (a crash loop: {times} times at step {end.step:,})" if times >= CRASHES_AT_STEP else ""


def _did(record: JobRecord, end: AttemptEnd) -> str:
    words = {EndReason.KILLED: "was killed", EndReason.HUNG: "hung"}
    reasons = {other.reason for other in _crashes(record, end)}
    return words.get(end.reason, "crashed") if len(reasons) == 1 else "crashed"


def _blame(record: JobRecord, end: AttemptEnd) -> str:
    """Who is to blame: whoever kills it, the job or the device, by where and when it crashed."""
    crashes = _crashes(record, end)
    if all(other.reason is EndReason.KILLED for other in crashes):
        return "by SIGKILL from outside, so look for who sends it"
    newest = record.attempts[-1]
    devices = {a.device for a in _series(record) if a.end is not None and a.end.reason in CRASHES} | {newest.device}
    if len(devices) > 1:
        return f"on {len(devices)} different devices, so the fault is the job's own"
    if _times_at_step(record, end) == len(crashes) >= CRASHES_AT_STEP:
        return "always at the same step, so the fault is most probably the job's own"
    return f"always on {newest.device}, so it may be the device's fault"
