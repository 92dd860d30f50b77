"""One lock a GPU and node, between the agents of all its users; the kernel releases it when its holder dies.

A flock on a file in /tmp, named by the GPU's UUID. The file is only ever opened for reading, never through a link, and
never written: so one that somebody has put there, whatever it is, can do no harm, and every user may lock it. Who holds
it the kernel tells (/proc/locks), not the file.

There is none for a node's CPU cores. The kernel shares those between processes fairly and at any moment; a lock would
only make a second workspace on the node, be it of the same user, wait for days behind the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from pathlib import Path

#: The same for all users of a node, whatever their TMPDIR. Sticky, so that nobody removes another's file.
FOLDER = Path("/tmp")  # noqa: S108

_UUID = re.compile(r"[A-Za-z0-9-]{1,80}")
_TEXT = b"A lock between users' agents (terry-cluster): held while jobs run on this GPU. It needs no care.\n"
#: Others look at the lock by holding it, shared, for some microseconds.
_TRIES, _PAUSE_S = 10, 0.01


class DeviceLockError(RuntimeError):
    """The lock cannot be had, and why, for people."""


def lock_of(uuid: str) -> Path:
    """The lock file of a GPU."""
    if not _UUID.fullmatch(uuid):
        raise ValueError(f"{uuid!r} is no GPU's UUID")
    return FOLDER / f"terry-{uuid}.lock"


class DeviceLock:
    """The lock of one GPU, held or not. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """True while it is ours."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Take it, where it is free or ours already. Raises DeviceLockError where the file is none to be locked."""
        for _ in range(_TRIES):
            if self.held:
                break
            descriptor = self._open()
            if _locked(descriptor, fcntl.LOCK_EX) and self._is_current(descriptor):
                self._descriptor = descriptor
            else:
                os.close(descriptor)
                time.sleep(_PAUSE_S)
        return self.held

    def release(self) -> None:
        """Let it go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def keep(self) -> None:
        """To be called now and then while it is held.

        What cleans /tmp shall see that the file is in use; where somebody removed it all the same, lock the new one.
        Raises DeviceLockError where another agent has that.
        """
        if self._descriptor is None:
            return
        os.pread(self._descriptor, 1, 0)  # sets the time of its last use
        if not self._is_current(self._descriptor):
            self.release()
            if not self.take():
                raise DeviceLockError(f"{self._path} was removed while it was held, and is held by another agent now")

    def holder(self) -> int | None:
        """Pid of another process that holds it (0: one that is not to be seen from here); None where it is free."""
        if self.held:
            return None
        descriptor = self._open()
        try:
            return None if _locked(descriptor, fcntl.LOCK_SH) else _holder_of(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    def _open(self) -> int:
        for _ in range(_TRIES):
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                self._make()
                continue
            except OSError as error:
                raise self._unusable(error.strerror or str(error)) from error
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            raise self._unusable("not a regular file")
        raise self._unusable("it vanishes again and again")

    def _unusable(self, why: str) -> DeviceLockError:
        return DeviceLockError(f"{self._path} cannot be locked: {why}; its owner or root must remove it")

    def _make(self) -> None:
        """Publish the file with its mode, so that nobody finds one that he may not open."""
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, _TEXT)
            os.fchmod(descriptor, 0o444)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self._path)
        finally:
            os.close(descriptor)
            temporary.unlink()


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder_of(file: os.stat_result) -> int:
    """Who has a flock on the file, by /proc/locks (proc(5)); 0 where it does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1:2] == ["FLOCK"] and fields[3] == "WRITE" and fields[5].rpartition(":")[2] == str(file.st_ino):
                return max(0, int(fields[4]))
    return 0
