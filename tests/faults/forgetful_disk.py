"""What a power cut leaves of a file system: a model of one that knows what was brought to the disk.

`Disk` does what a file system does, and remembers what was fsynced. `after_cut` says what may stand there after the
power failed, by how much the file system forgets:

    strict      all that was not fsynced is gone: contents of files, and names in folders
    random      per folder any number of its first changes since its last fsync; per file what was fsynced, what was
                written, a part of it, or its new pages as zeros
    reordered   per folder any of its changes, in any order; per file any of the pages written since
"""

from __future__ import annotations

import copy
import errno
import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

PAGE = 4096


class Forgets(StrEnum):
    """How much is gone."""

    STRICT = "strict"
    RANDOM = "random"
    REORDERED = "reordered"


@dataclass(slots=True, eq=False)
class Node:
    """A file, a folder or a link."""

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    link: str | None = None
    names: dict[str, Node] = field(default_factory=dict)
    synced_names: dict[str, Node] = field(default_factory=dict)
    changes: list[dict[str, Node | None]] = field(default_factory=list)  # each atomic, since the last fsync
    time: int = 0

    @property
    def is_folder(self) -> bool:
        """True for a folder."""
        return stat.S_ISDIR(self.mode)


class Disk:
    """A file system in memory. Its calls raise OSError as the kernel's do."""

    def __init__(self) -> None:
        self.root = Node(1, stat.S_IFDIR | 0o755)
        self._numbers = 1
        self._time = 0

    def find(self, path: str) -> Node:
        """The node of a path. Raises OSError."""
        node = self.root
        for part in filter(None, path.split("/")):
            if not node.is_folder:
                raise OSError(errno.ENOTDIR, path)
            if part not in node.names:
                raise OSError(errno.ENOENT, path)
            node = node.names[part]
        return node

    def make(self, path: str, mode: int, link: str | None = None) -> Node:
        """A new file, folder or link."""
        folder, name = self._parent(path)
        if name in folder.names:
            raise OSError(errno.EEXIST, path)
        self._numbers += 1
        node = Node(self._numbers, mode, link=link)
        self._touch(node)
        self._change(folder, {name: node})
        return node

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Write into a file."""
        if len(node.data) < offset:
            node.data.extend(bytes(offset - len(node.data)))
        node.data[offset : offset + len(data)] = data
        self._touch(node)

    def truncate(self, node: Node, length: int) -> None:
        """Cut it, or make it longer by zeros."""
        del node.data[length:]
        node.data.extend(bytes(length - len(node.data)))
        self._touch(node)

    def remove(self, path: str, *, folder: bool) -> None:
        """unlink, or rmdir."""
        parent, name = self._parent(path)
        node = self.find(path)
        if node.is_folder != folder:
            raise OSError(errno.ENOTDIR if folder else errno.EISDIR, path)
        if node.names:
            raise OSError(errno.ENOTEMPTY, path)
        self._change(parent, {name: None})

    def rename(self, old: str, new: str) -> None:
        """Within one folder it is one change; else two, of which one may be lost."""
        (source, name), (target, other) = self._parent(old), self._parent(new)
        node, there = self.find(old), target.names.get(other)
        if there is node:
            return
        if there is not None and there.names:
            raise OSError(errno.ENOTEMPTY, new)
        if there is not None and there.is_folder != node.is_folder:
            raise OSError(errno.EISDIR if there.is_folder else errno.ENOTDIR, new)
        if source is target:
            self._change(source, {name: None, other: node})
        else:
            self._change(target, {other: node})
            self._change(source, {name: None})

    def link(self, old: str, new: str) -> None:
        """A second name."""
        folder, name = self._parent(new)
        if name in folder.names:
            raise OSError(errno.EEXIST, new)
        self._change(folder, {name: self.find(old)})

    def fsync(self, node: Node) -> None:
        """Bring it to the disk: of a folder its names, and nothing of what they name."""
        node.synced, node.synced_names, node.changes = bytes(node.data), dict(node.names), []

    def picture(self) -> Disk:
        """The disk as it is now, for a cut of the power here."""
        return copy.deepcopy(self)

    def _parent(self, path: str) -> tuple[Node, str]:
        folder, _, name = path.rpartition("/")
        node = self.find(folder)
        if not node.is_folder:
            raise OSError(errno.ENOTDIR, path)
        return node, name

    def _change(self, folder: Node, change: dict[str, Node | None]) -> None:
        _apply(folder.names, change)
        folder.changes.append(change)
        self._touch(folder)

    def _touch(self, node: Node) -> None:
        self._time += 1
        node.time = self._time


def _apply(names: dict[str, Node], change: dict[str, Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def after_cut(disk: Disk, target: Path, forgets: Forgets, seed: int) -> None:
    """Write what may be there after a cut of the power into the empty folder `target`."""
    _build(disk.root, target, forgets, random.Random(seed))


def _build(node: Node, path: Path, forgets: Forgets, chance: random.Random) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(stat.S_IMODE(node.mode) | 0o700)
    for name, child in _names(node, forgets, chance).items():
        place = path / name
        if child.is_folder:
            _build(child, place, forgets, chance)
        elif child.link is not None:
            place.symlink_to(child.link)
        else:
            place.write_bytes(_content(child, forgets, chance))
            place.chmod(stat.S_IMODE(child.mode) | 0o400)


def _names(node: Node, forgets: Forgets, chance: random.Random) -> dict[str, Node]:
    names, changes = dict(node.synced_names), list(node.changes)
    if forgets is Forgets.STRICT:
        changes = []
    elif forgets is Forgets.RANDOM:
        changes = changes[: chance.randrange(len(changes) + 1)]
    else:
        changes = [change for change in changes if chance.random() < 0.5]
    for change in changes:
        _apply(names, change)
    return names


def _content(node: Node, forgets: Forgets, chance: random.Random) -> bytes:
    old, new = node.synced, bytes(node.data)
    if forgets is Forgets.STRICT or old == new:
        return old
    if forgets is Forgets.RANDOM:
        kind = chance.randrange(4)
        if kind < 2:
            return (old, new)[kind]
        if kind == 2:
            kept = len(old) if new.startswith(old) else 0  # what was fsynced and only grew stays
            return new[: chance.randrange(kept, len(new) + 1)]
    size = chance.choice([len(old), len(new), len(new)])
    found = bytearray(old[:size].ljust(size, b"\0"))
    for start in range(0, size, PAGE):
        if chance.random() < 0.5:
            part = new[start : min(start + PAGE, size)]
            found[start : start + len(part)] = part
    return bytes(found)


# what was done, to be done again


def replay(log: list[list[Any]]) -> Iterator[tuple[Disk, list[str]]]:
    """The disk just before each fsync, and at the end, with what had been acknowledged by then. To be used at once."""
    disk, said = Disk(), list[str]()
    nodes: dict[int, Node] = {1: disk.root}
    for what, *given in log:
        if what == "fsync":
            yield disk, said
            disk.fsync(nodes[given[0]])
        elif what == "said":
            said.append(given[0])
        elif what == "make":
            node = disk.make(*given)
            nodes[node.number] = node
        elif what == "write":
            disk.write(nodes[given[0]], given[1], given[2])
        elif what == "truncate":
            disk.truncate(nodes[given[0]], given[1])
        elif what == "remove":
            disk.remove(given[0], folder=given[1])
        elif what == "mode":
            nodes[given[0]].mode = given[1]
        else:
            getattr(disk, what)(*given)
    yield disk, said


def attributes(node: Node) -> dict[str, int]:
    """As stat(2) has them."""
    size = len(node.data if node.link is None else os.fsencode(node.link))
    links = 2 if node.is_folder else 1
    found = {"st_ino": node.number, "st_mode": node.mode, "st_size": size, "st_nlink": links}
    return found | {"st_blocks": (size + 511) // 512, "st_mtime": node.time, "st_ctime": node.time}
