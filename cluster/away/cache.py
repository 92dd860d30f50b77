"""What a node that does not see the workspace keeps of it: data sets, and the folders of attempts that are here.

A data set was sent once for all jobs, so it stays, until nothing has used it for two weeks. What is in use is locked
(shared, on its folder) by the agent whose job uses it; the kernel lets go where an agent dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from terry.cluster.away.home import NeededFiles
from terry.cluster.files.paths import WorkspacePaths

_log = logging.getLogger(__name__)

#: A data set that nothing has used for so long is removed.
KEPT_S = 14 * 86_400.0


class InUse:
    """Folders that a job uses: nobody removes them meanwhile."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._held = [held for folder in folders if (held := _locked(folder, fcntl.LOCK_SH)) is not None]
        for descriptor in self._held:
            os.utime(descriptor)

    def release(self) -> None:
        """The job has ended: from now on they are unused."""
        for descriptor in self._held:
            os.utime(descriptor)
            os.close(descriptor)
        self._held = []


def is_whole(local: WorkspacePaths, need: NeededFiles) -> bool:
    """Whether a copy is here with all its files: whoever tidies /tmp removes single ones."""
    try:
        return all((local.root / name).stat().st_size == size for name, size in need.files.items())
    except OSError:
        return False


def data_sets(local: WorkspacePaths, needs: Iterable[NeededFiles]) -> list[Path]:
    """The data sets among what a job needs."""
    found = (local.root / need.path for need in needs if need.lasting)
    return [path for path in found if path.parent == local.datasets and path.is_dir()]


def tidy(local: WorkspacePaths, now: float | None = None) -> None:
    """Remove what nothing uses: data sets after `KEPT_S`, what killed agents left at once."""
    before = (time.time() if now is None else now) - KEPT_S
    with alone(local):
        for path in _listed(local.datasets):
            if path.name.startswith(".") or path.stat().st_mtime < before:
                _remove(path)
        for path in _listed(local.runs):
            if (path / "attempts").is_dir():  # else: the result of a job whose data set is used here
                _remove(path)


@contextlib.contextmanager
def alone(local: WorkspacePaths) -> Iterator[None]:
    """Wait until no other process of this node fetches or tidies. The kernel lets go where one dies."""
    descriptor = os.open(local.root / "fetch.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _listed(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _locked(folder: Path, how: int) -> int | None:
    """A descriptor that holds the lock; None where it cannot be had, or there is no such folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(folder: Path) -> None:
    """Out of sight first: half of a data set is none."""
    descriptor = _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if descriptor is None:
        return
    try:
        hidden = folder if folder.name.startswith(".") else hide(folder)
        shutil.rmtree(hidden, ignore_errors=True)
        _log.info("removed %s: nothing uses it", folder)
    finally:
        os.close(descriptor)


def hide(folder: Path) -> Path:
    """Give a folder a name that nobody looks for."""
    hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    folder.rename(hidden)
    return hidden
