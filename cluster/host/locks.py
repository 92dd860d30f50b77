"""Locks between processes of one node, which the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(slots=True)
class Lock:
    """A flock that is held. The file holds the holder's pid, for people and for `holder`."""

    path: Path
    _descriptor: int

    @classmethod
    def try_take(cls, path: Path) -> Self | None:
        """Take it if it is free. The file must lie on this node's own disk."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            if is_current(path, descriptor):
                break
            os.close(descriptor)  # `down` removed it just now: what we hold is nobody's lock any more
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return cls(path, descriptor)

    @classmethod
    def take(cls, path: Path, wait_s: float) -> Self:
        """Take it as soon as it is free. Raises TimeoutError."""
        deadline = time.monotonic() + wait_s
        while (lock := cls.try_take(path)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is held by pid {holder(path)} for more than {wait_s:.0f} s")
            time.sleep(0.05)
        return lock

    def release(self) -> None:
        """Let it go."""
        os.close(self._descriptor)


def is_current(path: Path, descriptor: int) -> bool:
    """Whether the file that is open still has its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def holder(path: Path) -> int | None:
    """Pid of the process that holds the lock; None if it is free."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0)
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None
