"""A person's own training function, which fails on request: the file `ask` in its run's folder says how.

It is Terry's own training otherwise. Only tests and benchmarks submit it; nothing in Terry knows of it.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from terry.jobs import train
from terry.jobs.process.context import RunContext
from terry.models.language_model import LanguageModel


def main(ctx: RunContext) -> None:
    """Train; look for a request whenever the trainer looks whether it should stop, but not before the first step."""
    ask = ctx.run_dir / "ask"
    asked_to_stop = ctx.should_stop

    def should_stop() -> bool:
        if ctx.step > 0:
            _obey(ask)
        return asked_to_stop()

    ctx.should_stop = should_stop  # type: ignore[method-assign]
    train.main(ctx)


def _obey(ask: Path) -> None:
    try:
        what = ask.read_text(encoding="ascii")
        ask.unlink()
    except FileNotFoundError:
        return
    ACTIONS[what]()


def _exception() -> None:
    raise RuntimeError("chaos: an exception in the middle of training")


def _device_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def _host_memory() -> None:
    bytearray(1 << 46)  # more than any node has: a real MemoryError


def _segfault() -> None:
    ctypes.string_at(0)


def _bus_error() -> None:
    """Read a page of a mapped file that is no longer there."""
    with Path(f"/tmp/terry-bus-{os.getpid()}").open("w+b") as file:
        Path(file.name).unlink()
        file.truncate(1 << 16)
        mapped = mmap.mmap(file.fileno(), 1 << 16)
        file.truncate(0)
        mapped[4096]


def _not_finite() -> None:
    """Spoil a weight of the model that trains, as a faulty device would."""
    model = next(found for found in gc.get_objects() if isinstance(found, LanguageModel))
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = float("nan")


#: What can be asked for.
ACTIONS: dict[str, Callable[[], None]] = {
    "exception": _exception,
    "device_memory": _device_memory,
    "host_memory": _host_memory,
    "segfault": _segfault,
    "abort": os.abort,
    "bus_error": _bus_error,
    "exit": lambda: sys.exit(3),
    "not_finite": _not_finite,
}
