"""`python -m terry.cluster.lifecycle.slurm_head WORKSPACE`: what a Slurm job with the head in it runs.

For login hosts on which nothing may run for long (`head: slurm`). Once its controller is at work it asks for a
successor, which Slurm starts when this job has ended, however it ends: with its node, by its time limit, by a
preemption. Nobody has to be there for that. SIGUSR1 comes before the job's time is over, SIGTERM by `down` (which has
cancelled the successor) or at the last moment: all jobs write their checkpoints, and it ends.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

from terry.cluster.config import terry_yaml as config
from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.errors import UserError
from terry.cluster.files import lease
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.locks import holder
from terry.cluster.lifecycle.keeper import keeper_lock
from terry.cluster.lifecycle.on_head import cluster_status, ensure_up_on_head, take_down_on_head
from terry.cluster.ray.head import read_head
from terry.cluster.slurm import next_head
from terry.cluster.slurm import notice as slurm_notice
from terry.cluster.slurm.commands import Slurm, SlurmError

_log = logging.getLogger("terry.cluster.lifecycle.slurm_head")
_LOOK_S = 5.0
#: After Slurm has refused a successor.
_ASK_AGAIN_S = 300.0


class Succession:
    """Who serves the workspace after this Slurm job, and whether somebody does already."""

    def __init__(self, workspace: WorkspacePaths, slurm: Slurm, job_id: str) -> None:
        self._workspace = workspace
        self._slurm = slurm
        self._job_id = job_id
        self._ask_at: float | None = 0.0  # None: asked for
        self._served = False  # our own head was the workspace's

    @property
    def is_over(self) -> bool:
        """True once another node's head serves the workspace: Slurm, or `up`, has given this one up for dead."""
        head = read_head(self._workspace)
        self._served = self._served or (head is not None and head.is_here)
        return self._served and head is not None and not head.is_here

    def provide(self) -> None:
        """Ask for a successor. Not before this head is at work: one that never is must not bring forth another."""
        if self._ask_at is None or time.monotonic() < self._ask_at or not self._is_at_work():
            return
        self._ask_at = time.monotonic() + _ASK_AGAIN_S
        next_head.forget(self._workspace)  # it was about us
        try:
            group = next(g for g in config.read_nodes(self._workspace).groups if isinstance(g, SlurmGroup))
            job = self._slurm.submit_head(group, after=self._job_id)
        except (SlurmError, UserError, OSError, StopIteration) as error:
            _log.error("there will be no head after this one until `up` is called: %s", error)
            return
        self._ask_at = None
        _log.info("Slurm job %s goes on when this one (%s) has ended", job, self._job_id)
        next_head.write(self._workspace, job, self._job_id)

    def _is_at_work(self) -> bool:
        held = lease.read(self._workspace)
        return held is not None and held.host == socket.gethostname() and cluster_status(self._workspace).at_work


def main() -> None:
    """Keep the keeper, until somebody says that it is over."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    workspace = WorkspacePaths(Path(sys.argv[1]))
    signalled = _notify_of(signal.SIGUSR1, signal.SIGTERM)
    slurm_notice.pass_on()
    succession = Succession(workspace, Slurm(workspace), os.environ["SLURM_JOB_ID"])
    while not _wait(signalled):
        if succession.is_over:
            _log.warning("another head serves the workspace now")  # and the keeper ends what runs here
            return
        if holder(keeper_lock(workspace)) is None:
            ensure_up_on_head(workspace, wait=False)
        succession.provide()
    take_down_on_head(workspace, progress=_log.info)


def _notify_of(*numbers: int) -> int:
    """A descriptor from which the signals can be read that have come."""
    signalled, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return signalled


def _wait(signalled: int) -> int:
    """The signal that has come; 0 where none has for a while."""
    ready, _, _ = select.select([signalled], [], [], _LOOK_S)
    return os.read(signalled, 1)[0] if ready else 0


if __name__ == "__main__":
    main()
