"""Recurrent language models in PyTorch: cells, optimizers, the training loop. No files' names, no cluster.

For notebooks: `from terry.models import load, Ensemble`. Loaded at first use, so that importing a part stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terry.jobs.trained.library import load
    from terry.models.ensemble import Ensemble

__all__ = ["Ensemble", "load"]


def __getattr__(name: str) -> Any:
    if name == "Ensemble":
        from terry.models.ensemble import Ensemble

        return Ensemble
    if name == "load":  # the one way up: people look for it here, and what a workspace looks like is jobs' knowledge
        from terry.jobs.trained.library import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
