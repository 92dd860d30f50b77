"""Your own training as a Terry job: any function that takes a RunContext.

It learns a straight line through noisy points. What makes it a good job: it saves all that its next step depends on
(weights and the state of its random generator), so that it goes on exactly where it was, however it ended.

    terry-cluster submit examples/own_training.yaml
"""

from __future__ import annotations

import torch

from terry.jobs.context import RunContext


def main(ctx: RunContext) -> None:
    """Fit y = 3 x - 2. Parameters: steps, rate, noise, seed."""
    steps, rate = int(ctx.parameters["steps"]), float(ctx.parameters["rate"])
    noise = float(ctx.parameters.get("noise", 0.1))
    random = torch.Generator().manual_seed(int(ctx.parameters.get("seed", 1)))
    weights = {"slope": torch.zeros(1), "offset": torch.zeros(1)}
    step, loss = 0, None

    checkpoint = ctx.load_checkpoint()
    if checkpoint is not None:
        step, weights = checkpoint.step, checkpoint.model
        random.set_state(checkpoint.optimizer["random"])
        loss = checkpoint.state["loss"]

    while step < steps:
        step += 1
        x = torch.randn(64, generator=random)
        y = 3 * x - 2 + noise * torch.randn(64, generator=random)
        error = weights["slope"] * x + weights["offset"] - y
        weights["slope"] = weights["slope"] - rate * 2 * (error * x).mean()
        weights["offset"] = weights["offset"] - rate * 2 * error.mean()
        if step % 100 == 0 or step == steps:
            loss = float((error**2).mean())
            ctx.log(step, loss=loss)
            ctx.progress(step=step, total_steps=steps)
        if ctx.checkpoint_due() or step == steps:
            ctx.save_checkpoint(step, weights, optimizer={"random": random.get_state()}, state={"loss": loss})
        if ctx.should_stop():
            ctx.leave()

    ctx.finish({"loss": loss, "slope": float(weights["slope"]), "offset": float(weights["offset"])})
