"""Paragraphs into sentences by the sentencex library: many in one call, long ones in windows, and none that stops us.

sentencex 1.0.32 looks at each paragraph by itself and gives an empty line between two as an item of its own, so many
paragraphs can go into one call (of less than 10 KiB), which is several times as fast as one call each. It can fail on
text that is valid, by an exception that is no `Exception` (PyO3 makes one of a panic in Rust). And its time for one
paragraph grows with the number of full stops times that of quotations in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Final

import polars as pl
import sentencex

#: Bytes of one call at most: above 10 KiB the library cuts the text itself, and some empty lines are lost.
_CALL: Final = 10_000
#: A paragraph that is hard for the library is looked at in windows of so many characters.
WINDOW: Final = 1 << 15
#: Full stops times quotations and brackets of a hard one; the library takes a second for a hundred times as many.
HARD: Final = 1 << 22
_STOPS: Final = re.compile(r"[.!?]+")
_MARKED: Final = re.compile(r"[\"'“”‘’«»(\[{<`]")
_BETWEEN: Final = "\n\n"
#: English text in ASCII without this is one sentence whatever else it has: nothing ends before its end.
_MAY_END: Final = r"[.!?][^.!?]|[^\x00-\x7F]"
#: How a paragraph is split that the library fails on.
_MARKS: Final = re.compile(r"(?<=[.!?…。！？؟۔।])\s+")

#: The library's function: language and text to pieces that join to the text.
Segment = Callable[[str, str], Sequence[str]]


class SentenceSplitter:
    """Cuts paragraphs into sentences, without the blanks around them, by the rules of a language."""

    def __init__(self, language: str, segment: Segment = sentencex.segment) -> None:
        self._language, self._segment = language, segment
        #: paragraphs that the library failed on, split at their full stops instead
        self.failed = 0

    def split(self, paragraphs: Sequence[str]) -> list[list[str]]:
        """The sentences of each paragraph. Paragraphs are stripped, not empty, and hold no empty line."""
        out = [[paragraph] for paragraph in paragraphs]
        places = list(compress(range(len(out)), self._may_end(paragraphs)))
        at: list[int] = []
        size = 0
        for place in places:
            paragraph = paragraphs[place]
            if len(paragraph) > WINDOW and _is_hard(paragraph):
                out[place] = self._in_windows(paragraph)
                continue
            bytes_ = len(_BETWEEN) + (len(paragraph) if paragraph.isascii() else len(paragraph.encode()))
            if size + bytes_ > _CALL:
                self._together(paragraphs, at, out)
                at, size = [], 0
            at.append(place)
            size += bytes_
        self._together(paragraphs, at, out)
        return out

    def _may_end(self, paragraphs: Sequence[str]) -> list[bool]:
        """Which of them may be more than one sentence."""
        if self._language != "en":
            return [True] * len(paragraphs)
        return pl.Series(paragraphs, dtype=pl.String).str.contains(_MAY_END).to_list()

    def _together(self, paragraphs: Sequence[str], places: list[int], out: list[list[str]]) -> None:
        """Split those at `places` in one call; one by one where it fails or does not give what it should."""
        if not places:
            return
        found = self._called(_BETWEEN.join([paragraphs[i] for i in places]))
        groups: list[Sequence[str]] = [] if found is None else _grouped(found)
        if len(groups) != len(places):
            groups = [self._one(paragraphs[i]) for i in places]
        for place, sentences in zip(places, groups, strict=True):
            out[place] = _stripped(sentences)

    def _one(self, paragraph: str) -> Sequence[str]:
        found = self._called(paragraph)
        if found is not None:
            return found
        self.failed += 1
        return _MARKS.split(paragraph)

    def _called(self, text: str) -> Sequence[str] | None:
        """What the library makes of a text; None where it fails."""
        try:
            return self._segment(self._language, text)
        except BaseException as error:
            if isinstance(error, MemoryError) or not (isinstance(error, Exception) or _is_panic(error)):
                raise
            return None

    def _in_windows(self, paragraph: str) -> list[str]:
        """A long paragraph in time that grows with its length alone: a sentence is at most looked at twice.

        A window ends at a blank where it has one. Its last sentence may go on, so the next window begins with it; where
        it is long it is not looked at again, and goes on with the next window's first.
        """
        out: list[str] = []
        head: list[str] = []  # of a sentence that goes on
        rest = ""
        for piece in _windows(paragraph):
            parts = list(self._one(rest + piece))
            parts[0] = "".join([*head, parts[0]])
            last = parts.pop()
            out += parts
            head, rest = ([last], "") if len(last) > WINDOW // 2 else ([], last)
        return _stripped([*out, "".join([*head, rest])])


def _is_hard(paragraph: str) -> bool:
    return len(_STOPS.findall(paragraph)) * len(_MARKED.findall(paragraph)) > HARD


def _is_panic(error: BaseException) -> bool:
    return type(error).__module__ == "pyo3_runtime"


def _windows(text: str) -> Iterator[str]:
    begin = 0
    while begin < len(text):
        end = min(begin + WINDOW, len(text))
        if end < len(text) and (blank := text.rfind(" ", begin, end)) > begin:
            end = blank + 1
        yield text[begin:end]
        begin = end


def _grouped(pieces: Sequence[str]) -> list[Sequence[str]]:
    """Pieces of each paragraph; an empty line stands between two."""
    groups: list[list[str]] = [[]]
    for piece in pieces:
        if piece == _BETWEEN:
            groups.append([])
        else:
            groups[-1].append(piece)
    return list(groups)


def _stripped(parts: Sequence[str]) -> list[str]:
    return [stripped for part in parts if (stripped := part.strip())]
