"""Files that are whole or absent, whatever dies when: unique temporary name, fsync, rename, fsync of the folder.

Every system call that changes the disk goes through `Calls`, so that a test can let any of them fail, or kill the
process between any two of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

#: A file that is replaced more often than this while it is read is given up. A reader that gets little of a busy core
#: meets several replacements in a row.
_READS = 64
_TEMPORARY = re.compile(r"\..+\.[0-9]+-[0-9a-f]{8}\.tmp")


class Calls:
    """The system calls by which anything durable is changed. Tests replace them."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """Open and return a descriptor, not inherited by children."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of `data`; return how many bytes."""
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """Bring a file or folder to the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close; on network file systems the first to hear of a full disk."""
        os.close(descriptor)

    def chmod(self, descriptor: int, mode: int) -> None:
        """Set the permissions, whatever the umask."""
        os.fchmod(descriptor, mode)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut the file."""
        os.ftruncate(descriptor, length)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, replacing a file or an empty folder."""
        os.rename(source, target)  # noqa: PTH104  (the seam names the system call)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)  # noqa: PTH108

    def mkdir(self, path: Path, mode: int) -> None:
        """Make one folder."""
        os.mkdir(path, mode)  # noqa: PTH102


#: The operating system itself.
SYSTEM = Calls()


def write_all(descriptor: int, data: bytes, calls: Calls = SYSTEM) -> None:
    """Write the whole of `data`, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[calls.write(descriptor, view) :]


@contextlib.contextmanager
def opened(path: Path, flags: int, mode: int = 0o600, calls: Calls = SYSTEM) -> Iterator[int]:
    """A descriptor that is closed at the end; an error of the close counts unless there was one before.

    A failed write or fsync has no file name of its own: it gets that of `path`.
    """
    descriptor = calls.open(path, flags, mode)
    try:
        yield descriptor
    except BaseException as error:
        with contextlib.suppress(OSError):
            calls.close(descriptor)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise
    calls.close(descriptor)


def read_bytes(path: Path) -> bytes:
    """All of a file that others replace at any time. On NFS one that was replaced while it is read is ESTALE: again."""
    for _ in range(_READS):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return path.read_bytes()


def rename(source: Path, target: Path, calls: Calls = SYSTEM, *, content: bytes | None = None) -> None:
    """Rename. A file server whose answer was lost is asked again, and then says ENOENT: what is done is done.

    content: of the source, where the target may have been there before.
    """
    before = source.lstat()
    try:
        calls.rename(source, target)
    except FileNotFoundError:
        if not (_is_there(target, before) if content is None else _says(target, content)):
            raise


def _is_there(path: Path, wanted: os.stat_result) -> bool:
    try:
        with opened(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:  # asks the server, as stat may not
            return os.path.samestat(os.fstat(descriptor), wanted)
    except OSError:
        return False


def _says(path: Path, content: bytes) -> bool:
    try:
        return read_bytes(path) == content
    except OSError:
        return False


def fsync_folder(folder: Path, calls: Calls = SYSTEM) -> None:
    """Make the names in `folder` durable."""
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY, calls=calls) as descriptor:
        calls.fsync(descriptor)


def inherited_mode(folder: Path) -> int:
    """Permissions of a new file in `folder`: what the folder grants, so that a group's workspace stays the group's."""
    return stat.S_IMODE(folder.stat().st_mode) & 0o666


def granted_mode(kind: int, folder_mode: int) -> int:
    """Permissions of what stands in a folder of these: a folder has the same, a file that runs stays one that runs.

    kind: `st_mode` as it is now.
    """
    if stat.S_ISDIR(kind):
        return stat.S_IMODE(folder_mode)
    return folder_mode & (0o777 if kind & stat.S_IXUSR else 0o666)


def share(descriptor: int, folder: Path | int, calls: Calls = SYSTEM) -> None:
    """Give what was just made in `folder` (or in one of this mode) the rights that the folder grants.

    The umask of whoever makes a file must not decide who can read it in a group's workspace. Where the rights are
    right already nothing is asked: some file systems refuse every change of them. What is neither a file nor a folder
    (a job's output may go to /dev/null) is not ours to open or close to others.
    """
    mode = folder if isinstance(folder, int) else folder.stat().st_mode
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        return
    wanted = granted_mode(kind, mode)
    # Who is not in the folder's group cannot keep its setgid bit: the kernel drops it, and that is no error.
    if stat.S_IMODE(kind) != wanted:
        calls.chmod(descriptor, wanted)


def open_shared(path: Path, flags: int, calls: Calls = SYSTEM) -> int:
    """Open a file that may be new; it has the rights that its folder grants, where it is ours. Raises OSError."""
    descriptor = calls.open(path, flags, inherited_mode(path.parent))
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            share(descriptor, path.parent, calls)
    except BaseException:
        calls.close(descriptor)
        raise
    return descriptor


def lift_umask(folder: Path) -> None:
    """Let what this process makes by whatever library be the group's where `folder` is a group's; else do nothing."""
    mode = folder.stat().st_mode
    if mode & stat.S_ISGID:
        before = os.umask(0o077)
        os.umask(before & ~(mode & 0o070))


def write_bytes(path: Path, data: bytes, mode: int | None = None, calls: Calls = SYSTEM, *, sync: bool = True) -> None:
    """Replace `path` by `data`: readers see the old or the new file, never a part; durable once this returns.

    `mode` defaults to what the folder grants (`inherited_mode`). Raises OSError; the old file then still stands, unless
    only the last step (fsync of the folder) failed. Nothing half-written is left by a call that fails; what a killed
    process leaves is a `.name.*.tmp` that `remove_temporaries` knows. `sync=False` is for what a power cut may take.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    permissions = inherited_mode(path.parent) if mode is None else mode
    try:
        with opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions, calls) as descriptor:
            calls.chmod(descriptor, permissions)
            write_all(descriptor, data, calls)
            if sync:
                calls.fsync(descriptor)
        rename(temporary, path, calls, content=data)
    except BaseException as error:
        with contextlib.suppress(OSError):
            calls.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = os.fspath(path), None  # nobody knows the temporary one
        raise
    if sync:
        fsync_folder(path.parent, calls)


def write_json(path: Path, value: Any, mode: int | None = None, calls: Calls = SYSTEM, *, sync: bool = True) -> None:
    """`write_bytes` of a value that msgspec can encode (builtins, Structs, dataclasses, datetimes), and a newline."""
    write_bytes(path, msgspec.json.encode(value) + b"\n", mode, calls, sync=sync)


def make_folder(folder: Path, calls: Calls = SYSTEM) -> None:
    """Make `folder` and its missing parents, durable, with the permissions (and setgid) of the nearest that exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent, calls)
    mode = stat.S_IMODE(folder.parent.stat().st_mode)
    with contextlib.suppress(FileExistsError):
        calls.mkdir(folder, mode)
        with opened(folder, os.O_RDONLY | os.O_DIRECTORY, calls=calls) as descriptor:
            calls.chmod(descriptor, mode)
        fsync_folder(folder.parent, calls)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")


def make_way(log: Path) -> None:
    """Put a log aside that another user of a group's workspace has written: we could not write on in it."""
    if log.exists() and not os.access(log, os.W_OK):
        log.replace(log.with_name(f"{log.name}.old"))


def opened_log(path: Path) -> BinaryIO:
    """A log to go on with, at its end."""
    return os.fdopen(open_shared(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")


def publish_folder(temporary: Path, final: Path, calls: Calls = SYSTEM) -> None:
    """Give a finished folder its name: all files and folders in it reach the disk, then one rename.

    They get the rights that the folder above `final` grants, whatever the umask was under which they were made.
    Both stand on one file system. Raises FileExistsError if `final` exists and is not an empty folder: whoever came
    first has won; `temporary` is then left for the caller to remove.
    """
    _finish_tree(temporary, final.parent.stat().st_mode, calls)
    try:
        rename(temporary, final, calls)
    except OSError as error:
        if final.exists():
            raise FileExistsError(f"{final} exists already") from error
        raise
    fsync_folder(final.parent, calls)


def _finish_tree(folder: Path, mode: int, calls: Calls) -> None:
    """Bring all below to the disk, with the rights of a folder of `mode`. Links are left as they are."""
    for name in sorted(p.name for p in folder.iterdir()):
        path = folder / name
        if path.is_symlink():
            continue
        if path.is_dir():
            _finish_tree(path, mode, calls)
        elif path.is_file():
            _finish(path, os.O_RDONLY, mode, calls)
    _finish(folder, os.O_RDONLY | os.O_DIRECTORY, mode, calls)


def _finish(path: Path, flags: int, mode: int, calls: Calls) -> None:
    with opened(path, flags, calls=calls) as descriptor:
        share(descriptor, mode, calls)
        calls.fsync(descriptor)


def remove_temporaries(folder: Path, calls: Calls = SYSTEM) -> None:
    """Remove what a killed writer of this folder left. For the folder's only writer, before it writes."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):
                calls.unlink(path)
