"""The job runner: jobs, devices and nodes; nothing of neural networks.

For notebooks: `from terry.cluster import Workspace`. Loaded at first use, so that importing a part stays light.

api          A workspace as an object, for notebooks and scripts
errors       Errors that people see
ports        What the controller needs from the world, as Protocols
actors/      The only package that imports the library ray: controller and agents as actors
agent/       A device and the processes of its jobs
away/        Nodes that do not see the workspace: files there and back
cli/         The command line
client/      What a person's side reads and asks: no controller is needed
config/      terry.yaml, read and checked
controller/  The one writer of the queue: the loop, and what it hears and answers
core/        The queue as values and pure functions: jobs, events, the state machine, failures
files/       What stands on disk: journal, inbox, lease, live figures, and where each file is
host/        This node: its processes, addresses, locks, hardware, versions
lifecycle/   Bringing a workspace up, keeping it up, taking it down
nodes/       How a node takes part in a workspace
ray/         The daemons of Ray on this node
scheduling/  Which job goes to which device now, and why another one waits
simulation/  A cluster played through in memory, by the real state machine and the real scheduler
slurm/       Nodes that are Slurm jobs
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
