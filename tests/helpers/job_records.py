"""Job records for tests of what is shown of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from terry.cluster.core.model import (
    Allocation,
    Attempt,
    AttemptEnd,
    Device,
    DeviceKind,
    DeviceRecord,
    EndReason,
    Job,
    JobRecord,
    JobState,
    Resources,
    SpecRef,
)
from terry.logs.view.build import ViewInputs
from terry.logs.view.view import ControllerView

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    """A moment before NOW."""
    return NOW - timedelta(seconds=seconds)


def record(number: int, state: JobState, **changes: object) -> JobRecord:
    """A run of the sweep `cells` on one CPU core."""
    job = Job(
        id=f"cells-{number:04d}",
        sweep="cells",
        kind="train",
        identity=str(number),
        entrypoint="terry.jobs.train:main",
        resources=Resources(cpus=1),
        spec=SpecRef(path="x", offset=0, length=1),
        submitted_at=ago(3600),
        labels={"cell": "gru"},
    )
    plain = JobRecord(job=job, state=state, changed_at=ago(10))
    if state.holds_device:
        plain = msgspec.structs.replace(
            plain,
            allocation=Allocation(device="quattro:cpu", node="quattro", share=1.0),
            attempts=(attempt(1, None, began=100.0),),
        )
    return msgspec.structs.replace(plain, **changes)


def attempt(
    number: int, reason: EndReason | None, *, began: float = 100.0, ended: float = 40.0, **end: object
) -> Attempt:
    """An attempt that began and ended so many seconds before NOW; no reason: it still runs."""
    return Attempt(
        number=number,
        series=1,
        device="quattro:cpu",
        node="quattro",
        placed_at=ago(began),
        started_at=ago(began),
        pid=4700 + number,
        ended_at=None if reason is None else ago(ended),
        end=None if reason is None else AttemptEnd(reason=reason, **end),  # type: ignore[arg-type]
    )


def device(name: str = "quattro:cpu", **changes: object) -> DeviceRecord:
    """Two cores."""
    plain = Device(id=name, node="quattro", node_id="1", kind=DeviceKind.CPU, capacity=2.0, model="EPYC")
    return DeviceRecord(device=plain, **changes)  # type: ignore[arg-type]


def known(*records: JobRecord, **changes: object) -> ViewInputs:
    """All that is known, with one device."""
    plain = {
        "now": NOW,
        "workspace": "/lab/runs",
        "runs": "/lab/runs/runs",
        "controller": ControllerView(alive=True, host="seawolf"),
        "jobs": {r.job.id: r for r in records},
        "devices": {"quattro:cpu": device()},
    }
    return ViewInputs(**(plain | changes))  # type: ignore[arg-type]
