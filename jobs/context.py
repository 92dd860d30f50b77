"""What a training function of one's own imports: `from terry.jobs.context import RunContext`. Public: it stays here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from terry.jobs.process.context import RunContext

if TYPE_CHECKING:
    from terry.jobs.process.loop import Batches

__all__ = ["Batches", "RunContext"]


def __getattr__(name: str) -> Any:
    if name == "Batches":  # imports torch
        from terry.jobs.process.loop import Batches

        return Batches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
