"""A FUSE file system of a test, mounted by a process of its own."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def why_not() -> str:
    """Why there is no FUSE here; empty where there is."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    if ctypes.util.find_library("fuse3") is None and ctypes.util.find_library("fuse") is None:
        return "libfuse is not installed (Debian: fuse3)"
    return ""


@contextlib.contextmanager
def mounted(what: str, folder: Path, module: str, *arguments: str) -> Iterator[None]:
    """`python -m MODULE ARGUMENTS` serves `folder`. Without FUSE the test is skipped, and fails in the gate."""
    if lacking := why_not():
        reason = f"{what} cannot be tried here: {lacking}"
        (pytest.fail if os.environ.get("GATE") else pytest.skip)(reason)
    folder.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([sys.executable, "-m", module, *arguments]) as server:
        try:
            deadline = time.monotonic() + 60.0
            while not folder.is_mount():
                assert server.poll() is None, "the file system could not be mounted"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield
        finally:
            subprocess.run(["fusermount3", "-u", "-z", str(folder)], check=False, capture_output=True)
            try:
                server.wait(10.0)
            except subprocess.TimeoutExpired:  # somebody still has a file open
                server.kill()
