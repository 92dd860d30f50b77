"""A View for tests, with a bit of everything in it, at a fixed moment."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec

from terry.cluster.core.model import DeviceKind, EndReason, JobState
from terry.logs.view.eta import Eta
from terry.logs.view.view import (
    Attention,
    ControllerView,
    Detail,
    DeviceCondition,
    DeviceView,
    JobView,
    Severity,
    SweepView,
    TimelineEntry,
    View,
)

NOW = datetime(2026, 1, 2, 12, 34, 56, tzinfo=UTC)


def job(number: int, state: JobState, **changes: object) -> JobView:
    """One job of the sweep `cells`."""
    plain = JobView(
        id=f"cells-{number:04d}",
        sweep="cells",
        kind="train",
        state=state,
        end_reason=None,
        attempt=0,
        restarts=0,
        step=None,
        total_steps=None,
        epoch=None,
        loss=None,
        node=None,
        device=None,
        eta_seconds=None,
        run_dir=f"/lab/runs/runs/cells-{number:04d}",
        valid_loss=None,
        tokens_per_s=None,
        elapsed_s=None,
        reason="",
        message="",
        phase="",
        priority=0,
        labels={"cell": "gru", "lr": "0.001"},
        changed_at=NOW - timedelta(seconds=number),
        attention=Attention.QUEUED,
    )
    return msgspec.structs.replace(plain, **changes)


def running(number: int, step: int, **changes: object) -> JobView:
    """A job that runs."""
    figures = {
        "attempt": 1,
        "step": step,
        "total_steps": 120_000,
        "epoch": step / 12_000,
        "loss": 6.9 - step / 30_000,
        "valid_loss": 7.0 - step / 30_000,
        "tokens_per_s": 5_700.0,
        "eta_seconds": (120_000 - step) / 50,
        "node": "quattro",
        "device": f"quattro:{number % 4}",
        "phase": "training",
        "attention": Attention.RUNNING,
    }
    return job(number, JobState.RUNNING, **(figures | changes))


JOBS = (
    job(1, JobState.COMPLETED, attempt=1, step=120_000, total_steps=120_000, epoch=10.0, loss=4.1, device="quattro:0",
        end_reason=EndReason.SUCCESS, attention=Attention.DONE),
    job(2, JobState.FAILED, attempt=3, restarts=2, step=812, loss=math.nan, device="quattro:1",
        end_reason=EndReason.NOT_FINITE, reason="loss is NaN at step 812; on_nan: fail", attention=Attention.FAILED),
    running(3, 41_200, attempt=2, restarts=1, message="SIGSEGV in backward (models/embedding.py:88)",
            end_reason=EndReason.CRASHED, attention=Attention.TROUBLED),
    running(4, 60_000),
    running(5, 900),
    job(6, JobState.PENDING, reason="all 4 GPUs busy"),
    job(7, JobState.PENDING, reason="all 4 GPUs busy"),
    job(8, JobState.HELD, reason="paused by ahab", attention=Attention.HELD),
)  # fmt: skip

SWEEPS = (
    SweepView(
        name="cells",
        counts={JobState.COMPLETED: 1, JobState.FAILED: 1, JobState.RUNNING: 3, JobState.PENDING: 2, JobState.HELD: 1},
        restarts=3,
        fraction=0.36,
        eta=Eta(seconds=3_723, low=3_300, high=4_500),
    ),
    SweepView(name="baseline", counts={JobState.COMPLETED: 12}, restarts=0, fraction=1.0, eta=None),
)

DEVICES = (
    DeviceView(id="quattro:0", node="quattro", kind=DeviceKind.GPU, model="NVIDIA H100", capacity=1.0, used=1.0,
               condition=DeviceCondition.ONLINE, reason="", jobs=("cells-0004",), utilisation=0.87,
               memory_used_bytes=32 << 30, memory_bytes=80 << 30, temperature_c=61.0),
    DeviceView(id="quattro:1", node="quattro", kind=DeviceKind.GPU, model="NVIDIA H100", capacity=1.0, used=0.0,
               condition=DeviceCondition.DRAINED, reason="3 jobs crashed on it within an hour", jobs=()),
    DeviceView(id="quattro:3", node="quattro", kind=DeviceKind.GPU, model="NVIDIA H100", capacity=1.0, used=1.0,
               condition=DeviceCondition.ONLINE, reason="", jobs=("cells-0003",)),
)  # fmt: skip

TIMELINE = (
    TimelineEntry(time=NOW - timedelta(seconds=300), job_id="cells-0001", text="done after 120,000 steps on quattro:0",
              severity=Severity.GOOD),
    TimelineEntry(time=NOW - timedelta(seconds=60), job_id="cells-0003", severity=Severity.WARNING,
              text="crashed (SIGSEGV in backward) at step 41,200 on quattro:1; goes on from step 41,000 in 2 s"),
    TimelineEntry(time=NOW - timedelta(seconds=5), job_id="cells-0002", severity=Severity.BAD,
              text="got a loss or gradient that is not finite at step 812 on quattro:1; failed: on_nan: fail"),
)  # fmt: skip


def view(**changes: object) -> View:
    """The View, changed where asked."""
    plain = View(
        now=NOW,
        workspace="/lab/runs",
        controller=ControllerView(alive=True, host="seawolf", epoch=3, age_s=0.4),
        jobs=JOBS,
        sweeps=SWEEPS,
        devices=DEVICES,
        timeline=TIMELINE,
        losses={
            "cells-0002": (6.9, 6.5, math.nan),
            "cells-0003": tuple(6.9 - i / 20 for i in range(40)),
            "cells-0004": tuple(4 + 3 * math.exp(-i / 12) for i in range(60)),
        },
    )
    return replace(plain, **changes)


def detail() -> Detail:
    """The page of cells-0004."""
    steps = tuple(range(0, 60_000, 500))
    return Detail(
        job_id="cells-0004",
        steps=steps,
        losses=tuple(4 + 3 * math.exp(-step / 12_000) for step in steps),
        log=("epoch 4", "epoch 5: validation loss 4.60", "\x1b[31mred\x1b[0m and a \ttab"),
        story=("cells-0004 (train of sweep cells): running", "", "attempt 1 on quattro:0, pid 4711", "  runs"),
    )


def many(number: int) -> View:
    """A View with so many jobs."""
    jobs = tuple(running(i, i) if i % 5 == 0 else job(i, JobState.PENDING) for i in range(1, number + 1))
    return view(jobs=jobs)
