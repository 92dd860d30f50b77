"""live.json: how far the running jobs are. For eyes only: it may be lost at any time, so it is never fsynced."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

import msgspec

from terry.cluster.core.model import DeviceRecord, DeviceUse, Progress
from terry.cluster.core.policy import Policy
from terry.cluster.core.state import State
from terry.cluster.files import origin
from terry.cluster.files.durable import read_bytes, write_json
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.scheduling.demand import DeviceLoad, IdleWatch, Steady, WaitingJobs, waiting_jobs

#: Written at most so often, and at least so often even if nothing changed.
SHORTEST_S, LONGEST_S = 1.0, 5.0

_log = logging.getLogger(__name__)


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What runs now."""

    time: datetime  #: when the controller wrote it
    epoch: int  #: of the controller
    progress: tuple[Progress, ...] = ()
    devices: tuple[DeviceRecord, ...] = ()
    uses: tuple[DeviceUse, ...] = ()
    waiting: tuple[WaitingJobs, ...] = ()
    loads: tuple[DeviceLoad, ...] = ()
    steady: datetime | None = None  #: `time` by the clock of `loads`, which nobody sets; None: an earlier version's


class LiveWriter:
    """Keeps the newest progress of each running job, and writes it now and then."""

    def __init__(self, workspace: WorkspacePaths, epoch: int) -> None:
        self._workspace = workspace
        self._epoch = epoch
        self._progress: dict[str, Progress] = {}
        self._uses: dict[str, DeviceUse] = {}
        self._written_at: float | None = None
        self._changed = True
        self._idle = IdleWatch()
        self._steady: Steady | None = None
        self._seq = 0

    def update(self, progress: Progress) -> None:
        """Keep what a running job said last."""
        self._progress[progress.job_id] = progress
        self._changed = True

    def measured(self, uses: Iterable[DeviceUse]) -> None:
        """Keep how busy devices are. No reason to write the file sooner."""
        self._uses.update({use.device_id: use for use in uses})

    def touch(self) -> None:
        """Something else that the file shows has changed."""
        self._changed = True

    def keep_only(self, running: Iterable[str]) -> None:
        """Forget all jobs but these."""
        kept = set(running)
        gone = [job_id for job_id in self._progress if job_id not in kept]
        for job_id in gone:
            del self._progress[job_id]
            self._changed = True

    def write(self, now: datetime, monotonic: float, state: State, policy: Policy | None = None) -> None:
        """Write the file if it is time to, by the monotonic clock (seconds). A failure is logged and does no harm."""
        self._changed = self._changed or state.seq != self._seq
        age = LONGEST_S if self._written_at is None else monotonic - self._written_at
        if age < SHORTEST_S or (age < LONGEST_S and not self._changed):
            return
        self._steady = self._steady or Steady(now, monotonic)
        steady = self._steady.at(monotonic)
        live = Live(
            time=now,
            epoch=self._epoch,
            progress=tuple(self._progress.values()),
            devices=tuple(state.devices.values()),
            uses=tuple(self._uses.values()),
            waiting=waiting_jobs(state, now, policy or Policy()),
            loads=self._idle.look(state, steady),
            steady=steady,
        )
        self._written_at, self._changed, self._seq = monotonic, False, state.seq
        try:
            write_json(self._workspace.live, live, sync=False)
        except OSError as error:
            _log.warning("%s could not be written: %s", self._workspace.live, error)


def read(workspace: WorkspacePaths) -> Live | None:
    """What ran when the file was last written; None where there is none. Compare `time` and `epoch` with the lease."""
    if origin.is_copy(workspace):
        return None
    try:
        return msgspec.json.decode(read_bytes(workspace.live), type=Live)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
