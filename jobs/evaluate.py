"""Entry point `terry.jobs.evaluate:main`: perplexity of runs and of their ensemble, as a job."""

from __future__ import annotations

import msgspec

from terry.jobs.process.context import RunContext
from terry.jobs.process.device_check import require_device
from terry.jobs.sweeps.model_jobs import EvaluateAsked
from terry.jobs.trained.evaluation import evaluate
from terry.jobs.trained.members import find_members


def main(ctx: RunContext) -> None:
    """Evaluate an ensemble by those of its members that are finished. An attempt that was killed begins anew."""
    require_device(ctx.device, ctx.gpu_uuid)
    ctx.progress(phase="reading")
    asked = msgspec.convert(ctx.settings, EvaluateAsked)
    chosen = find_members(ctx.workspace, asked.mixture)
    print(chosen.describe(), flush=True)

    def before_batch(done: int, total: int) -> None:
        if ctx.should_stop():
            ctx.leave()
        ctx.progress(step=done, total_steps=total, phase="evaluating")

    report = evaluate(chosen, asked.split, ctx.device, before_batch, streams=asked.streams)
    document = report.document()
    of_split = {f"{asked.split}_loss": document["loss"]}
    ctx.finish({**of_split, **document})
