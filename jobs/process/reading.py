"""How a run reads its data: batches of the training and of the validation text."""

from __future__ import annotations

import numpy as np

from terry.data_prep.batches import ExampleBatches, StreamBatches
from terry.data_prep.dataset import Split
from terry.jobs.sweeps.spec import Batches, RunConfig
from terry.models.protocols import BatchSource


def train_batches(config: RunConfig, split: Split) -> BatchSource:
    """The training data as the run reads it."""
    data = config.data
    if data.batches is Batches.STREAM:
        return StreamBatches(split.tokens, batch_size=data.batch_size, bptt=data.bptt)
    return ExampleBatches(
        split.tokens,
        split.offsets,
        boundary=split.boundary,
        batch_size=data.batch_size,
        seed=config.training.seed,
    )


def valid_batches(config: RunConfig, split: Split) -> BatchSource | None:
    """The validation data, in one fixed order; None where there is too little to read."""
    data = config.data
    if data.batches is Batches.STREAM:
        streams = min(data.batch_size, len(split.tokens) // 2)
        return StreamBatches(split.tokens, batch_size=streams, bptt=data.bptt) if streams else None
    if not split.examples:
        return None
    return ExampleBatches(
        split.tokens, split.offsets, boundary=split.boundary, batch_size=data.batch_size, shuffle=False
    )


def as_streams(split: Split, streams: int, bptt: int) -> BatchSource | None:
    """A split read as so many contiguous streams, the first of which begins behind a boundary; None where too short.

    With one stream every token is a target exactly once, the first one predicted from the boundary, as papers count.
    """
    tokens = np.concatenate([np.array([split.boundary], dtype=split.tokens.dtype), split.tokens])
    return StreamBatches(tokens, batch_size=streams, bptt=bptt) if len(tokens) >= 2 * streams else None
