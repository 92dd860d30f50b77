"""The compiled kernels, where they were built: found, checked, called."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent
#: What the build leaves beside this file.
LIBRARY_NAME = "_kernels.so"
#: "off": as if nothing had been built; "portable", "avx2", "avx512": not above this level (for comparisons).
VARIABLE = "TERRY_KERNELS"
LEVELS = ("portable", "avx2", "avx512")


def sources_sha256(folder: Path) -> str:
    """Hash of the C sources, by which a library is known to be theirs; "" where they are not there (a wheel)."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h"))
    if not files:
        return ""
    found = hashlib.sha256()
    for path in files:
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


class Library:
    """The kernels at one level of instructions. All levels compute the same bits."""

    def __init__(self, loaded: ctypes.CDLL, level: int) -> None:
        self.level = level
        self._run = loaded.terry_kernels_run
        self._run.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int)

    def run(self, operations: ctypes.Array[Any], count: int, threads: int) -> None:
        """Do a list of operations. Raises IndexError for an id outside of the vocabulary."""
        status = self._run(self.level, operations, count, threads)
        if status == 1:
            raise IndexError("a token's number is outside of the vocabulary")
        if status:
            raise RuntimeError(f"the kernels returned {status}")


@functools.cache
def _load(path: Path) -> ctypes.CDLL | str:
    """The library, or why it cannot be used."""
    if not path.exists():
        return "not built: no C compiler was found when this was installed (`pip install` again once there is one)"
    try:
        loaded = ctypes.CDLL(str(path))
        loaded.terry_kernels_sources.restype = ctypes.c_char_p
        built = loaded.terry_kernels_sources().decode()
    except (OSError, AttributeError) as error:
        return f"{path.name} cannot be loaded: {error}"
    if (ours := sources_sha256(path.parent)) and ours != built:
        return "built from other sources than these: `pip install -e .` again"
    return loaded


def find() -> Library | str:
    """The kernels at the highest level of this processor, or why there are none."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "off":
        return f"turned off by {VARIABLE}=off"
    loaded = _load(_FOLDER / LIBRARY_NAME)
    if isinstance(loaded, str):
        return loaded
    level = int(loaded.terry_kernels_level())
    if wanted in LEVELS:
        level = min(level, LEVELS.index(wanted))
    return Library(loaded, level)


def describe() -> str:
    """One line for a person: `native (avx2)`, or `torch` and why."""
    found = find()
    if isinstance(found, str):
        return f"torch ({found})"
    name = LEVELS[found.level] if found.level else platform.machine()
    return f"native ({name})"
