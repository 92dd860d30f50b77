"""`python -m terry.cluster.slurm_head WORKSPACE`: what the Slurm job runs in which head, keeper and controller stand.

For login hosts on which nothing may run for long (`head: slurm`). SIGUSR1 comes before the job's time is over: a
successor is asked for, which Slurm starts when this one has ended; then all jobs write their checkpoints. SIGTERM: the
same, without a successor. After a crash the next `up` or `submit` asks for another.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
from pathlib import Path

from terry.cluster import config
from terry.cluster.keeper import keeper_lock
from terry.cluster.locks import holder
from terry.cluster.nodes_file import SlurmGroup
from terry.cluster.slurm_port import Slurm, SlurmError
from terry.cluster.up_here import ensure_up_here, take_down_here
from terry.cluster.workspace import Workspace

_log = logging.getLogger("terry.cluster.slurm_head")
_LOOK_S = 5.0


def main() -> None:
    """Keep the keeper, until somebody says that it is over."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    workspace = Workspace(Path(sys.argv[1]))
    told = _tell_of(signal.SIGUSR1, signal.SIGTERM)
    # A successor starts on another machine, maybe, and finds what its predecessor has recorded: it takes over, as ever.
    while not (number := _wait(told)):
        if holder(keeper_lock(workspace)) is None:
            ensure_up_here(workspace, wait=False)
    if number == signal.SIGUSR1:
        _ask_for_successor(workspace)
    take_down_here(workspace, progress=_log.info)


def _tell_of(*numbers: int) -> int:
    """A descriptor from which the signals can be read that have come."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return told


def _wait(told: int) -> int:
    """The signal that has come; 0 where none has for a while."""
    ready, _, _ = select.select([told], [], [], _LOOK_S)
    return os.read(told, 1)[0] if ready else 0


def _ask_for_successor(workspace: Workspace) -> None:
    with contextlib.suppress(OSError):
        groups = [g for g in config.read(workspace).nodes.groups if isinstance(g, SlurmGroup)]
        try:
            job = Slurm(workspace).submit_head(groups[0], after=os.environ.get("SLURM_JOB_ID"))
            _log.info("the time is nearly over; Slurm job %s goes on", job)
        except (SlurmError, IndexError) as error:
            _log.error("there will be no head after this one until `up` is called: %s", error)


if __name__ == "__main__":
    main()
