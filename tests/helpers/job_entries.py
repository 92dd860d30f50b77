"""Entry points for the tests of agents and forkservers: run instead of terry.jobs.process.child."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

MODULES = ("json", "wave")
LIGHT_MODULES = ("json",)


def main(order: dict[str, Any], progress: int) -> int:
    """Do what the order's entry point says: `name` or `name:argument`."""
    if "draw" in order:
        return _draw(order["draw"])
    what, _, argument = order["entrypoint"].partition(":")
    return int(_ACTIONS[what](order, progress, argument) or 0)


def _draw(runs: list[dict[str, Any]]) -> int:
    for run in runs:
        Path(run["workspace"], f"drawn-{run['job_id']}").touch()
    return 0


def _preloaded(order: dict[str, Any], progress: int, argument: str) -> None:
    print("large" if "wave" in sys.modules else "small", flush=True)


def _say(progress: int, **values: Any) -> None:
    os.write(progress, json.dumps(values).encode() + b"\n")


def _print(order: dict[str, Any], progress: int, argument: str) -> int:
    print("to stdout", os.environ["TERRY_JOB_ID"], os.environ["TERRY_ATTEMPT"], flush=True)
    print("to stderr", os.getpid(), os.getpgrp(), file=sys.stderr)
    _say(progress, step=3, loss=1.5)
    return int(argument or 0)


def _fail(order: dict[str, Any], progress: int, argument: str) -> None:
    raise RuntimeError("as asked")


def _segfault(order: dict[str, Any], progress: int, argument: str) -> None:
    ctypes.string_at(0)


def _wait(order: dict[str, Any], progress: int, argument: str) -> int:
    """Run until told to stop, then leave like a job that wrote its checkpoint."""
    stop = threading.Event()

    def on_term(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_term)
    _say(progress, step=1, phase="waiting")
    while not stop.wait(3600):
        continue
    return 75


def _stubborn(order: dict[str, Any], progress: int, argument: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _say(progress, step=1)
    threading.Event().wait()


def _parent(order: dict[str, Any], progress: int, argument: str) -> None:
    """Start a grandchild, tell its pid, and leave it behind."""
    child = subprocess.Popen(["sleep", "3600"])
    Path(os.environ["TERRY_RUN_DIR"], "grandchild").write_text(str(child.pid), encoding="ascii")
    if argument == "stay":
        _say(progress, step=1)
        threading.Event().wait()


_ACTIONS = {
    "preloaded": _preloaded,
    "print": _print,
    "fail": _fail,
    "segfault": _segfault,
    "wait": _wait,
    "stubborn": _stubborn,
    "parent": _parent,
}
