"""How predictions are averaged: names only, so that the command line may read them without torch."""

from __future__ import annotations

from enum import StrEnum


class Average(StrEnum):
    """Which mean of the members' probabilities."""

    arithmetic = "arithmetic"
    geometric = "geometric"  #: scaled to sum to 1


class Weighting(StrEnum):
    """How much each member counts."""

    equal = "equal"
    loss = "loss"  #: in proportion to 1 / perplexity on the validation data
