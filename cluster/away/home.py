"""Runs of nodes that do not see the workspace: what they need from it, and what they bring to it.

`Home` is the one writer there, beside the controller: files whole or absent, those that grow by offset, and nothing of
an attempt that is over. It knows nothing of Ray (terry.cluster.actors.home carries the calls). All paths that come from
afar are relative to the workspace, or to a run's folder, and are held to it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Protocol

import msgspec

from terry.cluster.files import durable, run_folder
from terry.cluster.files.paths import Run, WorkspacePaths
from terry.cluster.ports import LaunchOrder

#: Bytes of one call: large enough for a fast network, small enough for Ray's object store.
CHUNK = 4 << 20

_STAGED = ".away-"


def mark_of(workspace: WorkspacePaths) -> str:
    """What only those can read who see this workspace; made where it is missing. Raises OSError."""
    path = workspace.mark
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="ascii")
    durable.make_folder(workspace.cluster)
    durable.write_bytes(path, secrets.token_hex(16).encode())
    return path.read_text(encoding="ascii")


def is_seen(workspace: WorkspacePaths, mark: str) -> bool:
    """True where a folder of this path is the workspace that has the mark, and not another, or none."""
    try:
        return workspace.mark.read_text(encoding="ascii") == mark
    except (OSError, UnicodeError):
        return False


def until_seen(workspace: WorkspacePaths, mark: str, idle: Callable[[], bool], pause: Callable[[], object]) -> None:
    """Return once the workspace is seen here and nothing is at work: its disk may only have been away for a while."""
    while not (is_seen(workspace, mark) and idle()):
        pause()


class HomeAway(RuntimeError):
    """The workspace's side does not answer now: to be tried again."""


class AttemptSuperseded(RuntimeError):
    """A later attempt has begun: nothing of this one is taken any more."""


class NeededFiles(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder of the workspace that an attempt reads."""

    path: str  #: relative to the workspace
    files: dict[str, int]  #: those in it, by their names relative to the workspace, with their sizes
    lasting: bool  #: it never changes, so that one copy will do for all jobs of a node


class WorkspaceHome(Protocol):
    """What a node may ask of the workspace. Raises HomeAway where nobody answers, OSError for a disk's errors."""

    def needs(self, order: LaunchOrder) -> list[NeededFiles]:
        """All that the attempt reads."""
        ...

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A part of a file. Raises FileNotFoundError."""
        ...

    def begin(self, job_id: str, attempt: int, launch: bytes) -> str:
        """An attempt is to start, with this launch.json. Returns why it must not, or an empty string."""
        ...

    def append(self, job_id: str, attempt: int, name: str, offset: int, data: bytes) -> int:
        """More of a file that grows: `data` is what stands at `offset`. Returns its size now. Raises Superseded."""
        ...

    def stage(self, job_id: str, attempt: int, token: str, name: str, offset: int, data: bytes) -> None:
        """A part of what `publish` will show. Raises Superseded."""
        ...

    def publish(self, job_id: str, attempt: int, token: str, name: str) -> None:
        """Show what was staged as the file or folder `name` of the run, whole. Raises Superseded."""
        ...

    def discard(self, job_id: str, attempt: int, name: str) -> None:
        """Remove a checkpoint that the run has retired. Raises Superseded."""
        ...


class Home:
    """The workspace's own side, on its files."""

    def __init__(self, workspace: WorkspacePaths, needed: Callable[[str, LaunchOrder], list[str]]) -> None:
        """needed(root, order): files and folders that never change and that the attempt reads, relative to root."""
        self._workspace = workspace
        self._needed = needed
        self._lock = threading.Lock()  # calls come from several nodes at once

    def needs(self, order: LaunchOrder) -> list[NeededFiles]:
        """See WorkspaceHome."""
        run = self._workspace.run(order.job_id)
        with self._lock:
            run_folder.claim(run, order.identity, former=order.former)
        own = [run.spec, run.source, run.checkpoints, *(folder.metrics for _, folder in run.attempts())]
        lasting = [self._need(path, lasting=True) for path in self._needed(str(self._workspace.root), order)]
        return lasting + [
            self._need(str(path.relative_to(self._workspace.root)), lasting=False) for path in own if path.exists()
        ]

    def _need(self, path: str, *, lasting: bool) -> NeededFiles:
        place = self._inside(self._workspace.root, path)
        if place.is_file():
            return NeededFiles(path=path, files={path: place.stat().st_size}, lasting=lasting)
        if not place.is_dir():
            raise FileNotFoundError(f"{path} is not in the workspace")
        files = [p for p in sorted(place.rglob("*")) if p.is_file() and not _hidden(p.relative_to(place))]
        sizes = {str(p.relative_to(self._workspace.root)): p.stat().st_size for p in files}
        return NeededFiles(path=path, files=sizes, lasting=lasting)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """See WorkspaceHome."""
        with self._inside(self._workspace.root, path).open("rb") as file:
            return os.pread(file.fileno(), min(length, CHUNK), offset)

    def begin(self, job_id: str, attempt: int, launch: bytes) -> str:
        """See WorkspaceHome."""
        run = self._workspace.run(job_id)
        with self._lock:
            newest = max((number for number, _ in run.attempts()), default=0)
            if newest > attempt:
                raise AttemptSuperseded(f"attempt {newest} of {job_id} has begun")
            folder = run.attempt(attempt)
            if folder.launch.exists() and folder.launch.read_bytes() != launch:
                return f"attempt {attempt} was started before"
            durable.make_folder(folder.root)
            _remove_staged(run)  # by attempts that are over
            durable.write_bytes(folder.launch, launch)
        return ""

    def append(self, job_id: str, attempt: int, name: str, offset: int, data: bytes) -> int:
        """See WorkspaceHome."""
        with self._lock:
            path = self._inside(self._current(job_id, attempt).root, name)
            durable.make_folder(path.parent)
            with durable.opened(path, os.O_WRONLY | os.O_CREAT) as descriptor:
                durable.share(descriptor, path.parent)
                size = os.fstat(descriptor).st_size
                if offset <= size < offset + len(data):
                    os.lseek(descriptor, size, os.SEEK_SET)
                    durable.write_all(descriptor, data[size - offset :])
                return os.fstat(descriptor).st_size

    def stage(self, job_id: str, attempt: int, token: str, name: str, offset: int, data: bytes) -> None:
        """See WorkspaceHome."""
        with self._lock:
            path = self._inside(self._staged(self._current(job_id, attempt), token), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with durable.opened(path, os.O_WRONLY | os.O_CREAT) as descriptor:
                durable.share(descriptor, path.parent)
                os.lseek(descriptor, offset, os.SEEK_SET)
                durable.write_all(descriptor, data)

    def publish(self, job_id: str, attempt: int, token: str, name: str) -> None:
        """See WorkspaceHome. What was measured up to a checkpoint is on the disk before the checkpoint is seen."""
        with self._lock:
            run = self._current(job_id, attempt)
            target, staged = self._inside(run.root, name), self._staged(run, token)
            durable.make_folder(target.parent)
            _sync(run.attempt(attempt).metrics)
            source = staged / name
            if source.is_dir():
                with contextlib.suppress(FileExistsError):  # told again: an answer was lost
                    durable.publish_folder(source, target)
            elif source.exists() or not target.exists():
                _sync(source)
                source.rename(target)
                durable.fsync_folder(target.parent)
            shutil.rmtree(staged, ignore_errors=True)
            if target == run.attempt(attempt).exit.resolve():
                _remove_staged(run)

    def discard(self, job_id: str, attempt: int, name: str) -> None:
        """See WorkspaceHome."""
        with self._lock:
            run = self._current(job_id, attempt)
            path = self._inside(run.checkpoints, name)
            if path.parent != run.checkpoints.resolve() or not path.is_dir():
                return
            hidden = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)

    def _current(self, job_id: str, attempt: int) -> Run:
        """The run's folder. Raises Superseded unless the attempt is its newest."""
        run = self._workspace.run(job_id)
        newest = max((number for number, _ in run.attempts()), default=0)
        if newest != attempt:
            raise AttemptSuperseded(
                f"attempt {newest} of {job_id} has begun: nothing of attempt {attempt} is taken any more"
            )
        return run

    @staticmethod
    def _staged(run: Run, token: str) -> Path:
        if not token.isalnum():
            raise ValueError(f"{token!r} is no token")
        return run.root / f"{_STAGED}{token}.tmp"

    @staticmethod
    def _inside(root: Path, name: str) -> Path:
        """The path `name` below root. Raises ValueError for one that leads out of it."""
        path = (root / PurePosixPath(name)).resolve()
        if not path.is_relative_to(root.resolve()) or path == root.resolve():
            raise ValueError(f"{name!r} is outside {root}")
        return path


def _remove_staged(run: Run) -> None:
    for left in run.root.glob(f"{_STAGED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _sync(path: Path) -> None:
    if path.exists():
        with durable.opened(path, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)
        durable.fsync_folder(path.parent)  # its name, too
