"""The training of benchmarks/recovery.py: the same tiny GRU for Terry and for Ray Tune, which tells of each step.

As a job of Terry's it is a person's own entry point; for Tune it is a trainable. Both save a checkpoint every
`SAVE_EVERY` steps and append `time pid step` to a file after each step.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

SAVE_EVERY = 20
PAUSE_S = 0.005  #: between steps: a step of a real training takes so long


class Toy:
    """A GRU that learns noise, with Adam."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        torch.set_num_threads(1)
        self.model = torch.nn.GRU(16, 32, batch_first=True)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.step = 0

    def train_step(self, told: Path) -> None:
        """One step, told of."""
        self.step += 1
        output, _ = self.model(torch.ones(4, 8, 16))
        self.optimizer.zero_grad()
        output.square().mean().backward()
        self.optimizer.step()
        time.sleep(PAUSE_S)
        with told.open("a", encoding="ascii") as file:
            file.write(f"{time.time():.4f} {os.getpid()} {self.step}\n")


def main(ctx: Any) -> None:
    """For Terry."""
    toy = Toy()
    checkpoint = ctx.load_checkpoint()
    if checkpoint is not None:
        toy.model.load_state_dict(checkpoint.model)
        toy.step = checkpoint.step
    while toy.step < ctx.parameters["steps"]:
        toy.train_step(Path(ctx.parameters["told"]))
        ctx.progress(step=toy.step)
        if toy.step % SAVE_EVERY == 0:
            ctx.save_checkpoint(toy.step, toy.model.state_dict())
        if ctx.should_stop():
            ctx.leave()


def trainable(config: dict[str, Any]) -> None:
    """For Ray Tune."""
    from ray import tune

    toy = Toy()
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            saved = torch.load(Path(folder, "state.pt"))
        toy.model.load_state_dict(saved["model"])
        toy.step = saved["step"]
    while toy.step < config["steps"]:
        toy.train_step(Path(config["told"]))
        if toy.step % SAVE_EVERY == 0:
            with tempfile.TemporaryDirectory() as folder:
                torch.save({"model": toy.model.state_dict(), "step": toy.step}, Path(folder, "state.pt"))
                tune.report({"step": toy.step}, checkpoint=tune.Checkpoint.from_directory(folder))
