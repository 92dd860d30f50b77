"""Dropout whose mask may stay the same over time, and dropout of whole words."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def drop(x: Tensor, share: float, *, locked: bool, training: bool) -> Tensor:
    """Dropout of (time, batch, size). `locked`: one mask for all steps (Gal and Ghahramani 2016)."""
    if not share or not training:
        return x
    if not locked:
        return functional.dropout(x, share, training=True)
    return x * functional.dropout(x.new_ones(1, *x.shape[1:]), share, training=True)


def drop_words(table: Tensor, share: float, *, training: bool) -> Tensor:
    """Dropout of whole rows of an embedding, (tokens, size): a word is gone from the whole batch."""
    if not share or not training:
        return table
    return table * functional.dropout(table.new_ones(len(table), 1), share, training=True)
