"""A program that knows nothing of Terry: it counts, says how far it is, and fails on request as chaotic_training does.

`python chaotic_program.py FOLDER NUMBER STEPS`: each step hashes the one before. It keeps its state in FOLDER and goes
on from there; `final.txt` is what comes out. The file `ask` beside FOLDER says how it shall fail. Only tests and
benchmarks run it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds of a step: no more than a training's.
STEP_S = 0.004


def main(folder: Path, number: int, steps: int) -> None:
    """Count to the end."""
    state, first, value = folder / "state.txt", 0, f"{number}"
    try:
        first, value = _read(state.read_text(encoding="ascii"))
    except FileNotFoundError:
        pass
    for step in range(first + 1, steps + 1):
        time.sleep(STEP_S)
        value = hashlib.sha256(f"{value} {step}".encode()).hexdigest()
        print(f"step {step} value {int(value[:4], 16) / 65536:.6f}", flush=True)
        _replace(state, f"{step} {value}")
        _obey(folder.parent / "ask")
    _replace(folder / "final.txt", value)


def _read(text: str) -> tuple[int, str]:
    step, value = text.split()
    return int(step), value


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="ascii")
    new.replace(path)


def _obey(ask: Path) -> None:
    try:
        what = ask.read_text(encoding="ascii")
        ask.unlink()
    except FileNotFoundError:
        return
    ACTIONS[what]()


def _exception() -> None:
    raise RuntimeError("chaos: an exception in the middle of a program")


def _device_memory() -> None:
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB")


def _host_memory() -> None:
    bytearray(1 << 46)  # more than any node has: a real MemoryError


def _bus_error() -> None:
    os.kill(os.getpid(), 7)


#: What can be asked for.
ACTIONS: dict[str, Callable[[], object]] = {
    "exception": _exception,
    "device_memory": _device_memory,
    "host_memory": _host_memory,
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "bus_error": _bus_error,
    "exit": lambda: sys.exit(3),
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
