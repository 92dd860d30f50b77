"""A file system of a few MiB, to be filled for real (ENOSPC). Needs root, by itself or through sudo."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted tmpfs."""

    folder: Path

    def fill(self) -> None:
        """To the last byte."""
        with (self.folder / "filler").open("wb") as file:
            size, step = 0, 64 << 20
            while step:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2

    def free(self) -> None:
        """Undo `fill`."""
        (self.folder / "filler").unlink()

    def clear(self, name: str) -> None:
        """Remove what stands there under this name."""
        shutil.rmtree(self.folder / name)


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """Mount it on `folder`; skips the test where we may not."""
    with mounted(folder, size) as disk:
        if disk is None:
            pytest.skip("a file system cannot be mounted here: that needs root")
        yield disk


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[SmallDisk | None]:
    """Mount it on `folder`; None where we may not."""
    options = f"size={size},mode=700,uid={os.getuid()}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "terry-test", str(folder)]
    sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
    try:
        done = subprocess.run([*sudo, *mount], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:  # no sudo
        done = False
    if not done:
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run([*sudo, "umount", "-l", str(folder)], check=True)
