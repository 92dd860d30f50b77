"""The queue on disk: the newest good snapshot and the journal after it. Read by everybody, without locks."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Iterator

from terry.cluster.core.state_document import BadSnapshot, UnknownSnapshot, from_snapshot, to_snapshot
from terry.cluster.core.state_machine import State, apply
from terry.cluster.errors import JournalDamaged, UserError, WorkspaceNewer
from terry.cluster.files.durable import SYSTEM, Calls, read_bytes, write_bytes
from terry.cluster.files.journal import Journal, epoch_at, read
from terry.cluster.files.paths import WorkspacePaths

#: Snapshots are taken after so many events, or once so much time has passed since the last and anything happened.
SNAPSHOT_EVENTS, SNAPSHOT_AGE_S = 2000, 60.0
#: A snapshot costs as much as there are jobs: there is one event at least for so many jobs.
JOBS_PER_EVENT = 5
#: Older ones are removed.
KEPT_SNAPSHOTS = 2

#: A reader that is overtaken by pruning this often gives up.
_TRIES = 5

_log = logging.getLogger(__name__)


def read_state(workspace: WorkspacePaths) -> State:
    """The queue as of now. Raises UserError (JournalDamaged, WorkspaceNewer) where it cannot be read."""
    for attempt in range(_TRIES):
        newest = _newest(workspace)
        try:
            return _load(workspace)
        except PermissionError as error:
            raise UserError("the queue cannot be read: permission denied", file=error.filename) from error
        except (FileNotFoundError, JournalDamaged):
            # Segments vanish under a reader when the controller has just saved a newer snapshot.
            if _newest(workspace) == newest or attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def load(workspace: WorkspacePaths, calls: Calls = SYSTEM) -> tuple[Journal, State]:
    """The journal, open and repaired, and the queue, for the controller, which has the lease.

    Raises JournalDamaged, WorkspaceNewer.
    """
    journal = Journal.open(workspace.journal, calls=calls)
    state = _load(workspace, journal.seq)
    if state.seq > journal.seq:  # a disk that lied, or a person: what was committed is whole nonetheless
        _log.warning("the journal ends with event %d, the newest snapshot has event %d", journal.seq, state.seq)
        journal.skip_to(state.seq)
    return journal, state


def _load(workspace: WorkspacePaths, until: int | None = None) -> State:
    """`until`: a superseded controller may still be writing after it."""
    with _no_collection():
        state = _from_snapshots(workspace)
        state.defer()
        for entry in read(workspace.journal, state.seq):
            if until is not None and entry.seq > until:
                break
            apply(state, entry.event)
        state.settle()
    return state


def _from_snapshots(workspace: WorkspacePaths) -> State:
    for _, path in reversed(workspace.snapshots()):
        try:
            state = from_snapshot(read_bytes(path))
        except FileNotFoundError:
            continue
        except UnknownSnapshot as error:
            raise WorkspaceNewer(f"the queue was saved by another version: {error}", file=path) from error
        except BadSnapshot as error:
            _log.warning("%s cannot be used, the one before is: %s", path, error)
            continue
        if (epoch_at(workspace.journal, state.seq) or 0) <= state.epoch:
            return state
        # It stood still with its disk, was superseded, and then saved what it took for the queue.
        _log.warning("%s is of a controller that was superseded: the one before is used", path)
    return State()


def _newest(workspace: WorkspacePaths) -> int:
    return max((seq for seq, _ in workspace.snapshots()), default=0)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which would walk through all records again and again while they are read."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Snapshots:
    """Saves the state now and then, so that starting and reading stay quick, and removes what two snapshots cover."""

    def __init__(self, workspace: WorkspacePaths, seq: int, now: float, calls: Calls = SYSTEM) -> None:
        self._workspace = workspace
        self._calls = calls
        self._seq = seq
        self._at = now

    def save_if_due(self, state: State, journal: Journal, now: float) -> None:
        """Save the committed state if it is time to; now: monotonic, seconds.

        A full disk is logged: the journal alone is enough.
        """
        events = state.seq - self._seq
        enough = max(SNAPSHOT_EVENTS, len(state.jobs) // JOBS_PER_EVENT)
        old = now - self._at >= SNAPSHOT_AGE_S
        if events >= enough or (old and events * JOBS_PER_EVENT >= max(1, len(state.jobs))):
            self.save(state, journal, now)

    def save(self, state: State, journal: Journal, now: float) -> None:
        """Save the committed state, close the journal's segment, and remove what is covered twice."""
        self._seq, self._at = state.seq, now
        try:
            write_bytes(self._workspace.snapshot(state.seq), to_snapshot(state), calls=self._calls)
            journal.rotate()
            self._prune(journal)
        except OSError as error:
            _log.warning("the snapshot after event %d could not be saved: %s", state.seq, error)

    def _prune(self, journal: Journal) -> None:
        found = self._workspace.snapshots()
        if len(found) < KEPT_SNAPSHOTS:
            return
        for _, path in found[:-KEPT_SNAPSHOTS]:
            self._calls.unlink(path)
        journal.prune(found[-KEPT_SNAPSHOTS][0])
