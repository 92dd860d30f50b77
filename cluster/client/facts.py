"""What selectors ask of a job beyond its record: figures and settings, read from its files."""

from __future__ import annotations

from typing import Any

from terry.cluster.core.model import JobRecord
from terry.cluster.files.paths import WorkspacePaths
from terry.logs.records.results import read_outcome, read_result, result_row, typed


def figures_of(workspace: WorkspacePaths, record: JobRecord) -> dict[str, Any]:
    """What it has found out, as `results` has it; of one that has not ended, what it measured last."""
    run = workspace.run(record.job.id)
    if record.state.is_final and (result := read_result(run)):
        return result_row(record, result).figures
    if not record.attempts:
        return {}
    seen = read_outcome(run, record)
    return {name: getattr(seen, name) for name in ("step", "epoch", "loss", "valid_loss", "tokens_per_s")}


def setting_of(workspace: WorkspacePaths, record: JobRecord, key: str) -> Any:
    """The value of a setting of the job, by its full key or the short name that tables have; None: it has none."""
    labels = record.job.labels
    if key in labels:
        return typed(labels[key])
    short = key.rpartition(".")[2]
    same = [name for name in labels if name == short or key.endswith(f".{name}")]
    if len(same) == 1 and "." in key:
        # A label's name is the end of its key, as long as no other key of the sweep ends alike.
        return typed(labels[same[0]])
    from terry.cluster.config.typed import flatten

    return flatten(config_of(workspace, record)).get(key)


def config_of(workspace: WorkspacePaths, record: JobRecord) -> dict[str, Any]:
    """The job's configuration, from the submission's line. Raises UserError where it cannot be read."""
    from terry.jobs.submitting.records import read_line
    from terry.logs.records.values import unpack

    config: dict[str, Any] = unpack(read_line(workspace, record).config)
    return config
