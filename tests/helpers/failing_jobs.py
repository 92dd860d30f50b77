"""Training functions of a person's own that fail in one way each. The first step is done before, unless named so."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np

from terry.jobs.process.context import RunContext
from terry.jobs.process.device_check import require_device


def before_the_first_step(ctx: RunContext) -> None:
    """A bug."""
    raise KeyError("no such setting")


def asked(ctx: RunContext) -> None:
    """Do what the parameter `action` says, in the middle: see chaotic_training."""
    from chaotic_training import ACTIONS

    ctx.progress(step=7, phase="training")
    ACTIONS[ctx.parameters["action"]]()


def leaves(ctx: RunContext) -> None:
    """As a library does that calls exit() in C."""
    ctx.progress(step=4, phase="training")
    os._exit(ctx.parameters["code"])


def crashes_at(ctx: RunContext) -> None:
    """In mid-sentence: nothing of the last steps was told in a line."""
    for step in range(1, ctx.parameters["step"] + 1):
        ctx.progress(step=step)
    os.abort()


def validates(ctx: RunContext) -> None:
    """For a while it does no step, but is at work; then it stands still."""
    ctx.progress(step=9, phase="validating")
    for _ in range(ctx.parameters["batches"]):
        ctx.beat()
        threading.Event().wait(0.1)
    threading.Event().wait()


def looks(ctx: RunContext) -> None:
    """Look at the disk, again and again, until it finds nothing to hold it back."""
    step = 0
    while not (ctx.run_dir / "enough").exists():
        step += 1
        ctx.progress(step=step, phase="training")
        threading.Event().wait(0.01)


def writes(ctx: RunContext) -> None:
    """Write and sync, again and again, until told that it is enough."""
    step = 0
    while not (ctx.run_dir / "enough").exists():
        step += 1
        ctx.log(step, loss=1.0)
        ctx.sync()
        ctx.progress(phase="training")
        threading.Event().wait(0.01)


def diverges(ctx: RunContext) -> None:
    """As the guard says it."""
    from terry.models.errors import NotFinite

    ctx.progress(step=41, phase="training")
    raise NotFinite("NaN in the gradient of decoder.weight, at step 41", step=41, tensor="decoder.weight")


def waits(ctx: RunContext) -> None:
    """Until asked to leave."""
    ctx.progress(step=1, phase="training")
    while not ctx.should_stop():
        threading.Event().wait(0.02)
    ctx.leave()


def computes(ctx: RunContext) -> None:
    """Until asked to leave, on a GPU whose processes stand in the folder `table`."""
    (Path(ctx.parameters["table"]) / str(os.getpid())).touch()
    waits(ctx)


def tells_its_limits(ctx: RunContext) -> None:
    """What of its GPU it may use, on the fake one, as it is when the first of its own code runs."""
    import fake_cuda

    mps = {k: v for k, v in os.environ.items() if k.startswith("CUDA_MPS")}
    ctx.finish({"calls": [list(call) for call in fake_cuda.calls], "mps": mps})


def stands_still(ctx: RunContext) -> None:
    """In a call that does not come back."""
    ctx.progress(step=5, phase="training")
    os.read(os.open(ctx.run_dir / "fifo", os.O_RDONLY), 1)


def takes_all_memory(ctx: RunContext) -> None:
    """Touches page after page."""
    ctx.progress(step=3, phase="training")
    kept = []
    while True:
        kept.append(np.ones(1 << 20))


def wants_a_gpu(ctx: RunContext) -> None:
    """Where torch sees none."""
    require_device("cuda:0", "GPU-0")


def logs_for_ever(ctx: RunContext) -> None:
    """Measurements, until there is no room."""
    step = 0
    while True:
        step += 1
        ctx.log(step, loss=1.0, **{f"measurement_{i}": float(i) for i in range(100)})


def prints_for_ever(ctx: RunContext) -> None:
    """Words, until there is no room."""
    ctx.progress(step=1)
    while True:
        print("x" * 10_000, flush=True)


def saves_for_ever(ctx: RunContext) -> None:
    """Checkpoints that grow, until there is no room."""
    import torch

    step = 0
    while True:
        step += 1
        ctx.save_checkpoint(step, {"weights": torch.ones(50_000 * step)})
        ctx.flush()


def finishes_late(ctx: RunContext) -> None:
    """Works on until it is told, by a file, to finish: as in a node that was cut off."""
    import torch

    ctx.progress(step=1, phase="training")
    ctx.save_checkpoint(1, {"weights": torch.ones(3)})
    ctx.flush()
    while not Path(ctx.run_dir, f"finish-{ctx.attempt}").exists():
        threading.Event().wait(0.02)
    if ctx.parameters.get("saves"):
        ctx.save_checkpoint(2, {"weights": torch.ones(3)})
        ctx.flush()
    ctx.finish({"by": ctx.attempt})
