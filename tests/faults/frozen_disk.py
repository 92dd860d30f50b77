"""A file system that stands still and goes on: ext4 in a file, frozen (FIFREEZE). Needs root, by itself.

While it is frozen whoever writes waits in the kernel, where not even SIGKILL reaches him; what can be read from memory
can be read. Thawed, all goes on as if nothing had been. Whoever uses this must not write to it in between.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class FrozenDisk:
    """A mounted file system, not frozen yet."""

    folder: Path

    def freeze(self) -> None:
        """From now on writes wait."""
        subprocess.run(["fsfreeze", "--freeze", str(self.folder)], check=True)

    def thaw(self) -> None:
        """Writes go on; nothing happens where it is not frozen."""
        subprocess.run(["fsfreeze", "--unfreeze", str(self.folder)], check=False, capture_output=True)


@contextlib.contextmanager
def frozen_disk(folder: Path) -> Iterator[FrozenDisk]:
    """Mount one on `folder/disk`; skips the test where we may not."""
    image, place = folder / "image", folder / "disk"
    place.mkdir()
    disk = mount_image(image, place, 32 << 20)
    if disk is None:
        pytest.skip("a file system of our own cannot be mounted here: that needs root")
    try:
        yield disk
    finally:
        disk.thaw()
        subprocess.run(["umount", "-l", str(place)], check=True)


def mount_image(image: Path, place: Path, size: int) -> FrozenDisk | None:
    """Make an ext4 of `size` bytes in the file `image` and mount it on `place`, 0700; None where we may not."""
    with image.open("wb") as file:
        file.truncate(size)
    commands = (
        ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image)],
        ["mount", "-o", "loop", str(image), str(place)],
        ["rmdir", str(place / "lost+found")],
        ["chmod", "700", str(place)],
    )
    for command in commands:
        try:
            done = subprocess.run(command, check=False, capture_output=True).returncode == 0
        except FileNotFoundError:
            done = False
        if not done:
            return None
    return FrozenDisk(place)
