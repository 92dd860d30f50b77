"""`status` as plain lines: what needs attention first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from terry.cluster.core.model import JobState
from terry.logs.format import Column, count, decimals, duration, figure, narrowed, plural, printable, short, size, table
from terry.logs.view.eta import Eta
from terry.logs.view.view import DeviceCondition, DeviceView, JobView, SweepView, View

#: Rows that are shown where nobody asks for all.
ROWS = 20

#: Puts a text in a state's colour; the default leaves it as it is.
Paint = Callable[[str, JobState], str]

_SWEEPS = (
    Column(title="SWEEP"),
    Column(title="DONE", right=True),
    Column(title="RUNNING", right=True),
    Column(title="QUEUED", right=True),
    Column(title="HELD", right=True),
    Column(title="FAILED", right=True),
    Column(title="CANCELLED", right=True),
    Column(title="RESTARTS", right=True),
    Column(title="ETA"),
)

_JOBS = (
    Column(title="JOB"),
    Column(title="STATE"),
    Column(title="SETTINGS"),
    Column(title="TRY", right=True),
    Column(title="STEP", right=True),
    Column(title="EPOCH", right=True),
    Column(title="LOSS", right=True),
    Column(title="TOK/S", right=True),
    Column(title="DEVICE"),
    Column(title="ETA", right=True),
    Column(title="NOTE"),
)

#: Columns of jobs that a narrow terminal goes without, so that settings and note can be read: the first goes first.
_SPARE = ("TOK/S", "EPOCH", "TRY", "DEVICE", "ETA")
#: Columns of sweeps that it goes without.
_SPARE_OF_SWEEP = ("RESTARTS", "CANCELLED", "HELD")
#: Characters of a note that tell the most of it.
_NOTICE = 24
#: In a terminal narrower than this (columns), what tells jobs apart is written in fewer words.
_NARROW = 120

_DEVICES = (
    Column(title="DEVICE"),
    Column(title="KIND"),
    Column(title="MODEL"),
    Column(title="USED", right=True),
    Column(title="BUSY", right=True),
    Column(title="MEMORY", right=True),
    Column(title="TEMP", right=True),
    Column(title="STATE"),
    Column(title="JOBS"),
)
#: Which go first in a narrow terminal: a device's state and its jobs are what one has come for.
_SPARE_OF_DEVICE = ("KIND", "TEMP", "MODEL", "MEMORY", "BUSY")
#: Of the list of a device's jobs so many characters are enough.
_JOBS_OF_DEVICE = 24


def plain(text: str, state: JobState) -> str:
    """No colour."""
    del state
    return text


def by_attention(jobs: Iterable[JobView]) -> list[JobView]:
    """What needs a person first, then what runs, then the queue; of what is done the newest first."""
    return sorted(jobs, key=lambda job: (-job.attention, -_age_key(job.changed_at) if job.state.is_final else 0.0))


def _age_key(time: datetime | None) -> float:
    return time.timestamp() if time else 0.0


def status_lines(
    view: View, jobs: Sequence[JobView], *, rows: int | None = ROWS, width: int | None = None, paint: Paint = plain
) -> list[str]:
    """The whole of `status`: head, sweeps, jobs (at most `rows` of those given), what is left out."""
    sorted_jobs = by_attention(jobs)
    shown = sorted_jobs if rows is None else sorted_jobs[:rows]
    names = {job.sweep for job in jobs}
    sweeps = [sweep for sweep in view.sweeps if sweep.name in names]
    columns, cells = narrowed(_SWEEPS, [_sweep_row(s) for s in sweeps], width, _SPARE_OF_SWEEP, last=_NOTICE)
    lines = [
        head(view),
        *absent_lines(view),
        "",
        *([*table(columns, cells, width=width), ""] if sweeps or not jobs else []),
    ]
    lines += job_lines(shown, width, paint)
    hidden = sorted_jobs[len(shown) :]
    if hidden:
        lines.append(f"and {plural(len(hidden), 'job')} more: {in_words(Counter(j.state for j in hidden))} (--all)")
    return lines


def head(view: View) -> str:
    """Where we are, and who runs the queue."""
    online = sum(device.condition is DeviceCondition.ONLINE for device in view.devices)
    devices = f", {plural(online, 'device')}" if view.controller.alive else ""
    notice = f"; {view.notice}" if view.notice else ""
    return printable(f"{view.workspace}: {view.controller.sentence}{devices}{notice}")


def absent_lines(view: View) -> list[str]:
    """What keeps nodes away while jobs wait for one."""
    return [f"no more nodes: {printable(reason)}" for reason in view.absent]


def in_words(counts: Counter[JobState]) -> str:
    """`3 running, 2 failed`."""
    return ", ".join(f"{counts[state]:,} {state}" for state in JobState if counts[state])


def eta_words(eta: Eta | None) -> str:
    """`12m03s (10m to 15m)`."""
    if eta is None:
        return "-"
    low, high = duration(eta.low), duration(eta.high)
    return duration(eta.seconds) if low == high else f"{duration(eta.seconds)} ({low} to {high})"


def _sweep_row(sweep: SweepView) -> list[str]:
    counts = sweep.counts
    running = sum(n for state, n in counts.items() if state.holds_device)
    queued = counts.get(JobState.PENDING, 0) + counts.get(JobState.WAITING, 0)
    held, failed = counts.get(JobState.HELD, 0), counts.get(JobState.FAILED, 0)
    cancelled = counts.get(JobState.CANCELLED, 0)
    done = f"{counts.get(JobState.COMPLETED, 0):,}/{sweep.total:,}"
    numbers = [f"{n:,}" if n else "-" for n in (running, queued, held, failed, cancelled, sweep.restarts)]
    return [sweep.name, done, *numbers, eta_words(sweep.eta) if sweep.final < sweep.total else "done"]


def job_lines(jobs: Sequence[JobView], width: int | None = None, paint: Paint = plain) -> list[str]:
    """Jobs as a table."""
    titles = [c for c in _JOBS if c.title != "SETTINGS" or any(job.labels for job in jobs)]
    all_cells = [job_row(job, brief=width is not None and width < _NARROW) for job in jobs]
    rows = [[cell for cell, column in zip(row, _JOBS, strict=True) if column in titles] for row in all_cells]
    columns, rows = narrowed(titles, rows, width, _SPARE, last=_NOTICE)
    lines = table(columns, rows, width=width)
    at = lines[0].index("STATE") if lines else 0
    return lines[:1] + [
        # Colours come last: they must not count as columns.
        line[:at] + line[at:].replace(job.state, paint(job.state, job.state), 1)
        for line, job in zip(lines[1:], jobs, strict=True)
    ]


def job_row(job: JobView, *, brief: bool = False) -> list[str]:
    """The cells of a job's row. brief: settings and steps in fewer characters."""
    return [
        job.id,
        job.state,
        settings(job, brief=brief) or "-",
        str(job.attempt) if job.attempt else "-",
        steps(job, brief=brief),
        decimals(job.epoch, 2),
        figure(job.loss),
        short(job.tokens_per_s),
        job.device or "-",
        duration(job.eta_seconds),
        remark(job),
    ]


def steps(job: JobView, *, brief: bool = False) -> str:
    """`41,200/120,000`; brief: `41.2k/120k`."""
    if job.step is None:
        return "-"
    write = short if brief else count
    return f"{write(job.step)}/{write(job.total_steps)}" if job.total_steps else write(job.step)


def settings(job: JobView, *, brief: bool = False) -> str:
    """What tells the job from the others of its sweep, and what people have said of it: `cell=gru lr=0.001 #paper`.

    brief: `gru lr=0.001`, words say enough.
    """
    told = (value if brief and _is_word(value) else f"{key}={value}" for key, value in job.labels.items())
    return " ".join((*told, *marks(job)))


def _is_word(value: str) -> bool:
    return value[:1].isalpha() and value not in {"true", "false", "null"}


def marks(job: JobView) -> list[str]:
    """What people have said of the job, in short: a star, tags, the note."""
    return ["*"] * job.starred + [f"#{tag}" for tag in job.tags] + [job.note] * bool(job.note)


def remark(job: JobView) -> str:
    """The one thing to know about the job, beyond its figures."""
    if job.removed:
        return f"its files were removed: `resubmit --from-scratch {job.id}` makes it again"
    if job.replaced_by:
        return f"replaced by {job.replaced_by}"
    if job.state in {JobState.RUNNING, JobState.COMPLETED}:
        if not job.restarts:
            return job.phase if job.state is JobState.RUNNING and job.phase != "training" else ""
        return plural(job.restarts, "restart") + (f"; {job.message}" if job.message else "")
    if job.state is JobState.FAILED and job.message:
        return job.message  # what went wrong; by which rule it is final, `explain` says
    return job.reason or job.message


def device_lines(devices: Sequence[DeviceView], *, width: int | None = None) -> list[str]:
    """`nodes` as a table."""
    rows = [_device_row(device) for device in devices]
    return table(*narrowed(_DEVICES, rows, width, _SPARE_OF_DEVICE, last=_JOBS_OF_DEVICE), width=width)


def _device_row(device: DeviceView) -> list[str]:
    state = device.condition + (f" ({device.reason})" if device.reason else "")
    used = f"{device.used:g}/{device.capacity:g}"
    busy = "-" if device.utilisation is None else f"{device.utilisation:.0%}"
    full = f"/{size(device.memory_bytes)}" if device.memory_bytes else ""
    memory = "-" if device.memory_used_bytes is None else f"{size(device.memory_used_bytes)}{full}"
    heat = "-" if device.temperature_c is None else f"{device.temperature_c:.0f}°C"
    return [device.id, device.kind, device.model or "-", used, busy, memory, heat, state, " ".join(device.jobs) or "-"]
