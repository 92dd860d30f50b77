"""The file system of a chaos run's workspace: its own where we may mount, to be filled, frozen, hung and lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.absent_disk import AbsentDisk
from tests.faults.frozen_disk import FrozenDisk, mount_image

#: Bytes of the file system.
SIZE = 256 << 20

#: What can be done to it: filled (ENOSPC), frozen (writes wait), or hung (every look at it waits, then fails).
FILL, FREEZE, HANG = "fill", "freeze", "hang"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosDisk:
    """The folder, and what can be done to its file system."""

    folder: Path
    frozen: FrozenDisk | None = None
    can: frozenset[str] = frozenset()

    def __str__(self) -> str:
        left_out = ", ".join(sorted({FILL, FREEZE, HANG} - self.can))
        kind = f"{SIZE >> 20} MiB of {'ext4' if self.frozen else 'tmpfs'}" if self.can else "none of its own"
        return kind + (f"; not done to it, for it cannot be here: {left_out}" if left_out else "")


@contextlib.contextmanager
def chaos_disk(folder: Path) -> Iterator[ChaosDisk]:
    """Make the folder, on a file system of its own where that can be."""
    folder.mkdir(parents=True, mode=0o700)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="terry-chaos-") as place:
        frozen = mount_image(Path(place) / "image", folder, SIZE)
        if frozen is None and not _mount_tmpfs(folder):
            yield ChaosDisk(folder=folder)
            return
        try:
            yield ChaosDisk(folder=folder, frozen=frozen, can=_can(folder, frozen))
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount_tmpfs(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "terry-chaos", str(folder)]
    return os.getuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0


def _can(folder: Path, frozen: FrozenDisk | None) -> frozenset[str]:
    disk = AbsentDisk(folder)
    hangs = disk.hang()
    disk.lift()
    return frozenset({FILL}) | ({FREEZE} if frozen else set()) | ({HANG} if hangs else set())
