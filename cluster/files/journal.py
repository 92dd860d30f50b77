"""The journal: every event that ever happened, one line each, on disk before anything is done about it.

It is a folder of segments. A segment is named by the sequence number of its first line, and every controller begins a
new one. So whatever a superseded controller still appends to an older segment has numbers that a later segment holds,
too, and does not count.

A commit of several lines may reach a disk in part: not its end, or with a page missing in the middle (no file system
promises the order in which pages are written). So each of its lines says which commit it is of, and one that is not
whole was never acknowledged, and does not count.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from terry.cluster.core.events import BadLine, Entry, Event, UnknownLine, decode_line, encode_line, read_line
from terry.cluster.errors import JournalDamaged, WorkspaceNewer
from terry.cluster.files.durable import (
    SYSTEM,
    Calls,
    fsync_folder,
    inherited_mode,
    make_folder,
    opened,
    read_bytes,
    write_all,
)

#: A segment that has grown beyond this is closed.
SEGMENT_BYTES = 16 * 1024 * 1024

_log = logging.getLogger(__name__)


class Journal:
    """The writing end; one at a time. `read` is for everybody."""

    def __init__(self, folder: Path, last_seq: int, epoch: int, calls: Calls = SYSTEM) -> None:
        self._folder = folder
        self.epoch = epoch  #: of the controller that writes
        self._calls = calls
        self._seq = last_seq  # of the newest event, committed or not
        self._pending: list[Event] = []
        self._descriptor: int | None = None
        self._size = 0  # committed bytes of the open segment
        self._broken = False

    @classmethod
    def open(cls, folder: Path, epoch: int = 0, calls: Calls = SYSTEM) -> Journal:
        """Open for appending: a torn tail is cut off with a warning, the next event begins a new segment.

        Raises JournalDamaged if the newest segment is damaged elsewhere, WorkspaceNewer if it is of a later version.
        """
        make_folder(folder, calls)
        found = segments(folder)
        last_seq = _repair(*found[-1], calls) if found else 0
        return cls(folder, last_seq, epoch, calls)

    @property
    def pending(self) -> bool:
        """True if there is something to commit."""
        return bool(self._pending)

    @property
    def seq(self) -> int:
        """Number of the newest event."""
        return self._seq

    def append(self, events: Iterable[Event]) -> None:
        """Number the events and keep them for the next `commit`."""
        for event in events:
            self._seq += 1
            self._pending.append(event)

    def commit(self) -> None:
        """Bring all that was appended to the disk: one write, one fsync. Raises OSError; the journal is closed then.

        After an error nobody knows what is on the disk, so nothing more is written: the next start repairs it.
        """
        if not self._pending:
            return
        if self._broken:
            raise OSError("the journal failed before and takes no more events")
        first = self._seq - len(self._pending) + 1
        commit = (first, self._seq)
        data = b"".join(encode_line(seq, self.epoch, event, commit) for seq, event in enumerate(self._pending, first))
        try:
            descriptor = self._segment(first)
            write_all(descriptor, data, self._calls)
            self._calls.fsync(descriptor)
        except BaseException:
            self._give_up()
            raise
        self._pending.clear()
        self._size += len(data)
        if self._size >= SEGMENT_BYTES:
            self.rotate()

    def rotate(self) -> None:
        """Close the segment: the next event begins a new one."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._calls.close(descriptor)

    def close(self) -> None:
        """Commit nothing more and let go of the file."""
        self._broken = True
        self.rotate()

    def skip_to(self, seq: int) -> None:
        """Number the next event after `seq`: a snapshot has the events up to there, and the journal has lost some."""
        self._seq = max(self._seq, seq)

    def prune(self, covered_seq: int) -> None:
        """Remove the segments all of whose events are at or before `covered_seq`."""
        found = segments(self._folder)
        for (_, path), (following, _) in itertools.pairwise(found):
            if following - 1 <= covered_seq:
                self._calls.unlink(path)

    def _segment(self, first_seq: int) -> int:
        if self._descriptor is None:
            path = self._folder / f"{first_seq:08d}.jsonl"
            if path.exists() and path.stat().st_size == 0:  # of a controller that died right here
                self._calls.unlink(path)
            # Exclusive: if another controller is here after all, one of the two fails, and nothing is mixed.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._descriptor = self._calls.open(path, flags, inherited_mode(self._folder))
            self._size = 0
            self._calls.chmod(self._descriptor, inherited_mode(self._folder))
            fsync_folder(self._folder, self._calls)
        return self._descriptor

    def _give_up(self) -> None:
        # What reached the file is taken out again, lest a reader take it for journalled.
        self._broken = True
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._calls.truncate(self._descriptor, self._size)
            with contextlib.suppress(OSError):
                self.rotate()


def segments(folder: Path) -> list[tuple[int, Path]]:
    """All segments as (number of the first event, path), oldest first."""
    found = [(re.fullmatch(r"(\d{8,})\.jsonl", name), name) for name in os.listdir(folder)]  # noqa: PTH208 (speed)
    return sorted((int(m[1]), folder / name) for m, name in found if m)


def read(folder: Path, after_seq: int = 0) -> Iterator[Entry]:
    """Entries after `after_seq`, in order, without locks, while a controller writes.

    Ends before a torn last commit. Raises JournalDamaged (file:line) for a bad line elsewhere or a gap in the sequence,
    WorkspaceNewer for a line of a later version, and FileNotFoundError if a segment was pruned meanwhile: there is a
    newer snapshot then.
    """
    found = segments(folder) if folder.is_dir() else []
    expected = after_seq + 1
    for (first, path), end in itertools.zip_longest(found, [first for first, _ in found[1:]]):
        if end is not None and end <= expected:
            continue
        if first > expected:
            raise JournalDamaged(f"events {expected} to {first - 1} are missing before it", file=path)
        for entry in _read_segment(path, first, end):
            if entry.seq >= expected:
                yield entry
        expected = expected if end is None else end


def epoch_at(folder: Path, seq: int) -> int | None:
    """Epoch of the controller that wrote event `seq`, else of the newest event before it; None where none is there."""
    for first, path in reversed(segments(folder) if folder.is_dir() else []):
        if first > seq:
            continue
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            for line in reversed(read_bytes(path).split(b"\n")[: seq - first + 1]):
                with contextlib.suppress(BadLine, UnknownLine):
                    return decode_line(line).epoch
    return None


def _read_segment(path: Path, first: int, end: int | None) -> Iterator[Entry]:
    """Entries of one segment, up to `end` (not included). The newest segment has no `end` and may have a torn tail."""
    *lines, _ = read_bytes(path).split(b"\n")
    seq = at = first
    commit: list[Entry] = []  # of the one that is being read
    for number, text in enumerate(lines, 1):
        if at == end:
            break  # what follows is of a superseded controller
        try:
            line = read_line(text)
        except UnknownLine as error:
            raise WorkspaceNewer(f"a later version wrote this: {error}", file=path, line=number) from error
        except BadLine as error:
            if end is None and _is_torn(lines[number - 1 :], seq):
                return
            raise JournalDamaged(f"the journal is damaged here: {error}", file=path, line=number) from error
        if (line.entry.seq, line.first) != (at, seq):
            raise JournalDamaged(f"event {line.entry.seq} stands where event {at} belongs", file=path, line=number)
        commit.append(line.entry)
        at += 1
        if line.entry.seq == line.last:
            yield from commit
            commit, seq = [], at
    if at == end:
        yield from commit
    elif end is not None:
        raise JournalDamaged(f"events {at} to {end - 1} are missing after this line", file=path, line=len(lines))


def _is_torn(left: list[bytes], seq: int) -> bool:
    """Whether these last lines are what a power cut leaves of the commit that begins with event `seq`.

    That is its own lines, pages that were not written (which read as zeros), and at the very end anything.
    """
    return all(b"\0" in text or _is_of(text, seq) for text in left[:-1])


def _is_of(text: bytes, seq: int) -> bool:
    with contextlib.suppress(BadLine, UnknownLine):
        return read_line(text).first == seq
    return False


def _repair(first: int, path: Path, calls: Calls) -> int:
    """Cut a torn tail off the newest segment; return the number of its last event."""
    seq = first - 1
    for entry in _read_segment(path, first, None):
        seq = entry.seq
    data = read_bytes(path)
    torn = data.split(b"\n", seq - first + 1)[-1]
    if torn:
        _log.warning("%s: cut off a torn last commit of %d bytes: %r", path, len(torn), torn.strip(b"\0")[:200])
        with opened(path, os.O_WRONLY, calls=calls) as descriptor:
            calls.truncate(descriptor, len(data) - len(torn))
            calls.fsync(descriptor)
    return seq
