"""Stories into paragraphs, sentences and examples; boundaries become the marks of `tokens.MARKS`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from terry.data_prep.config import DatasetConfig, Format, Inner, Paragraphs, Splitter, Unit
from terry.data_prep.sentences import SentenceSplitter
from terry.data_prep.tokens import MARKS, PARAGRAPH, SENTENCE, STORY

_SENTENCE: Final = MARKS[SENTENCE]
_PARAGRAPH: Final = MARKS[PARAGRAPH]
_STORY: Final = MARKS[STORY]
_BLANK_LINE: Final = re.compile(r"\n[^\S\n]*\n\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A block's text with boundary marks in it."""

    #: text and marks
    text: str
    #: examples that end in it
    examples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """Cuts text into units."""

    unit: Unit
    inner: Inner
    by_line: bool
    #: whether a sentence is a line
    lines: bool
    #: whether empty lines are sentences, too
    keep_empty: bool
    #: finds sentences; None where none are looked for, or they are lines
    splitter: SentenceSplitter | None

    @classmethod
    def of(cls, config: DatasetConfig, layout: Format, *, lines_are_texts: bool = False) -> Segmenter:
        """The segmenter for a file of the given layout. lines_are_texts: what `paragraphs: auto` is for plain text."""
        found_out = layout is not Format.text or lines_are_texts
        rules = config.in_sentences and config.splitter is Splitter.rules
        return cls(
            unit=config.unit,
            inner=config.inner,
            by_line=config.paragraphs is Paragraphs.line or (config.paragraphs is Paragraphs.auto and found_out),
            lines=config.in_sentences and config.splitter is Splitter.lines,
            keep_empty=config.keep_empty_lines,
            splitter=SentenceSplitter(config.language) if rules else None,
        )

    def mark(self, text: str, *, last: bool) -> Marked:
        """Mark the boundaries in one block of cleaned text; `last` says that its story ends there."""
        return self.mark_all([(text, last)])[0]

    def mark_all(self, blocks: Sequence[tuple[str, bool]]) -> list[Marked]:
        """The same for many blocks, each with its `last`; much faster than one by one."""
        texts = [text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text for text, _ in blocks]
        if self.unit is Unit.story and self.inner is Inner.none:
            return [self._story(text, last=last) for text, (_, last) in zip(texts, blocks, strict=True)]
        found = self._paragraphs_of(texts)
        if self.unit is Unit.sentence:
            return [_ended([s for p in paragraphs for s in p], _SENTENCE) for paragraphs in found]
        joined = [[_SENTENCE.join(sentences) for sentences in paragraphs] for paragraphs in found]
        if self.unit is Unit.paragraph:
            return [_ended(paragraphs, _PARAGRAPH) for paragraphs in joined]
        return [self._paragraphed(paragraphs, last=last) for paragraphs, (_, last) in zip(joined, blocks, strict=True)]

    def _story(self, body: str, *, last: bool) -> Marked:
        return Marked(text=body + _STORY if last else body, examples=int(last))

    def _paragraphed(self, paragraphs: list[str], *, last: bool) -> Marked:
        body = _PARAGRAPH.join(paragraphs)
        return self._story(body + ("" if last or not body else _PARAGRAPH), last=last)

    def paragraphs(self, text: str) -> list[str]:
        """Paragraphs of a text, without the blanks around them; empty ones are none."""
        parts = text.split("\n") if self.by_line else _BLANK_LINE.split(text)
        return [stripped for part in parts if (stripped := part.strip())]

    def _paragraphs_of(self, texts: list[str]) -> list[list[list[str]]]:
        """The sentences of each paragraph of each text, without the blanks around them.

        Where no sentences are looked for a paragraph is the only one of its own.
        """
        if self.keep_empty:
            return [[[line.strip()] for line in text.removesuffix("\n").split("\n")] if text else [] for text in texts]
        paragraphs = [self.paragraphs(text) for text in texts]
        if self.lines:
            return [[_lines(paragraph) for paragraph in each] for each in paragraphs]
        if self.splitter is None:
            return [[[paragraph] for paragraph in each] for each in paragraphs]
        split = iter(self.splitter.split([paragraph for each in paragraphs for paragraph in each]))
        return [list(islice(split, len(each))) for each in paragraphs]


def _lines(paragraph: str) -> list[str]:
    return [stripped for part in paragraph.split("\n") if (stripped := part.strip())]


def _ended(parts: list[str], mark: str) -> Marked:
    return Marked(text=mark.join(parts) + mark if parts else "", examples=len(parts))
