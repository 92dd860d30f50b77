"""Publishing a folder whole: built beside its place under a unique name, synced, then renamed.

The rename decides, on any file system: two nodes may both build, the second finds the first one's folder and drops
its own. Processes of one node wait for each other by a file lock in the local temporary folder, to save work.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from terry.data_prep.errors import DataError, PreparationStoppedError

_PREFIX: Final = ".building-"
_POLL: Final = 0.05


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty if there is none of that number."""
    stat = _read(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""


def _machine() -> str:
    return _short(socket.gethostname() + _read("/etc/machine-id"))


def _boot() -> str:
    return _short(_read("/proc/sys/kernel/random/boot_id"))


def _namespace() -> str:
    """Process numbers mean the same only within one namespace (a container has its own)."""
    return _short(str(Path("/proc/self/ns/pid").readlink()))


def _owner() -> str:
    return f"{_machine()}-{_boot()}-{_namespace()}-{os.getpid()}-{_start_time(os.getpid())}"


def _dead(folder: Path) -> bool:
    """Whether the process that a building folder's name tells of is gone for certain."""
    parts = folder.name.split("~")
    owner = parts[1].split("-") if len(parts) == 3 else []
    if len(owner) != 5 or owner[0] != _machine() or not owner[3].isdigit():
        return False
    if owner[1] != _boot():
        return True
    return owner[2] == _namespace() and _start_time(int(owner[3])) != owner[4]


def remove_stale(root: Path) -> list[str]:
    """Remove what killed processes of this node left half-built; returns the names."""
    removed = []
    for folder in root.glob(f"{_PREFIX}*"):
        if _dead(folder):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder.name)
    return removed


@contextmanager
def building(root: Path, name: str) -> Iterator[Path]:
    """A new folder to build `name` in; removed at the end unless it was published."""
    folder = root / f"{_PREFIX}{name}~{_owner()}~{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder
    except OSError as error:
        if error.filename is None:  # a failed write does not say where
            error.filename = str(root)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path) -> bool:
    """Sync the folder's files and rename it to `target`; False if another one stands there already."""
    rights = target.parent.stat().st_mode
    with ThreadPoolExecutor(max_workers=8) as pool:  # a file system makes one commit of what it is asked together
        list(pool.map(partial(_finish, rights=rights), folder.iterdir()))
    _finish(folder, rights)
    try:
        folder.rename(target)
    except OSError:
        if target.is_dir():
            return False
        raise
    _sync(target.parent)
    return True


def _finish(path: Path, rights: int) -> None:
    """Bring it to the disk, as open as the folder above is (`rights`), whatever the umask: a group reads it, too."""
    handle = os.open(path, os.O_RDONLY)
    try:
        kind = os.fstat(handle).st_mode
        wanted = stat.S_IMODE(rights) if stat.S_ISDIR(kind) else rights & 0o666
        if stat.S_IMODE(kind) != wanted:
            os.fchmod(handle, wanted)
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def turn(target: Path, should_stop: Callable[[], bool] | None) -> Iterator[None]:
    """Wait until no other process of this user and node builds `target`."""
    folder = Path(tempfile.gettempdir()) / f"terry-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise DataError(f"{folder} belongs to somebody else: set TMPDIR to a folder of your own")
    handle = os.open(folder / f"{_short(str(target.resolve()))}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(handle):
            if should_stop is not None and should_stop():
                raise PreparationStoppedError(f"stopped while another process prepares {target.name}")
            time.sleep(_POLL)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
