"""Stories into paragraphs, sentences and examples; boundaries become the marks of `tokens.MARKS`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import sentencex

from terry.data_prep.config import DatasetConfig, Format, Inner, Paragraphs, Splitter, Unit
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
    splitter: Splitter
    language: str
    inner: Inner
    by_line: bool

    @classmethod
    def of(cls, config: DatasetConfig, layout: Format) -> Segmenter:
        """The segmenter for a file of the given layout."""
        by_line = config.paragraphs is Paragraphs.line or (
            config.paragraphs is Paragraphs.auto and layout is not Format.text
        )
        return cls(
            unit=config.unit,
            splitter=config.splitter,
            language=config.language,
            inner=config.inner,
            by_line=by_line,
        )

    def mark(self, text: str, *, last: bool) -> Marked:
        """Mark the boundaries in one block of cleaned text; `last` says that its story ends there."""
        text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        if self.unit is Unit.sentence:
            return _ended([s for p in self._split(text) for s in p], _SENTENCE)
        if self.unit is Unit.paragraph:
            return _ended(self._marked_paragraphs(text), _PARAGRAPH)
        return self._story(text, last=last)

    def _story(self, text: str, *, last: bool) -> Marked:
        if self.inner is Inner.none:
            body = text
        else:
            body = _PARAGRAPH.join(self._marked_paragraphs(text))
            body += "" if last or not body else _PARAGRAPH
        return Marked(text=body + _STORY if last else body, examples=int(last))

    def _marked_paragraphs(self, text: str) -> list[str]:
        if self.inner is not Inner.sentence:
            return self.paragraphs(text)
        return [_SENTENCE.join(sentences) for sentences in self._split(text)]

    def paragraphs(self, text: str) -> list[str]:
        """Paragraphs of a text, without the blanks around them; empty ones are none."""
        parts = text.split("\n") if self.by_line else _BLANK_LINE.split(text)
        return [stripped for part in parts if (stripped := part.strip())]

    def _split(self, text: str) -> Iterator[list[str]]:
        """The sentences of each paragraph, without the blanks around them."""
        for paragraph in self.paragraphs(text):
            # One call for all paragraphs would be faster, but a quotation mark can make sentencex join two of them.
            by_line = self.splitter is Splitter.lines
            parts = paragraph.split("\n") if by_line else sentencex.segment(self.language, paragraph)
            yield [stripped for part in parts if (stripped := part.strip())]


def _ended(parts: list[str], mark: str) -> Marked:
    return Marked(text=mark.join(parts) + mark if parts else "", examples=len(parts))
