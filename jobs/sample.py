"""Entry point `terry.jobs.sample:main`: texts from a trained model, as a job."""

from __future__ import annotations

import msgspec

from terry.jobs.process.context import RunContext
from terry.jobs.process.device_check import require_device
from terry.jobs.sweeps.model_jobs import SampleAsked
from terry.jobs.trained.members import find_members
from terry.jobs.trained.writing import Writer, produce


def main(ctx: RunContext) -> None:
    """Sample on the device that was granted. An attempt that was killed begins anew, with a file of its own."""
    require_device(ctx.device, ctx.gpu_uuid)
    ctx.progress(phase="reading")
    asked = msgspec.convert(ctx.settings, SampleAsked)
    chosen = find_members(ctx.workspace, asked.mixture)
    print(chosen.describe(), flush=True)
    writer = Writer(chosen.ensemble(ctx.device), chosen.dataset(), asked)
    written = 0

    def show(_: str) -> None:
        nonlocal written
        written += 1
        if ctx.should_stop():
            ctx.leave()
        ctx.progress(step=written, total_steps=asked.count, phase="sampling")

    path, summary = produce(chosen, writer, ctx.run.samples, show)
    print(*(summary[key] for key in ("summary", "copies") if key in summary), path, sep="\n", flush=True)
    ctx.finish({"model": asked.mixture.name, "file": str(path.relative_to(ctx.workspace.root)), **summary})
