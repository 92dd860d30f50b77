"""Processes of an agent carry its mark: a successor finds them by it, and makes sure that they are gone."""

from __future__ import annotations

import os

from terry.cluster.host.processes import Process, kill_all, with_environment

#: The variable of the environment that all processes of an agent inherit; its value is the agent's mark.
AGENT_VARIABLE = "TERRY_AGENT"


def marked(mark: str) -> list[Process]:
    """Processes with this mark, the one that asks among them where it has it."""
    return with_environment(AGENT_VARIABLE, mark)


def end_marked(mark: str) -> None:
    """End all processes with this mark but the one that asks, and wait until they are gone.

    Raises RuntimeError where one does not end: the kernel cannot kill what waits for a hung disk.
    """
    own = os.getpid()
    left = kill_all(lambda: [p for p in marked(mark) if p.pid != own], timeout_s=10.0)
    if left:
        raise RuntimeError(f"processes of an earlier agent do not end: {[p.pid for p in left]}")
