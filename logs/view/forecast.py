"""From the queue's records to when each sweep ends: what jobs took, what runs, what waits, where is room. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from terry.cluster.core.model import Attempt, Device, DeviceKind, DeviceRecord, JobRecord, JobState, Resources
from terry.logs.view.eta import Durations, DurationSample, Eta, Queued, Running, forecast

_QUEUED = {JobState.PENDING, JobState.WAITING}

#: A job's own pace tells of the others once this share of it is done.
_TELLING = 0.1


class Forecaster:
    """Remembers what was learnt until another job has ended."""

    def __init__(self) -> None:
        self._learnt_from: tuple[int, int] = (-1, -1)
        self._finished: list[DurationSample] = []
        self._queue: dict[str, tuple[JobRecord, Queued]] = {}

    def ends(
        self,
        jobs: Mapping[str, JobRecord],
        devices: Mapping[str, DeviceRecord],
        remaining: Mapping[str, float | None],
        now: datetime,
    ) -> dict[str, Eta]:
        """When each sweep ends, by name. remaining: seconds of running jobs by their own pace, by id."""
        running = [record for record in jobs.values() if record.state.holds_device]
        waiting = [record for record in jobs.values() if record.state in _QUEUED]
        waiting.sort(key=lambda record: -record.priority)  # stable: among equals the order of submission
        projected = [_projected(record, remaining.get(record.job.id), now) for record in running]
        samples = [*self._samples(jobs), *(sample for sample in projected if sample)]
        durations = Durations(samples, {d: known.device.model for d, known in devices.items()})
        found: dict[str, Eta] = {}
        silent: set[str] = set()
        for kind in DeviceKind:  # GPUs and cores are queues of their own
            held = [_running(r, remaining.get(r.job.id), now) for r in running if r.job.resources.kind is kind]
            queue = [r for r in waiting if r.job.resources.kind is kind]
            ends = forecast(held, [self._queued(r) for r in queue], durations, _idle(devices, running, queue))
            silent |= {r.job.sweep for r in (*queue, *(r for r in running if r.job.resources.kind is kind))} - set(ends)
            found = {s: _later(found.get(s), ends.get(s)) for s in {*found, *ends}}
        return {sweep: eta for sweep, eta in found.items() if sweep not in silent}

    def _queued(self, record: JobRecord) -> Queued:
        """The job as the forecast has it: made anew only when its record has changed."""
        known = self._queue.get(record.job.id)
        if known is None or known[0] is not record:
            known = self._queue[record.job.id] = record, _queued(record)
        return known[1]

    def _samples(self, jobs: Mapping[str, JobRecord]) -> list[DurationSample]:
        """What jobs took that have ended. Failed ones took their time, too; alone, they say nothing of the others."""
        ended = [r for r in jobs.values() if r.state in {JobState.COMPLETED, JobState.FAILED} and r.finished_at]
        key = (len(ended), sum(r.attempt for r in ended))
        if key != self._learnt_from:
            ended.sort(key=lambda record: record.finished_at or record.job.submitted_at)
            good = {group_of(r) for r in ended if r.state is JobState.COMPLETED}
            self._finished = [_sample(record) for record in ended if group_of(record) in good]
            self._learnt_from = key
        return self._finished


def _later(one: Eta | None, other: Eta | None) -> Eta:
    return max((eta for eta in (one, other) if eta is not None), key=lambda eta: eta.seconds)


def group_of(record: JobRecord) -> str:
    """Jobs of one group are alike but for their settings."""
    return f"{record.job.sweep}\0{record.job.kind}"


def seconds(attempt: Attempt, now: datetime) -> float:
    """How long the attempt has held its device."""
    return max(0.0, ((attempt.ended_at or now) - attempt.placed_at).total_seconds())


def _series(record: JobRecord) -> list[Attempt]:
    """The attempts of the present series."""
    return [attempt for attempt in record.attempts if attempt.series == record.series]


def _sample(record: JobRecord) -> DurationSample:
    attempts = _series(record)
    ends = [seconds(attempt, attempt.placed_at) for attempt in attempts]
    devices = {attempt.device for attempt in attempts}
    return DurationSample(
        group=group_of(record),
        seconds=sum(ends),
        device=devices.pop() if len(devices) == 1 else "",
        labels=record.job.labels,
    )


def _projected(record: JobRecord, remaining: float | None, now: datetime) -> DurationSample | None:
    """What a running job will have taken; None where it is too early to tell."""
    elapsed = sum(seconds(attempt, now) for attempt in _series(record))
    if remaining is None or elapsed < _TELLING * (elapsed + remaining):
        return None
    return DurationSample(
        group=group_of(record),
        seconds=elapsed + remaining,
        device=record.attempts[-1].device,
        labels=record.job.labels,
        finished=False,
    )


def _running(record: JobRecord, remaining: float | None, now: datetime) -> Running:
    return Running(
        group=group_of(record),
        sweep=record.job.sweep,
        device=record.attempts[-1].device,
        labels=record.job.labels,
        remaining_s=remaining,
        elapsed_s=sum(seconds(attempt, now) for attempt in _series(record)),
    )


def _queued(record: JobRecord) -> Queued:
    done = sum(_saved(attempt) for attempt in record.attempts if attempt.number >= record.first_attempt)
    return Queued(group=group_of(record), sweep=record.job.sweep, labels=record.job.labels, done_s=done)


def _saved(attempt: Attempt) -> float:
    """Seconds of an attempt that ended which are in its last checkpoint."""
    end = attempt.end
    if end is None or not end.step or not end.checkpoint_step:
        return 0.0
    return seconds(attempt, attempt.placed_at) * min(1.0, end.checkpoint_step / end.step)


def _idle(devices: Mapping[str, DeviceRecord], running: Iterable[JobRecord], queue: Sequence[JobRecord]) -> list[str]:
    """The device of each slot that is free for the queue's first job."""
    if not queue:
        return []
    asked = queue[0].job.resources
    busy: dict[str, int] = {}
    for record in running:
        if record.allocation is not None:
            busy[record.allocation.device] = busy.get(record.allocation.device, 0) + 1
    free: list[str] = []
    for known in devices.values():
        if known.online and not known.drained and known.device.kind is asked.kind:
            free += [known.device.id] * max(0, slots(known.device, asked) - busy.get(known.device.id, 0))
    return free


def slots(device: Device, asked: Resources) -> int:
    """How many such jobs run on the device at once."""
    if device.kind is not asked.kind:
        return 0
    if asked.exclusive:
        return 1
    # The small amount keeps 1 / 0.1 from losing a slot to rounding.
    return int(device.capacity / asked.share + 1e-9) if asked.share > 0 else 0
