"""What a job does just now, in memory that it shares with its agent: the last step done, and a count that moves.

And at last, whether its entry point has returned: a library that calls exit(0) in the middle is no success. And
whether its result is on the disk: then it is done, however its process ends.

The pipe of progress lines is for eyes and may be late; this is exact, also when the process is killed in mid-sentence:
a crash loop is told by its step, and a hang by a pulse that stands still. A store costs 0.2 microseconds. The memory
is no file (memfd): nothing that happens to a disk can reach it.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

_LAYOUT = struct.Struct("<QQQQ")
_BEAT = struct.Struct("<QQ")
_RETURNED, _FINISHED = 16, 24  # bytes


class Beat(NamedTuple):
    """One look at a pulse."""

    step: int  #: the last step done; 0: none yet
    beats: int  #: grows whenever the job says that it is at work
    returned: int = 0  #: 1 once the entry point has returned
    finished: int = 0  #: 1 once its result is on the disk


def make() -> int:
    """A new pulse; returns its descriptor, which the caller closes."""
    descriptor = os.memfd_create("terry-pulse", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _LAYOUT.size)
    return descriptor


def look(descriptor: int) -> Beat:
    """The pulse as it stands."""
    return Beat(*_LAYOUT.unpack(os.pread(descriptor, _LAYOUT.size, 0)))


class Pulse:
    """The job's end. A descriptor of -1 makes one that nobody sees."""

    def __init__(self, descriptor: int = -1) -> None:
        self._memory = mmap.mmap(descriptor, _LAYOUT.size)
        self._step = self._count = 0

    def beat(self, step: int | None = None) -> None:
        """At work; `step`: the last one done."""
        self._step = self._step if step is None else step
        self._count += 1
        _BEAT.pack_into(self._memory, 0, self._step, self._count)

    def end(self) -> None:
        """The entry point has returned."""
        self._memory[_RETURNED] = 1

    def finish(self) -> None:
        """Its result is on the disk."""
        self._memory[_FINISHED] = 1
