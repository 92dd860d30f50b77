"""Runs for trackers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terry.logs.trackers.content import TrackedRun

CURVE = tuple({"step": step, "time": 1000.0 + step, "loss": 5.0 - step / 100} for step in range(10, 101, 10))


def a_run(number: int = 1, curve: tuple[Mapping[str, Any], ...] = CURVE) -> TrackedRun:
    """A run that went well."""
    return TrackedRun(
        key=f"{number:020x}",
        name=f"cells-{number:04d}",
        sweep="cells",
        state="completed",
        settings={"model.cell": "gru", "optimizer.lr": 0.1, "data.note": "x" * 7000, "odd, @ = //name": 1},
        tags={"setting.cell": "gru", "restarts": "1", "version of torch": "2.13"},
        figures={"best_loss": 4.0 + number / 100, "steps": 100, "reason": "completed"},
        curve=curve,
        began=1000.0,
        ended=1200.0,
    )
