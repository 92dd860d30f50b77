"""The token-to-number table of a data set, and the way back to readable text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from terry.data_prep.clean import clean_text
from terry.data_prep.config import Clean, Level, Tokenizer, Unit
from terry.data_prep.errors import DataError
from terry.data_prep.tokens import (
    PARAGRAPH,
    SENTENCE,
    SPECIAL,
    STORY,
    UNKNOWN,
    detokenise_plain,
    detokenise_words,
    words,
)

VERSION = 1


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """A vocabulary as a JSON document."""

    #: version of this layout
    version: int
    #: one of the levels in config
    level: Level
    #: how text becomes words
    tokenizer: Tokenizer
    #: whether text is lower-cased first
    lowercase: bool
    #: cleaning done first
    clean: list[Clean]
    #: the tokens; their place is their id
    tokens: list[str]
    #: how often each stood in the train split
    counts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Tokens numbered from 0; the first four are special: unknown, and the ends of a sentence, a paragraph, a story.

    An example begins where another ended, so the token that ends the unit also starts it: to sample a sentence, feed
    `boundary(Unit.sentence)` and draw until it (or a coarser boundary) comes again.
    """

    #: all tokens; a token's place is its id
    tokens: tuple[str, ...]
    #: occurrences of each token in the train split (0 for a borrowed vocabulary's unseen words)
    counts: tuple[int, ...]
    #: words or characters
    level: Level
    #: how text becomes words
    tokenizer: Tokenizer
    #: whether text is lower-cased before it is looked up
    lowercase: bool
    #: cleaning done before it is looked up
    clean: tuple[Clean, ...]
    #: token -> id
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tokens[: len(SPECIAL)] != SPECIAL:
            raise DataError(f"a vocabulary must begin with {', '.join(SPECIAL)}, not {', '.join(self.tokens[:4])}")
        if len(self.counts) != len(self.tokens):
            raise DataError(f"a vocabulary of {len(self.tokens)} tokens has {len(self.counts)} counts")
        object.__setattr__(self, "index", {token: i for i, token in enumerate(self.tokens)})
        if len(self.index) != len(self.tokens):
            raise DataError("a vocabulary holds the same token twice")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def unknown(self) -> int:
        """Id of the unknown token."""
        return UNKNOWN

    @staticmethod
    def boundary(unit: Unit) -> int:
        """Id of the token that ends (and so starts) a unit."""
        return {Unit.sentence: SENTENCE, Unit.paragraph: PARAGRAPH, Unit.story: STORY}[unit]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, cleaned and tokenised like the data; no boundary tokens are added."""
        cleaned = clean_text(text, self.clean)
        cleaned = cleaned.lower() if self.lowercase else cleaned
        pieces: Iterable[str] = cleaned if self.level is Level.character else words(cleaned, self.tokenizer)
        return [self.id_of(piece) for piece in pieces]

    def id_of(self, token: str) -> int:
        """Id of one token. A text that spells out a boundary token means the characters, so that is unknown."""
        found = self.index.get(token, UNKNOWN)
        return found if found >= len(SPECIAL) else UNKNOWN

    def decode(self, ids: Iterable[int] | NDArray[np.integer]) -> list[str]:
        """Tokens of some ids."""
        return [self.tokens[int(i)] for i in ids]

    def detokenise(self, ids: Iterable[int] | NDArray[np.integer]) -> str:
        """Readable text; boundaries become blanks and empty lines."""
        tokens = self.decode(ids)
        if self.level is Level.character:
            return detokenise_plain(tokens, "")
        return detokenise_plain(tokens, " ") if self.tokenizer is Tokenizer.whitespace else detokenise_words(tokens)

    def sha256(self) -> str:
        """Hash of what decides how text is encoded."""
        settings = [self.level.value, self.tokenizer.value, str(self.lowercase), *(step.value for step in self.clean)]
        return hashlib.sha256(msgspec.json.encode([settings, self.tokens])).hexdigest()

    def to_json(self) -> str:
        """The vocabulary as one JSON document."""
        document = _Document(
            version=VERSION,
            level=self.level,
            tokenizer=self.tokenizer,
            lowercase=self.lowercase,
            clean=list(self.clean),
            tokens=list(self.tokens),
            counts=list(self.counts),
        )
        return msgspec.json.format(msgspec.json.encode(document), indent=0).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Vocabulary:
        """Read what `to_json` wrote."""
        try:
            document = msgspec.json.decode(text, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"not a vocabulary: {error}") from None
        if document.version != VERSION:
            raise DataError(f"a vocabulary of version {document.version}; this release reads version {VERSION}")
        return cls(
            tokens=tuple(document.tokens),
            counts=tuple(document.counts),
            level=document.level,
            tokenizer=document.tokenizer,
            lowercase=document.lowercase,
            clean=tuple(document.clean),
        )


def special_first(tokens: Sequence[str]) -> tuple[str, ...]:
    """The special tokens, then `tokens`."""
    return SPECIAL + tuple(tokens)
