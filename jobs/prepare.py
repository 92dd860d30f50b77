"""Entry point `terry.jobs.prepare:main`: make a data set, once, for all runs that read it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from terry.data_prep.config import DatasetConfig
from terry.data_prep.errors import PreparationStoppedError
from terry.data_prep.prepare import Prepared, PrepareProgress, prepare
from terry.jobs.process.context import RunContext


class PrepareConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a preparing job is asked for."""

    name: str  #: of the data set
    folder: str  #: where relative paths start: that of the sweep file
    dataset: DatasetConfig
    others: dict[str, DatasetConfig] = msgspec.field(default_factory=dict)  #: those `vocabulary_from` may name


def main(ctx: RunContext) -> None:
    """Prepare, or find it prepared. result.json names the folder, relative to the workspace, and counts."""
    asked = msgspec.convert(ctx.settings, PrepareConfig)
    try:
        prepared = prepare(
            asked.dataset,
            ctx.workspace.datasets,
            name=asked.name,
            base=Path(asked.folder),
            progress=lambda progress: _report(ctx, progress),
            should_stop=ctx.should_stop,
            others=asked.others,
        )
    except PreparationStoppedError:
        ctx.leave()
    else:
        ctx.finish(_result(ctx, prepared))


def _report(ctx: RunContext, progress: PrepareProgress) -> None:
    ctx.progress(phase=progress.phase, step=progress.done, total_steps=progress.total)


def _result(ctx: RunContext, prepared: Prepared) -> dict[str, object]:
    manifest = prepared.manifest
    return {
        "folder": str(prepared.path.relative_to(ctx.workspace.root)),
        "hash": manifest.hash,
        "built": prepared.built,
        "vocabulary_size": manifest.vocabulary_size,
        "vocabulary_sha256": manifest.vocabulary_sha256,
        "coverage": manifest.coverage,
        "splits": {name: {"examples": s.examples, "tokens": s.tokens} for name, s in manifest.splits.items()},
        "sources": [{"path": s.path, "sha256": s.sha256} for s in manifest.sources],
        "warnings": list(prepared.report.warnings),
    }
