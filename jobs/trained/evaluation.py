"""Perplexity of runs, and of the ensembles of 1, 2, ... N of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from terry.cluster.errors import UserError
from terry.data_prep.dataset import Dataset
from terry.jobs.process.reading import as_streams, valid_batches
from terry.jobs.sweeps.spec import Batches, EvaluatedSplit
from terry.jobs.trained.members import EnsembleMembers
from terry.models.ensemble import EnsembleReport, evaluate_members, scaled_weights
from terry.models.protocols import BatchSource


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What an evaluation found."""

    ensemble_members: EnsembleMembers
    split: EvaluatedSplit
    dataset: str
    reading: str  #: how the text was read, in words
    found: EnsembleReport

    def document(self) -> dict[str, Any]:
        """Plain values: for JSON and result.json."""
        found, names = self.found, [member.name for member in self.ensemble_members.members]
        shares = scaled_weights(self.ensemble_members.weights, len(names))
        singles = zip(names, found.members, shares, strict=True)
        return {
            "ensemble": self.ensemble_members.mixture.name,
            "split": self.split,
            "dataset": self.dataset,
            "reading": self.reading,
            "tokens": found.ensemble.tokens,
            "average": self.ensemble_members.mixture.average,
            "weights": self.ensemble_members.mixture.weights,
            "loss": found.ensemble.loss,
            "perplexity": found.ensemble.perplexity,
            "mean_member_perplexity": found.mean_perplexity,
            "gain": found.gain,
            "took_part": len(self.ensemble_members.runs),
            "unfinished": list(self.ensemble_members.unfinished),
            "members": [
                {"member": name, "loss": one.loss, "perplexity": one.perplexity, "weight": share}
                for name, one, share in singles
            ],
            "first": [
                {
                    "members": i,
                    "loss": one.loss,
                    "perplexity": one.perplexity,
                    "gain": 1 - one.perplexity / found.mean_perplexity,
                }
                for i, one in enumerate(found.first, 1)
            ],
        }


def evaluate(
    chosen: EnsembleMembers,
    split: EvaluatedSplit,
    device: torch.device | str,
    before_batch: Callable[[int, int], None] = lambda *_: None,
    *,
    streams: int | None = None,
) -> EvaluationReport:
    """Read a split as the first member read its validation data. Raises UserError where there is nothing to read.

    streams: read it as so many contiguous streams instead; with 1 every token is predicted once, the first one from the
    boundary, which is what papers count. `before_batch` is called with the batches done so far and how many there are;
    it may raise.
    """
    dataset = chosen.dataset()
    config = chosen.first.config
    part = dataset.split(split)

    def read() -> BatchSource | None:
        return valid_batches(config, part) if streams is None else as_streams(part, streams, config.data.bptt)

    source = read()
    if source is None:
        raise UserError(_nothing_to_read(dataset, split))
    at_once = chosen.at_once(device)
    total = len(source) * math.ceil(len(chosen.members) / at_once)

    def batches() -> Any:
        source = read()
        assert source is not None
        return source.epoch()

    found = evaluate_members(
        [lambda member=member: member.open(device) for member in chosen.members],  # type: ignore[misc]
        batches,
        average=chosen.mixture.average,
        weights=chosen.weights,
        at_once=at_once,
        before_batch=lambda done: before_batch(done, total),
    )
    return EvaluationReport(
        ensemble_members=chosen,
        split=split,
        dataset=dataset.manifest.name,
        reading=_reading(chosen, streams),
        found=found,
    )


def _reading(chosen: EnsembleMembers, streams: int | None) -> str:
    data = chosen.first.config.data
    if streams == 1:
        return f"one stream, every token once, {data.bptt} tokens at a time"
    if streams is not None:
        return f"{streams} streams, {data.bptt} tokens at a time"
    if data.batches is Batches.STREAM:
        return f"{data.batch_size} streams, {data.bptt} tokens at a time, as {chosen.first.id} was trained"
    return f"one example a row, as {chosen.first.id} was trained"


def _nothing_to_read(dataset: Dataset, split: EvaluatedSplit) -> str:
    there = ", ".join(f"{name} {entry.tokens:,}" for name, entry in dataset.manifest.splits.items())
    return f"the data set {dataset.manifest.name} has too little text in {split} to evaluate on; tokens: {there}"
