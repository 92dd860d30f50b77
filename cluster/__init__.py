"""The job runner: jobs, devices and nodes; nothing of neural networks.

For notebooks: `from terry.cluster import Workspace`. Loaded at first use, so that importing a part stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terry.cluster.api import Workspace

__all__ = ["Workspace"]


def __getattr__(name: str) -> Any:
    if name == "Workspace":
        from terry.cluster.api import Workspace

        return Workspace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
