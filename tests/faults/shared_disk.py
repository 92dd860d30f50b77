"""A file server and its clients, in FUSE: each mount is a host with caches of its own, as of NFS, SMB or Lustre.

`python -m tests.faults.shared_disk SERVER FOLDER KIND SECONDS`: mounts SERVER, a folder of a local disk, at FOLDER.
What it does as such file systems do, and a local disk never does:

    nfs     attributes, names and the absence of names are cached for SECONDS; opening a file or a folder asks the
            server, and what is written is there once the file is closed or fsynced (close-to-open); a file that another
            host removed or replaced gives ESTALE to whoever has it open; one that this host has open becomes `.nfs…`;
            appending from two hosts overwrites; locks count on one host only
    nfs-replies     and the answer to every 40th change of names is lost: what was done is asked for again, and fails
            (not so exclusive creation, which a server knows again: RFC 1813, 3.3.8)
    nfs-squashed    and root is nobody: what it makes is nobody's, what is only its owner's is closed to it
    lustre  all hosts see the same at once, and there are no locks at all (ENOSYS, as without `-o flock`)
    smb     caches as nfs; a file that is replaced is away for a moment; permissions cannot be set; there are no links

Sources: nfs(5), RFC 1813 and Linux's fs/nfs/dir.c (NFS); mount.cifs(8) and fs/smb/client/inode.c, where a rename that
the server refuses becomes a removal and a rename (SMB); mount.lustre(8).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tests.faults.mounting import mounted

NOBODY = 65534
_KEPT_BACK = 1 << 20  # bytes that a client writes before the server sees any


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a file system differs from a local one."""

    caches: bool = True
    stale: bool = True  #: an open file that is gone at the server cannot be read any more
    silly: bool = True  #: what is open here is not removed, but renamed to `.nfs…`
    replaces_at_once: bool = True
    loses_replies: bool = False
    squashes_root: bool = False
    plain: bool = False  #: neither permissions nor links
    locks: bool = True


KINDS = {
    "nfs": Kind(),
    "nfs-replies": Kind(loses_replies=True),
    "nfs-squashed": Kind(squashes_root=True),
    "lustre": Kind(caches=False, stale=False, silly=False, locks=False),
    "smb": Kind(stale=False, silly=False, replaces_at_once=False, plain=True),
}


@contextlib.contextmanager
def client(server: Path, folder: Path, kind: str, cached_s: float) -> Iterator[Path]:
    """Mount the server's folder for one more host. Without FUSE the test is skipped, and fails in the gate."""
    arguments = [str(server), str(folder), kind, str(cached_s)]
    with mounted("shared file systems", folder, "tests.faults.shared_disk", *arguments):
        yield folder


Entry: TypeAlias = tuple[str, dict[str, int], int]  #: name, inode and kind; the last is FUSE's


@dataclass(slots=True)
class Open:
    """An open file of a client."""

    descriptor: int
    inode: int


@dataclass(slots=True)
class Host:
    """What one client knows and has not told the server yet."""

    opened: dict[int, Open] = field(default_factory=dict)
    unsent: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)  #: by inode: what was written, where
    hidden: dict[int, str] = field(default_factory=dict)  #: inode -> `.nfs…`, removed at its last close
    handles: int = 0
    changes: int = 0

    def send(self, inode: int, descriptor: int) -> None:
        """Write what was kept back."""
        for offset, data in self.unsent.pop(inode, []):
            os.pwrite(descriptor, data, offset)

    def length(self, inode: int, size: int) -> int:
        """Of a file as this client sees it."""
        return max([size, *(offset + len(data) for offset, data in self.unsent.get(inode, []))])


def _fail(number: int) -> OSError:
    import mfusepy

    error: OSError = mfusepy.FuseOSError(number)
    return error


def _mount(server: str, folder: str, kind: Kind, cached_s: float) -> None:
    import mfusepy

    class Served(mfusepy.Operations):  # type: ignore[misc]
        """FUSE's calls, done at the server as this client would have them done."""

        use_ns = True

        def __init__(self) -> None:
            self.host = Host()

        # names

        def getattr(self, path: str, fi: Any = None) -> dict[str, int]:
            handle = self.host.opened.get(fi.fh) if fi is not None else None
            if handle is not None:
                self._require_there(handle)
            about = os.fstat(handle.descriptor) if handle is not None else os.lstat(server + path)
            found = {key: getattr(about, key) for key in ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid")}
            found |= {f"st_{k}time": getattr(about, f"st_{k}time_ns") for k in "amc"}
            found["st_size"] = self.host.length(about.st_ino, about.st_size)
            found["st_blocks"] = about.st_blocks
            if kind.plain and not stat.S_ISLNK(about.st_mode):
                found["st_mode"] = stat.S_IFMT(about.st_mode) | 0o755
            return found

        def readdir(self, path: str, fh: int) -> list[Entry]:
            self._may(path, os.R_OK)
            with os.scandir(server + path) as entries:  # opening a folder asks the server
                kinds = [(e.name, e.inode(), stat.S_IFDIR if e.is_dir() else stat.S_IFREG) for e in entries]
            found = [(name, {"st_ino": inode, "st_mode": mode}, 0) for name, inode, mode in kinds]
            return [
                (".", {"st_ino": 1, "st_mode": stat.S_IFDIR}, 0),
                ("..", {"st_ino": 1, "st_mode": stat.S_IFDIR}, 0),
                *found,
            ]

        def mkdir(self, path: str, mode: int) -> None:
            self._changes(path)
            os.mkdir(server + path, mode)  # noqa: PTH102
            self._give_away(path)
            self._answer(errno.EEXIST)

        def rmdir(self, path: str) -> None:
            self._changes(path)
            os.rmdir(server + path)  # noqa: PTH106

        def unlink(self, path: str) -> None:
            self._changes(path)
            if not self._hide(path):
                os.unlink(server + path)  # noqa: PTH108
                self._answer(errno.ENOENT)

        def rename(self, old: str, new: str, flags: int = 0) -> None:
            self._changes(old)
            self._changes(new)
            there = os.path.lexists(server + new) and not os.path.isdir(server + new)  # noqa: PTH112
            if there:
                self._hide(new)
            if there and not kind.replaces_at_once:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(server + new)  # noqa: PTH108
                time.sleep(0.05)
            os.rename(server + old, server + new)  # noqa: PTH104
            self._answer(errno.ENOENT)

        def link(self, target: str, source: str) -> None:
            if kind.plain:
                raise _fail(errno.EOPNOTSUPP)
            self._changes(target)
            os.link(server + source, server + target)
            self._answer(errno.EEXIST)

        def symlink(self, target: str, source: str) -> None:
            if kind.plain:
                raise _fail(errno.EOPNOTSUPP)
            self._changes(target)
            os.symlink(source, server + target)  # noqa: PTH211
            self._give_away(target)

        def readlink(self, path: str) -> str:
            return os.readlink(server + path)  # noqa: PTH115

        # contents

        def create(self, path: str, mode: int, fi: Any) -> int:
            self._changes(path)
            new = not os.path.lexists(server + path)
            descriptor = os.open(
                server + path, (fi.flags & ~os.O_ACCMODE & ~os.O_APPEND) | os.O_RDWR | os.O_CREAT, mode
            )
            self._opened(descriptor, fi, path)
            if new:
                self._give_away(path)
            return 0

        def open(self, path: str, fi: Any) -> int:
            writes = fi.flags & os.O_ACCMODE != os.O_RDONLY
            self._may(path, os.W_OK if writes else os.R_OK)
            flags = (fi.flags & os.O_TRUNC) | (os.O_RDWR if writes else os.O_RDONLY)
            self._opened(os.open(server + path, flags), fi, path)
            return 0

        def read(self, path: str, size: int, offset: int, fi: Any) -> bytes:
            handle = self._handle(fi)
            if handle.inode in self.host.unsent:
                self._send(handle)
            return os.pread(handle.descriptor, size, offset)

        def write(self, path: str, data: bytes, offset: int, fi: Any) -> int:
            handle = self._handle(fi)
            unsent = self.host.unsent.setdefault(handle.inode, [])
            unsent.append((offset, data))
            if not kind.caches or sum(len(part) for _, part in unsent) > _KEPT_BACK:
                self._send(handle)
            return len(data)

        def truncate(self, path: str, length: int, fi: Any = None) -> None:
            handle = self.host.opened.get(fi.fh) if fi is not None else None
            if handle is None:
                os.truncate(server + path, length)
            else:
                self._send(handle)
                os.ftruncate(handle.descriptor, length)

        def flush(self, path: str, fi: Any) -> int:
            if self.host.opened[fi.fh].inode in self.host.unsent:  # else there is nothing to ask the server for
                self._send(self._handle(fi))
            return 0

        def fsync(self, path: str, datasync: int, fi: Any) -> int:
            self._send(self._handle(fi))
            return 0

        def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
            return 0

        def release(self, path: str, fi: Any) -> int:
            handle = self.host.opened.pop(fi.fh)
            if handle.inode in self.host.unsent:
                with contextlib.suppress(OSError):
                    self._send(handle)
            os.close(handle.descriptor)
            others = any(other.inode == handle.inode for other in self.host.opened.values())
            if not others and (name := self.host.hidden.pop(handle.inode, None)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)  # noqa: PTH108
            return 0

        if not kind.locks:

            def flock(self, path: str, fi: Any, op: int) -> int:
                raise _fail(errno.ENOSYS)

        # who may

        def chmod(self, path: str, mode: int, fi: Any = None) -> None:
            if not kind.plain:
                os.chmod(server + path, stat.S_IMODE(mode))  # noqa: PTH101

        def chown(self, path: str, uid: int, gid: int, fi: Any = None) -> None:
            if kind.squashes_root or kind.plain:
                raise _fail(errno.EPERM)
            os.chown(server + path, uid, gid)

        def utimens(self, path: str, times: Any = None, fi: Any = None) -> None:
            os.utime(server + path, ns=times)

        def statfs(self, path: str) -> dict[str, int]:
            found = os.statvfs(server)
            return {key: getattr(found, key) for key in dir(found) if key.startswith("f_") and key != "f_fsid"}

        # how

        def _may(self, path: str, what: int) -> None:
            """Root is nobody: it gets what the others get, and its own."""
            if not kind.squashes_root:
                return
            about = Path(server + path).stat()
            bits = (about.st_mode >> (6 if about.st_uid == NOBODY else 0)) & 7
            if what & ~bits:
                raise _fail(errno.EACCES)

        def _changes(self, path: str) -> None:
            parent = path.rpartition("/")[0] or "/"
            self._may(parent, os.W_OK)

        def _give_away(self, path: str) -> None:
            if kind.squashes_root:
                os.lchown(server + path, NOBODY, NOBODY)

        def _answer(self, again: int) -> None:
            """Every so often the answer is lost: asked again, the server says what it says to who comes too late."""
            self.host.changes += 1
            if kind.loses_replies and self.host.changes % 40 == 0:
                raise _fail(again)

        def _opened(self, descriptor: int, fi: Any, path: str) -> None:
            self.host.handles += 1
            self.host.opened[self.host.handles] = Open(descriptor, os.fstat(descriptor).st_ino)
            fi.fh = self.host.handles
            fi.direct_io = 0 if "/datasets/" in path else 1  # each open asks the server; what is mapped never changes

        def _handle(self, fi: Any) -> Open:
            handle = self.host.opened[fi.fh]
            self._require_there(handle)
            return handle

        def _require_there(self, handle: Open) -> None:
            if kind.stale and os.fstat(handle.descriptor).st_nlink == 0:
                raise _fail(errno.ESTALE)

        def _send(self, handle: Open) -> None:
            """By any handle that may write; a file that is gone takes nothing."""
            for other in [handle, *self.host.opened.values()]:
                if other.inode == handle.inode:
                    with contextlib.suppress(OSError):
                        self.host.send(handle.inode, other.descriptor)
                        return

        def _hide(self, path: str) -> bool:
            """A file that is open here gets another name instead of being removed; True where it did."""
            try:
                inode = os.lstat(server + path).st_ino
            except FileNotFoundError:
                return False
            if not kind.silly or all(handle.inode != inode for handle in self.host.opened.values()):
                return False
            self.host.handles += 1
            hidden = f"{server}{path.rpartition('/')[0]}/.nfs{inode:016x}{self.host.handles:08x}"
            os.rename(server + path, hidden)  # noqa: PTH104
            self.host.hidden[inode] = hidden
            return True

    cached = cached_s if kind.caches else 0.0
    times = {f"{what}_timeout": cached for what in ("attr", "entry", "negative")}
    mfusepy.FUSE(
        Served(),
        folder,
        foreground=True,
        nothreads=True,
        raw_fi=True,
        use_ino=True,
        hard_remove=True,
        fsname=f"terry-{sys.argv[3]}",
        **({"allow_other": True} if os.geteuid() == 0 else {}),
        **times,
    )


if __name__ == "__main__":
    _mount(sys.argv[1], sys.argv[2], KINDS[sys.argv[3]], float(sys.argv[4]))
