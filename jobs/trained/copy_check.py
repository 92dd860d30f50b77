"""Does a model write, or recite? What it wrote, held against its training text, beside text of people held out from it.

Short sentences stand in any large text, so figures of samples alone say little: those of as many texts of the same unit
from the validation data (without any, the test data) show what is usual.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from terry.data_prep.config import Level
from terry.data_prep.dataset import Dataset
from terry.data_prep.tokens import SPECIAL
from terry.models.copied_runs import longest_copied_runs
from terry.models.sample_text import Shape

#: A run of so many tokens that stands in the training text is told of: words, or characters.
NOTABLE_RUN = {Level.word: 8, Level.character: 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What some texts have in common with the training text."""

    texts: int
    whole: float  #: share of the texts that stand in it from their beginning to their end
    notable: float  #: share that has a run of NOTABLE_RUN or more in common with it
    median: float  #: of the texts' longest common runs, in tokens
    longest: int  #: of all

    @classmethod
    def of(cls, runs: Sequence[int], lengths: Sequence[int], notable: int) -> Copied | None:
        """runs: each text's longest common run; lengths: its tokens. None without a text."""
        if not runs:
            return None
        return cls(
            texts=len(runs),
            whole=sum(run >= length for run, length in zip(runs, lengths, strict=True)) / len(runs),
            notable=sum(run >= notable for run in runs) / len(runs),
            median=statistics.median(runs),
            longest=max(runs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCheck:
    """Samples beside held-out text."""

    level: Level
    runs: tuple[int, ...]  #: each sample's longest run of tokens that stands in the training text
    written: Copied | None
    held_out: Copied | None  #: None where no text is held out

    def document(self) -> dict[str, Any]:
        """Plain figures: `copied_...` of the samples, `held_out_...` of people's text."""
        found: dict[str, Any] = {}
        for prefix, part in (("copied", self.written), ("held_out", self.held_out)):
            if part is not None:
                found |= {
                    f"{prefix}_texts": part.texts,
                    f"{prefix}_whole": part.whole,
                    f"{prefix}_notably": part.notable,
                    f"{prefix}_median_run": part.median,
                    f"{prefix}_longest_run": part.longest,
                }
        return found

    def words(self) -> str:
        """The same for people."""
        if self.written is None:
            return "nothing was written that could have been copied"
        mine, other, noun = self.written, self.held_out, "words" if self.level is Level.word else "characters"
        line = (
            f"{mine.whole:.0%} stand whole in the training text, {mine.notable:.0%} share a run of "
            f"{NOTABLE_RUN[self.level]} {noun} or more with it; "
            f"longest run: median {mine.median:g}, at most {mine.longest}"
        )
        if other is None:
            return line
        return (
            f"{line} (people's own, {other.texts} held-out texts: {other.whole:.0%}, {other.notable:.0%}; "
            f"median {other.median:g}, at most {other.longest})"
        )


def check(samples: Sequence[Sequence[int]], dataset: Dataset, shape: Shape) -> CopyCheck:
    """samples: their token ids without the token that ended them; shape: what a text is."""
    real = list(itertools.islice(held_out(dataset, shape), len(samples)))
    runs = longest_copied_runs([*samples, *real], dataset.split("train").tokens)
    notable = NOTABLE_RUN[dataset.vocabulary.level]
    mine, theirs = runs[: len(samples)], runs[len(samples) :]
    return CopyCheck(
        level=dataset.vocabulary.level,
        runs=tuple(mine),
        written=Copied.of(mine, [len(sample) for sample in samples], notable),
        held_out=Copied.of(theirs, [len(text) for text in real], notable),
    )


def held_out(dataset: Dataset, shape: Shape) -> Iterator[list[int]]:
    """Texts of people of that shape, without boundary tokens at their ends; those of the test data after the others."""
    ends = np.array(sorted(shape.ends))
    for name in ("valid", "test"):
        tokens = dataset.split(name).tokens
        begin = 0
        for end in np.flatnonzero(np.isin(tokens, ends)).tolist():
            text = tokens[begin:end].tolist()
            begin = end + 1
            words = sum(shape.words is None or token in shape.words for token in text)
            if text and shape.min_words <= words <= shape.max_words:
                yield text


def marks(dataset: Dataset, step: int = 1 << 22) -> set[int]:
    """Ids of the boundary tokens that the training text has; reads until all were seen."""
    tokens, found = dataset.split("train").tokens, {dataset.boundary}
    for begin in range(0, len(tokens), step):
        part = tokens[begin : begin + step]
        found |= set(np.unique(part[part < len(SPECIAL)]).tolist()) - {0}
        if len(found) == len(SPECIAL) - 1:
            break
    return found
