"""Who is the controller: `lease.json` with an epoch that only grows, and a lock file on the machine's own disk.

The lock keeps two controllers on one machine apart. Between machines the epoch does: whoever took the lease last has
the highest, all others stop at their next `check`, and agents refuse orders of an older one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from datetime import datetime
from pathlib import Path

import msgspec

from terry.cluster.errors import LostLease
from terry.cluster.files.durable import SYSTEM, Calls, make_folder, write_json
from terry.cluster.files.paths import Workspace

#: A controller of another machine that has not written for so long (seconds) counts as dead.
DEAD_AFTER_S = 20.0

_log = logging.getLogger(__name__)


class LockHeld(RuntimeError):
    """Another controller of the same workspace is alive on this machine."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What lease.json says."""

    epoch: int  #: grows by one with each controller
    host: str
    pid: int
    started: str  #: start time of the process, in the host's own terms: tells a reused pid
    heartbeat: datetime
    version: str = ""  #: of terry-cluster
    stopped: bool = False  #: it ended on purpose

    def alive(self, now: datetime, host: str | None = None) -> bool:
        """True where this controller seems to live: on its own machine by its process, elsewhere by its heartbeat."""
        if self.stopped:
            return False
        if self.host == (host or socket.gethostname()) and Path("/proc/self/stat").exists():
            return process_started(self.pid) == self.started
        return (now - self.heartbeat).total_seconds() < DEAD_AFTER_S


def process_started(pid: int) -> str:
    """Start time of a process in clock ticks since the machine's boot, with the boot's id; empty if it is gone."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "" if fields[0] in "ZX" else f"{fields[19]}@{boot}"
    return ""


def read(workspace: Workspace) -> Lease | None:
    """The lease as it stands; None where no controller ever was, or the file is unreadable."""
    try:
        return msgspec.json.decode(workspace.lease.read_bytes(), type=Lease)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        _log.warning("%s is unreadable and is taken as absent: %s", workspace.lease, error)
        return None


class HeldLease:
    """The lease of this process."""

    def __init__(self, workspace: Workspace, lease: Lease, lock: int | None, calls: Calls) -> None:
        self._workspace = workspace
        self._lock = lock
        self._calls = calls
        self.lease = lease

    @property
    def epoch(self) -> int:
        """The controller's fencing number."""
        return self.lease.epoch

    def check(self) -> None:
        """Raise LostLease if another controller has taken the workspace since."""
        other = read(self._workspace)
        if other is None or other.epoch < self.epoch:
            return
        mine = (self.epoch, self.lease.host, self.lease.pid, self.lease.started)
        if (other.epoch, other.host, other.pid, other.started) != mine:
            raise LostLease(f"controller {other.epoch} on {other.host} (pid {other.pid}) took over from {self.epoch}")

    def raise_epoch(self, beyond: int, now: datetime) -> None:
        """Take an epoch higher than `beyond`: the journal may know of later ones than a lost lease file."""
        self._write(msgspec.structs.replace(self.lease, epoch=beyond + 1, heartbeat=now))

    def heartbeat(self, now: datetime) -> None:
        """Say that this controller lives. Raises LostLease, OSError."""
        self.check()
        self._write(msgspec.structs.replace(self.lease, heartbeat=now))

    def release(self, now: datetime) -> None:
        """Say that this controller ended on purpose, and let go of the lock. Raises LostLease, OSError."""
        self.check()
        self._write(msgspec.structs.replace(self.lease, heartbeat=now, stopped=True))
        self.let_go()

    def let_go(self) -> None:
        """Let go of the lock, as the process's death would."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            os.close(lock)

    def _write(self, lease: Lease) -> None:
        write_json(self._workspace.lease, lease, calls=self._calls)
        self.lease = lease


def acquire(
    workspace: Workspace,
    now: datetime,
    *,
    lock_file: Path | None = None,
    wait_s: float = 0.0,
    version: str = "",
    calls: Calls = SYSTEM,
) -> HeldLease:
    """Take the workspace with an epoch above all before.

    `lock_file` stands on the machine's own disk (locks of network file systems are not to be trusted). Raises LockHeld
    if its holder is still there after `wait_s`.
    """
    lock = None if lock_file is None else _lock(lock_file, wait_s)
    try:
        before = read(workspace)
        lease = Lease(
            epoch=1 if before is None else before.epoch + 1,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=process_started(os.getpid()),
            heartbeat=now,
            version=version,
        )
        make_folder(workspace.queue, calls)
        held = HeldLease(workspace, lease, lock, calls)
        held.raise_epoch(lease.epoch - 1, now)
    except BaseException:
        if lock is not None:
            os.close(lock)
        raise
    return held


def _lock(path: Path, wait_s: float) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise LockHeld(f"another controller of this workspace is alive on this machine ({path})") from None
            time.sleep(0.05)
        else:
            return descriptor
