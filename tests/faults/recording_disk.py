"""A file system on which everything is recorded, so that the power can be cut at any moment of what was done there.

`python -m tests.faults.recording_disk FOLDER LOG`: mounts it (FUSE), in memory. What is done is written to LOG, one
msgpack value after another; a file `.said-<text>` at its top says what the world was told by then, and is not kept.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.forgetful_disk import Disk, Node, attributes
from tests.faults.mounting import mounted

_SAID = "/.said-"


class Recording:
    """The mounted file system, for whoever uses it."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self._log = log

    def say(self, text: str) -> None:
        """The world is told this: what it relies on must survive any cut from now on."""
        (self.folder / f"{_SAID[1:]}{text}").touch()

    def log(self) -> list[list[Any]]:
        """All that was done."""
        data = self._log.read_bytes()
        found, at = [], 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            found.append(msgspec.msgpack.decode(data[at + 4 : at + 4 + size], type=list[Any]))
            at += 4 + size
        return found


@contextlib.contextmanager
def recording_disk(folder: Path) -> Iterator[Recording]:
    """Mount it at `folder`, which is made. Without FUSE the test is skipped, and fails in the gate."""
    folder.mkdir()
    log = folder.with_name(f"{folder.name}.log")
    with mounted("power cuts", folder, "tests.faults.recording_disk", str(folder), str(log)):
        yield Recording(folder, log)


def _mount(folder: str, log: Path) -> None:
    import mfusepy

    class Served(mfusepy.Operations):  # type: ignore[misc]
        """FUSE's calls, each done and recorded."""

        use_ns = True

        def __init__(self) -> None:
            self.disk = Disk()
            self.open_files: dict[int, Node] = {}
            self.next = 1
            self.file = log.open("wb", buffering=0)

        def _did(self, *what: Any) -> None:
            data = msgspec.msgpack.encode(what)
            self.file.write(len(data).to_bytes(4, "big") + data)

        def _opened(self, node: Node) -> int:
            self.next += 1
            self.open_files[self.next] = node
            return self.next

        def _node(self, path: str | None, fh: int | None = None) -> Node:
            try:
                return self.open_files[fh] if fh in self.open_files else self.disk.find(path or "/")
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno) from error

        def _do(self, what: str, *given: Any, **named: Any) -> Any:
            try:
                found = getattr(self.disk, what)(*given, **named)
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno) from error
            self._did(what, *given, *named.values())
            return found

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            return attributes(self._node(path, fh)) | {"st_uid": os.getuid(), "st_gid": os.getgid()}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *self._node(path).names]

        def mkdir(self, path: str, mode: int) -> None:
            self._do("make", path, stat.S_IFDIR | mode)

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            if path.startswith(_SAID):
                self._did("said", path.removeprefix(_SAID))
                return self._opened(Node(0, stat.S_IFREG | 0o600))
            return self._opened(self._do("make", path, stat.S_IFREG | stat.S_IMODE(mode)))

        def open(self, path: str, flags: int) -> int:
            node = self._node(path)
            if flags & os.O_TRUNC:
                self.truncate(path, 0)
            return self._opened(node)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return bytes(self._node(path, fh).data[offset : offset + size])

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            node = self._node(path, fh)
            self.disk.write(node, offset, data)
            self._did("write", node.number, offset, data)
            return len(data)

        def truncate(self, path: str, length: int, fh: int | None = None) -> None:
            node = self._node(path, fh)
            self.disk.truncate(node, length)
            self._did("truncate", node.number, length)

        def release(self, path: str, fh: int) -> int:
            self.open_files.pop(fh, None)
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            node = self._node(path, fh)
            self._did("fsync", node.number)
            self.disk.fsync(node)
            return 0

        def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
            node = self._node(path)
            self._did("fsync", node.number)
            self.disk.fsync(node)
            return 0

        def unlink(self, path: str) -> None:
            self._do("remove", path, folder=False)

        def rmdir(self, path: str) -> None:
            self._do("remove", path, folder=True)

        def rename(self, old: str, new: str, flags: int = 0) -> None:
            self._do("rename", old, new)

        def link(self, target: str, source: str) -> None:
            self._do("link", source, target)

        def symlink(self, target: str, source: str) -> None:
            self._do("make", target, stat.S_IFLNK | 0o777, source)

        def readlink(self, path: str) -> str:
            return self._node(path).link or ""

        def chmod(self, path: str, mode: int, fh: int | None = None) -> None:
            node = self._node(path, fh)
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
            self._did("mode", node.number, node.mode)

        def chown(self, path: str, uid: int, gid: int, fh: int | None = None) -> None:
            return

        def utimens(self, path: str, times: Any = None, fh: int | None = None) -> None:
            return

        def statfs(self, path: str) -> dict[str, int]:
            blocks = {"f_blocks": 1 << 20, "f_bavail": 1 << 19, "f_bfree": 1 << 19}
            return {
                "f_bsize": 4096,
                "f_frsize": 4096,
                "f_namemax": 255,
                **blocks,
                "f_files": 1 << 20,
                "f_ffree": 1 << 19,
            }

    mfusepy.FUSE(Served(), folder, foreground=True, nothreads=True, raw_fi=False)


if __name__ == "__main__":
    _mount(sys.argv[1], Path(sys.argv[2]))
