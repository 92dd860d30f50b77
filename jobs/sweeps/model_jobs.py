"""What is asked of a job that evaluates or samples trained models. No torch: the command line makes these."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from terry.jobs.sweeps.spec import EvaluatedSplit
from terry.models.averages import Average, Weighting


class Mixture(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs take part, and how their predictions become one."""

    name: str  #: of the ensemble, or the run's id
    members: tuple[str, ...]  #: ids of runs
    best: Annotated[int, msgspec.Meta(ge=1)] | None = None  #: only so many, those with the lowest validation loss
    average: Average = Average.arithmetic
    weights: Weighting = Weighting.equal
    snapshots: Annotated[int, msgspec.Meta(ge=1)] = 1  #: newest checkpoints of each run that take part
    average_weights: bool = False  #: a run's snapshots are one member with the mean of their weights


class EvaluateAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a job of kind `evaluate`."""

    mixture: Mixture
    split: EvaluatedSplit = EvaluatedSplit.valid
    streams: Annotated[int, msgspec.Meta(ge=1)] | None = None  #: left out: as the first member reads validation data


class WrittenUnit(StrEnum):
    """What is written."""

    sentence = "sentence"
    paragraph = "paragraph"
    story = "story"


class TextFormat(StrEnum):
    """How texts are written down."""

    text = "text"
    jsonl = "jsonl"  #: one JSON object a line, with the probability of each


class SampleAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a job of kind `sample`."""

    mixture: Mixture
    unit: WrittenUnit | None = None  #: left out: what the model was trained on
    count: int = 10
    min_words: int = 1
    max_words: int | None = None  #: left out: by the unit
    seed_text: str = ""  #: every text begins with it
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    random_seed: int = 1
    format: TextFormat = TextFormat.text
    check_copies: bool = False  #: look for the longest run of each text that stands in the training text
    batch_size: int = 256
