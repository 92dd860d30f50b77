"""Who is the controller: `lease.json`, an epoch that is taken once and for all, and a lock on the node's own disk.

The lock keeps two controllers on one node apart. Between nodes the epoch does: it is a file `epochs/<number>`
that only one can make (O_EXCL), so that no two controllers ever have the same, whatever their clocks say and however
near they start. Whoever took the highest is the controller; all others stop at their next `check`, and agents refuse
their orders.

Whether a controller of another node lives no clock can say: two nodes' never agree. It is watched (`Watch`):
it lives as long as it is seen to change its lease, by the monotonic clock of whoever watches.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec

from terry.cluster.errors import LostLease
from terry.cluster.files import origin
from terry.cluster.files.durable import (
    SYSTEM,
    Calls,
    inherited_mode,
    make_folder,
    opened,
    read_bytes,
    write_all,
    write_json,
)
from terry.cluster.files.paths import WorkspacePaths

#: A controller of another node that was not seen to change its lease for so long (seconds) is dead.
DEAD_AFTER_S = 20.0
#: So many epochs are kept on disk: the newest is all that counts.
_KEPT_EPOCHS = 3
#: Where it is not there though there was a controller, it is looked for so often, with such pauses (seconds): SMB's
#: clients remember for a second that a name was not there.
_LOOKS, _LOOK_AGAIN_S = 33, 0.1

_log = logging.getLogger(__name__)


class LockHeld(RuntimeError):
    """Another controller of the same workspace is alive on this node."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What lease.json says."""

    epoch: int  #: grows with each controller
    host: str
    pid: int
    started: str  #: start time of the process, in the host's own terms: tells a reused pid
    heartbeat: datetime  #: by the clock of its host: for people, and nothing is decided by it
    version: str = ""  #: of terry-cluster
    stopped: bool = False  #: it ended on purpose
    holder: str = ""  #: another with each controller
    beat: int = 0  #: grows while it lives

    @property
    def is_here(self) -> bool:
        """True where it is of this node, so that its process tells whether it lives."""
        return self.host == socket.gethostname() and Path("/proc/self/stat").exists()

    @property
    def sign(self) -> str:
        """What changes while its holder lives."""
        return f"{self.epoch} {self.holder} {self.host} {self.pid} {self.beat} {self.heartbeat.isoformat()}"


class Liveness(StrEnum):
    """Whether a controller lives, as far as its observer can tell."""

    ALIVE = "alive"
    UNKNOWN = "unknown"  #: it was not watched for long enough
    DEAD = "dead"


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What an observer has seen of another node's lease, by the observer's monotonic clock (seconds)."""

    sign: str
    first: float  #: when the lease was first seen as it is
    last: float  #: when it was looked at last
    changed_after: float | None = None  #: it changed at some time after this


class Watch:
    """Watches a workspace's lease: it lives as long as it changes. What was seen before may come from elsewhere."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        sight: Sight | None = None,
        away_s: float = DEAD_AFTER_S / 2,
    ) -> None:
        """away_s: whoever has not looked for so long was away himself, and begins to watch anew."""
        self._monotonic = monotonic
        self.sight = sight
        self._away_s = away_s

    def look(self, lease: Lease | None) -> Liveness:
        """Whether its holder lives, by what was seen until now."""
        if lease is None or lease.stopped:
            return Liveness.DEAD
        self._see(lease.sign)
        if lease.is_here:
            return Liveness.ALIVE if process_started(lease.pid) == lease.started else Liveness.DEAD
        return self._judged()

    def silent_s(self, lease: Lease) -> float:
        """For how long it was watched without a change."""
        self._see(lease.sign)
        assert self.sight is not None
        return self.sight.last - self.sight.first

    def _see(self, sign: str) -> None:
        now, before = self._monotonic(), self.sight
        if before is None or not 0 <= now - before.last <= self._away_s:
            changed = before is not None and before.sign != sign and now >= before.last
            after = before.last if before is not None and changed else None
            self.sight = Sight(sign=sign, first=now, last=now, changed_after=after)
        elif before.sign == sign:
            self.sight = msgspec.structs.replace(before, last=now)
        else:
            self.sight = Sight(sign=sign, first=now, last=now, changed_after=before.last)

    def _judged(self) -> Liveness:
        assert self.sight is not None
        seen = self.sight
        if seen.changed_after is not None and seen.last - seen.changed_after < DEAD_AFTER_S:
            return Liveness.ALIVE
        return Liveness.DEAD if seen.last - seen.first >= DEAD_AFTER_S else Liveness.UNKNOWN


def process_started(pid: int) -> str:
    """Start time of a process in clock ticks since the node's boot, with the boot's id; empty if it is gone."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "" if fields[0] in "ZX" else f"{fields[19]}@{boot}"
    return ""


def read(workspace: WorkspacePaths) -> Lease | None:
    """The lease as it stands; None where no controller ever was, the file is unreadable, or it is the original's.

    The last in a copy of a workspace.
    """
    return None if origin.is_copy(workspace) else _read(workspace)


def _read(workspace: WorkspacePaths) -> Lease | None:
    try:
        return msgspec.json.decode(_bytes(workspace), type=Lease)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        _log.warning("%s is unreadable and is taken as absent: %s", workspace.lease, error)
        return None


def _bytes(workspace: WorkspacePaths) -> bytes:
    """The file's; on SMB it is away for a moment whenever it is replaced, though a controller has run."""
    for _ in range(_LOOKS):
        try:
            return read_bytes(workspace.lease)
        except FileNotFoundError:
            if not newest_epoch(workspace):
                raise
        time.sleep(_LOOK_AGAIN_S)
    return read_bytes(workspace.lease)


class HeldLease:
    """The lease of this process."""

    def __init__(self, workspace: WorkspacePaths, lease: Lease, lock: int | None, calls: Calls) -> None:
        self._workspace = workspace
        self._lock = lock
        self._calls = calls
        self._queue = workspace.queue.stat().st_ino
        self.lease = lease

    @property
    def epoch(self) -> int:
        """The controller's fencing number."""
        return self.lease.epoch

    def check(self) -> None:
        """Raise LostLease if another controller has taken the workspace since, or another queue stands in its place."""
        newest = newest_epoch(self._workspace)
        if newest > self.epoch:
            raise LostLease(f"controller {newest}{_whose(self._workspace, newest)} took over from {self.epoch}")
        if self._workspace.queue.stat().st_ino != self._queue:
            raise LostLease(f"{self._workspace.queue} was replaced under controller {self.epoch}")
        other = _read(self._workspace)
        if other is None or other.epoch < self.epoch:
            return
        mine = (self.epoch, self.lease.host, self.lease.pid, self.lease.started)
        if (other.epoch, other.host, other.pid, other.started) != mine:
            raise LostLease(f"controller {other.epoch} on {other.host} (pid {other.pid}) took over from {self.epoch}")

    def raise_epoch(self, beyond: int, now: datetime) -> None:
        """Take an epoch higher than `beyond`: the journal may know of later ones than a lost lease file."""
        epoch = _take_epoch(self._workspace, beyond, self.lease, self._calls)
        self._write(msgspec.structs.replace(self.lease, epoch=epoch, heartbeat=now))

    def heartbeat(self, now: datetime) -> None:
        """Say that this controller lives. Raises LostLease, OSError."""
        self.check()
        self._write(msgspec.structs.replace(self.lease, heartbeat=now, beat=self.lease.beat + 1))

    def release(self, now: datetime) -> None:
        """Say that this controller ended on purpose, and let go of the lock. Raises LostLease, OSError."""
        self.check()
        self._write(msgspec.structs.replace(self.lease, heartbeat=now, beat=self.lease.beat + 1, stopped=True))
        self.close()

    def close(self) -> None:
        """Let go of the lock, as the process's death would."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            os.close(lock)

    def _write(self, lease: Lease) -> None:
        write_json(self._workspace.lease, lease, calls=self._calls)
        self.lease = lease


def acquire(
    workspace: WorkspacePaths,
    now: datetime,
    *,
    lock_file: Path | None = None,
    wait_s: float = 0.0,
    version: str = "",
    calls: Calls = SYSTEM,
) -> HeldLease:
    """Take the workspace with an epoch above all before.

    `lock_file` stands on the node's own disk (locks of network file systems are not to be trusted). Raises LockHeld
    if its holder is still there after `wait_s`.
    """
    lock = None if lock_file is None else _lock(lock_file, wait_s)
    try:
        make_folder(workspace.queue, calls)
        if told := origin.settle(workspace, calls):
            _log.info("%s", told)
        before = _read(workspace)
        lease = Lease(
            epoch=0 if before is None else before.epoch,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=process_started(os.getpid()),
            heartbeat=now,
            version=version,
            holder=secrets.token_hex(8),
        )
        held = HeldLease(workspace, lease, lock, calls)
        held.raise_epoch(lease.epoch, now)
    except BaseException:
        if lock is not None:
            os.close(lock)
        raise
    return held


# epochs


def newest_epoch(workspace: WorkspacePaths) -> int:
    """The highest epoch that was ever taken; 0 where none is on record."""
    try:
        names = os.listdir(workspace.epochs)  # noqa: PTH208  (asked for at each commit)
    except FileNotFoundError:
        return 0
    return max((int(name) for name in names if re.fullmatch(r"\d{8,}", name)), default=0)


def _take_epoch(workspace: WorkspacePaths, beyond: int, lease: Lease, calls: Calls) -> int:
    """An epoch that nobody else has or will have: the file of its number is made by one alone."""
    make_folder(workspace.epochs, calls)
    about = msgspec.json.encode({"host": lease.host, "pid": lease.pid, "holder": lease.holder})
    epoch = max(beyond, newest_epoch(workspace)) + 1
    while True:
        path = workspace.epochs / f"{epoch:08d}"
        try:
            mode = inherited_mode(workspace.epochs)
            with opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, calls) as descriptor:
                write_all(descriptor, about, calls)
                calls.fsync(descriptor)
        except FileExistsError:
            epoch += 1
            continue
        with opened(workspace.epochs, os.O_RDONLY | os.O_DIRECTORY, calls=calls) as descriptor:
            calls.fsync(descriptor)
        for number in range(max(1, epoch - _KEPT_EPOCHS - 2), epoch - _KEPT_EPOCHS + 1):
            with contextlib.suppress(OSError):
                calls.unlink(workspace.epochs / f"{number:08d}")
        return epoch


def _whose(workspace: WorkspacePaths, epoch: int) -> str:
    """` on seawolf (pid 4711)`; empty where its file does not tell."""
    with contextlib.suppress(OSError, msgspec.DecodeError, KeyError):
        about = msgspec.json.decode((workspace.epochs / f"{epoch:08d}").read_bytes(), type=dict[str, object])
        return f" on {about['host']} (pid {about['pid']})"
    return ""


def _lock(path: Path, wait_s: float) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise LockHeld(f"another controller of this workspace is alive on this node ({path})") from None
            time.sleep(0.05)
        else:
            if _is_current(path, descriptor):
                return descriptor
            os.close(descriptor)  # `down` removed it just now: what we hold is nobody's lock any more
            return _lock(path, wait_s)


def _is_current(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
