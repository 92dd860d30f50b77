"""First pass: every source file becomes provisional token ids on disk, with the length and story of each example."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from terry.data_prep.blocks import Block, ReadReport, plural
from terry.data_prep.clean import clean_text
from terry.data_prep.config import Choose, DatasetConfig, Deduplicate, Level
from terry.data_prep.lexicon import CharacterLexicon, Lexicon, WordLexicon
from terry.data_prep.mixing import mix
from terry.data_prep.readers import read
from terry.data_prep.segment import Segmenter
from terry.data_prep.sources import Source
from terry.data_prep.tokens import MARKS
from terry.data_prep.vocabulary import Vocabulary

#: Characters tokenised at a time. Polars holds about 25 bytes for each.
BATCH: Final = 1 << 21
#: Stories whose beginning is kept for the report, and how much of it.
SAMPLES: Final = 3
SAMPLE_LENGTH: Final = 400

_MARKS: Final = re.compile(f"[{MARKS}]")
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True, kw_only=True)
class Collected:
    """What the first pass leaves. Arrays of one entry per example lie in files; those per story are in memory."""

    #: working folder with tokens.u32, lengths.u32, stories.u32 and, for removing repetitions, hashes.u64
    folder: Path
    #: gives the provisional ids
    lexicon: Lexicon
    #: a report for each file
    reports: list[ReadReport] = field(default_factory=list)
    #: tokens written
    tokens: int = 0
    #: examples written
    examples: int = 0
    #: hash of each story's cleaned text
    story_hashes: array[int] = field(default_factory=lambda: array("Q"))
    #: 0 where `split` decides, 1 for train, 2 for valid, 3 for test
    story_roles: array[int] = field(default_factory=lambda: array("B"))
    #: stories without any text, after cleaning
    empty_stories: int = 0
    #: marks taken out of the text, mostly zero bytes
    marks_removed: int = 0
    #: whether reading ended early because `max_examples` was reached
    ended_early: bool = False
    #: beginnings of the first stories, as read
    samples: list[str] = field(default_factory=list)


ROLES: Final = {None: 0, "train": 1, "valid": 2, "test": 3}


class Collector:
    """Performs the first pass."""

    def __init__(self, config: DatasetConfig, folder: Path, tick: Callable[[int], None]) -> None:
        self._config, self._folder, self._tick = config, folder, tick
        self._hashing = config.deduplicate is Deduplicate.example
        lexicon: Lexicon = (
            CharacterLexicon(lowercase=config.lower)
            if config.level is Level.character
            else WordLexicon(config.tokenizer, folder, lowercase=config.lower, hashing=self._hashing)
        )
        self.out = Collected(folder=folder, lexicon=lexicon)
        self._boundary = Vocabulary.boundary(config.unit)
        self._blocks: list[tuple[str, bool]] = []
        self._numbers: list[int] = []
        self._waiting = 0
        self._stories = array("I")
        self._open = 0  # tokens of an example that the last batch left open
        self._open_hash = np.uint64(0)
        self._chosen = 0
        self._done = 0

    def run(self, sources: list[Source]) -> Collected:
        """Read all files."""
        with (
            (self._folder / "tokens.u32").open("wb") as self._tokens,
            (self._folder / "lengths.u32").open("wb") as self._lengths,
            (self._folder / "stories.u32").open("wb") as self._story_file,
            (self._folder / "hashes.u64").open("wb") as self._hashes,
        ):
            for source in sources:
                if not (source.split is None and self._enough()):
                    self._file(source)
                    self._flush()
                    self._tell_of_failures()
                self._done += source.bytes
        return self.out

    def _enough(self) -> bool:
        """Whether the first `max_examples` are surely read."""
        config = self._config
        early = config.max_examples and config.choose is Choose.first and config.deduplicate is Deduplicate.none
        self.out.ended_early = bool(early and self._chosen >= config.max_examples)
        return self.out.ended_early

    def _file(self, source: Source) -> None:
        report = ReadReport(path=str(source.path))
        self.out.reports.append(report)
        self._segmenter = Segmenter.of(self._config, source.format, lines_are_texts=source.lines_are_texts)
        for story in _stories(read(source, self._config, report)):
            self._story(story, ROLES[source.split])
            if source.split is None and self._waiting == 0 and self._enough():
                return

    def _tell_of_failures(self) -> None:
        splitter = self._segmenter.splitter
        if splitter is not None and splitter.failed:
            self.out.reports[-1].notes.append(
                f"the sentence splitter failed on {plural(splitter.failed, 'paragraph')}, split at full stops instead"
            )

    def _story(self, blocks: Iterator[Block], role: int) -> None:
        digest, sample, started = hashlib.blake2b(digest_size=8), "", False
        empty_counts = self._config.keep_empty_lines
        number = len(self.out.story_roles)
        for block in blocks:
            sample = (sample + block.text)[:SAMPLE_LENGTH] if len(sample) < SAMPLE_LENGTH else sample
            text = clean_text(self._without_marks(block.text), self._config.clean)
            digest.update(text.encode())
            if text.strip() or (started and block.last) or (empty_counts and text):
                started = True
                self._blocks.append((text, block.last))
                self._numbers.append(number)
                self._waiting += len(text)
                if self._waiting >= BATCH:
                    self._flush()
        if not started:
            self.out.empty_stories += 1
            return
        self.out.story_hashes.append(int.from_bytes(digest.digest(), "little"))
        self.out.story_roles.append(role)
        if len(self.out.samples) < SAMPLES:
            self.out.samples.append(sample)

    def _without_marks(self, text: str) -> str:
        if not any(mark in text for mark in MARKS):
            return text
        text, removed = _MARKS.subn("", text)
        self.out.marks_removed += removed
        return text

    def _flush(self) -> None:
        """Segment and tokenise what waits, and write it down."""
        self._tick(self._done + (self.out.reports[-1].bytes_read if self.out.reports else 0))
        marked = self._segmenter.mark_all(self._blocks)
        for number, each in zip(self._numbers, marked, strict=True):
            self._stories.extend([number] * each.examples)
        ids = self.out.lexicon.encode([each.text for each in marked])
        self._blocks, self._numbers, self._waiting = [], [], 0
        ends = np.flatnonzero(ids == self._boundary) + 1
        lengths = np.diff(ends, prepend=0)
        if self._hashing:
            self._hash(ids, ends)
        if len(lengths):
            lengths[0] += self._open
            self._open = 0
        self._open += len(ids) - (int(ends[-1]) if len(ends) else 0)
        longest = self._config.max_tokens or np.iinfo(np.int64).max
        self._chosen += int(((lengths > self._config.fewest_tokens) & (lengths <= longest + 1)).sum())
        self._tokens.write(ids.tobytes())  # not tofile, whose errors do not say that the disk is full
        self._lengths.write(lengths.astype(np.uint32).tobytes())
        self._story_file.write(self._stories.tobytes())
        assert len(self._stories) == len(lengths), "a boundary was lost between segmenting and tokenising"
        self._stories = array("I")
        self.out.tokens += len(ids)
        self.out.examples += len(lengths)

    def _hash(self, ids: NDArray[np.uint32], ends: NDArray[np.int64]) -> None:
        """Write a hash of each example's tokens in their order."""
        starts = np.concatenate([[0], ends]).astype(np.int64)
        place = np.arange(len(ids), dtype=np.int64) - np.repeat(starts, np.diff(starts, append=len(ids)))
        place[: starts[1] if len(ends) else len(ids)] += self._open
        terms = mix(self.out.lexicon.hashes()[ids] + place.astype(np.uint64) * _ODD)
        sums = np.add.reduceat(np.append(terms, np.uint64(0)), starts)
        sums[:1] += self._open_hash
        self._hashes.write(sums[:-1].tobytes())
        self._open_hash = sums[-1]


def _stories(blocks: Iterator[Block]) -> Iterator[Iterator[Block]]:
    """The blocks of each story in turn; each must be used up before the next is asked for."""

    def rest(block: Block) -> Iterator[Block]:
        while True:
            yield block
            if block.last:
                return
            block = next(blocks)

    for block in blocks:
        yield rest(block)
