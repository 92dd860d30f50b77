"""From what the queue knows to what is shown: builds a View. Pure: records, progress and outcomes come as arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from terry.cluster.core.model import (
    SUCCESSES,
    Attempt,
    DeviceRecord,
    DeviceUse,
    EndReason,
    JobRecord,
    JobState,
    Progress,
)
from terry.logs.records.results import JobOutcome
from terry.logs.records.values import as_count, as_float
from terry.logs.view import eta
from terry.logs.view.eta import Eta
from terry.logs.view.forecast import Forecaster
from terry.logs.view.timeline import latest
from terry.logs.view.view import (
    Attention,
    ControllerView,
    DeviceCondition,
    DeviceView,
    JobView,
    SweepView,
    View,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewInputs:
    """All that the files of a workspace say at one moment."""

    now: datetime
    workspace: str  #: its folder
    runs: str  #: folder of the runs
    controller: ControllerView
    jobs: Mapping[str, JobRecord]
    devices: Mapping[str, DeviceRecord] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)  #: of jobs that run, by id
    outcomes: Mapping[str, JobOutcome] = field(default_factory=dict)  #: of jobs that do not run, by id
    waits: Mapping[str, str] = field(default_factory=dict)  #: why jobs do not run, by id, where that was asked
    replaced: Mapping[str, str] = field(default_factory=dict)  #: job id -> the job that stands for it now
    device_stats: Mapping[str, DeviceUse] = field(default_factory=dict)
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()  #: what keeps nodes away while jobs wait, the weightiest first
    notice: str = ""

    @property
    def heard_at(self) -> datetime:
        """Up to when all this is known: now, or when the controller was last heard of. ETAs count from there."""
        age = self.controller.age_s
        return self.now if self.controller.alive or age is None else self.now - timedelta(seconds=age)


class ViewBuilder:
    """Builds one View after another. Remembers the rows of jobs that did not change: 10,000 of them are cheap."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[JobRecord, JobOutcome | None, str | None, JobView]] = {}
        self._forecaster = Forecaster()

    def view(self, known: ViewInputs) -> View:
        """The View of what is known."""
        jobs = tuple(self._row(record, known) for record in known.jobs.values())
        return View(
            now=known.now,
            workspace=known.workspace,
            controller=known.controller,
            jobs=jobs,
            sweeps=sweep_views(jobs, self._ends(jobs, known)),
            devices=device_views(known),
            timeline=latest(known.jobs.values(), 50),
            losses=dict(known.losses),
            absent=known.absent,
            notice=known.notice,
        )

    def _ends(self, jobs: Iterable[JobView], known: ViewInputs) -> Mapping[str, Eta]:
        remaining = {job.id: job.eta_seconds for job in jobs if job.state.holds_device}
        return self._forecaster.ends(known.jobs, known.devices, remaining, known.heard_at)

    def _row(self, record: JobRecord, known: ViewInputs) -> JobView:
        job_id = record.job.id
        if record.state.holds_device:
            return job_view(record, known)
        outcome, waits = known.outcomes.get(job_id), known.waits.get(job_id)
        cached = self._rows.get(job_id)
        if cached is not None and cached[0] is record and cached[1] is outcome and cached[2] == waits:
            return cached[3]
        row = job_view(record, known)
        self._rows[job_id] = (record, outcome, waits, row)
        return row


def job_view(record: JobRecord, known: ViewInputs) -> JobView:
    """One job as it is shown."""
    job, newest = record.job, record.attempts[-1] if record.attempts else None
    ended = next((a for a in reversed(record.attempts) if a.end), None)
    end = ended.end if ended else None
    figures = _figures(record, known)
    speed = getattr(figures, "steps_per_s", None)
    return JobView(
        id=job.id,
        sweep=job.sweep,
        kind=job.kind,
        state=record.state,
        end_reason=end.reason if end else None,
        attempt=record.attempt,
        restarts=record.restarts,
        step=figures.step if figures.step is not None else (end.step if end else None),
        total_steps=figures.total_steps,
        epoch=figures.epoch,
        loss=figures.loss,
        valid_loss=figures.valid_loss,
        tokens_per_s=figures.tokens_per_s,
        node=newest.node if newest else None,
        device=newest.device if newest else None,
        eta_seconds=_job_eta(record, figures, speed, known.heard_at),
        run_dir=f"{known.runs}/{job.id}",
        reason=_reason(record, known),
        message=end.message if end else "",
        phase=getattr(figures, "phase", ""),
        priority=record.priority,
        labels=job.labels,
        elapsed_s=sum(_seconds(a, known.now) for a in record.attempts) if record.attempts else None,
        changed_at=record.changed_at,
        attention=_attention(record, end.reason if end else None),
        note=record.marks.note,
        tags=record.marks.tags,
        starred=record.marks.starred,
        archived=record.marks.archived,
        removed=record.marks.removed_at is not None,
        replaced_by=known.replaced.get(job.id),
    )


def _figures(record: JobRecord, known: ViewInputs) -> Progress | JobOutcome:
    """How far the job is: what its present attempt says, else what is known of earlier ones."""
    if record.state.holds_device:
        progress = known.progress.get(record.job.id)
        if progress is not None and progress.attempt == record.attempt:
            return _sane(progress)
    return known.outcomes.get(record.job.id) or JobOutcome()


def _sane(progress: Progress) -> Progress:
    """What a job says of itself, without what is no number that can be reckoned with."""
    return replace(
        progress,
        step=as_count(progress.step) or 0,
        total_steps=as_count(progress.total_steps),
        epoch=as_float(progress.epoch),
        loss=as_float(progress.loss),
        valid_loss=as_float(progress.valid_loss),
        tokens_per_s=as_float(progress.tokens_per_s),
        steps_per_s=as_float(progress.steps_per_s),
    )


def _job_eta(record: JobRecord, figures: Progress | JobOutcome, speed: float | None, now: datetime) -> float | None:
    if record.state is not JobState.RUNNING or not isinstance(figures, Progress):
        return None
    said, began = figures.time or now, record.attempts[-1].started_at
    whole = began is not None and record.attempt == record.first_attempt  # it began at step 0
    return eta.remaining_seconds(
        step=figures.step,
        total_steps=figures.total_steps,
        steps_per_s=speed,
        age_s=max(0.0, (now - said).total_seconds()),
        ran_s=(said - began).total_seconds() if whole and began else 0.0,
    )


def _seconds(attempt: Attempt, now: datetime) -> float:
    """How long the attempt has run, or ran."""
    begin = attempt.started_at or attempt.placed_at
    return max(0.0, ((attempt.ended_at or now) - begin).total_seconds())


def _reason(record: JobRecord, known: ViewInputs) -> str:
    """Why the job is where it is. What waits is told by the scheduler; what it says goes without the state's name."""
    text = known.waits.get(record.job.id) or record.reason
    return text.removeprefix(f"{record.state}: ")


_NORMAL_ENDS = {
    None,
    *SUCCESSES,
    EndReason.PAUSED,
    EndReason.PREEMPTED,
    EndReason.CANCELLED,
    EndReason.DEVICE_BLOCKED,
}


def _attention(record: JobRecord, ended: EndReason | None) -> Attention:
    if record.state is JobState.FAILED:
        return Attention.FAILED
    if record.state.is_final:
        return Attention.DONE
    if ended not in _NORMAL_ENDS or record.budget.launch:
        return Attention.TROUBLED
    if record.state.holds_device:
        return Attention.RUNNING
    return Attention.HELD if record.state is JobState.HELD else Attention.QUEUED


def device_views(known: ViewInputs) -> tuple[DeviceView, ...]:
    """All devices, with what runs on them."""
    on: dict[str, list[JobRecord]] = {}
    for record in known.jobs.values():
        if record.allocation is not None:
            on.setdefault(record.allocation.device, []).append(record)
    return tuple(_device_view(r, on.get(r.device.id, []), known) for r in known.devices.values())


def _device_view(record: DeviceRecord, jobs: list[JobRecord], known: ViewInputs) -> DeviceView:
    device, stats = record.device, known.device_stats.get(record.device.id)
    condition, reason = _condition(record)
    return DeviceView(
        id=device.id,
        node=device.node,
        kind=device.kind,
        model=device.model,
        capacity=device.capacity,
        used=sum(r.allocation.share for r in jobs if r.allocation),
        condition=condition,
        reason=reason,
        jobs=tuple(r.job.id for r in jobs),
        utilisation=stats.utilisation if stats else None,
        memory_used_bytes=stats.memory_used_bytes if stats else None,
        memory_bytes=device.memory_bytes or None,
        temperature_c=stats.temperature_c if stats else None,
    )


def _condition(record: DeviceRecord) -> tuple[DeviceCondition, str]:
    if record.drained:
        return DeviceCondition.DRAINED, record.drain_reason
    if not record.online:
        return (DeviceCondition.GIVEN_BACK if record.given_back else DeviceCondition.OFFLINE), ""
    if record.blocked:
        return DeviceCondition.BLOCKED, record.blocked
    return DeviceCondition.ONLINE, "does not see the workspace: files are sent" if record.device.away else ""


def sweep_views(jobs: Iterable[JobView], ends: Mapping[str, Eta]) -> tuple[SweepView, ...]:
    """All sweeps, in the order in which they were submitted. ends: when each ends, by name."""
    by_sweep: dict[str, list[JobView]] = {}
    for job in jobs:
        if job.archived or job.removed or job.replaced_by:
            continue  # shown because somebody named it
        by_sweep.setdefault(job.sweep, []).append(job)
    return tuple(
        SweepView(
            name=name,
            counts=dict(Counter(job.state for job in members)),
            restarts=sum(job.restarts for job in members),
            fraction=sum(1.0 if job.state.is_final else job.fraction for job in members) / len(members),
            eta=ends.get(name),
        )
        for name, members in by_sweep.items()
    )
