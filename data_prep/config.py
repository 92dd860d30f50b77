"""One entry of `datasets:` in a sweep file, typed so that OmegaConf can read it as a structured config.

Standard library only: the command line imports this before anything heavy.
"""

from __future__ import annotations

import codecs
import dataclasses
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from terry.data_prep.errors import DataError
from terry.data_prep.idle import idle_settings


class Format(Enum):
    """How a source file is laid out."""

    auto = "auto"  #: by the file's name: .csv, .tsv/.tab, .jsonl/.ndjson/.json, .parquet, .arrow/.feather, else text
    csv = "csv"  #: rows with a delimiter (sniffed unless given) and quotes
    tsv = "tsv"  #: the same, delimited by tabs
    jsonl = "jsonl"  #: one JSON object a line
    parquet = "parquet"  #: a table of Apache Parquet
    arrow = "arrow"  #: a table of Apache Arrow, as a file (Feather) or as a stream (the `datasets` library)
    text = "text"  #: plain text; one file is one story


class Ragged(Enum):
    """What to do with a row that has another number of fields than the header, or a line that is not JSON."""

    skip = "skip"  #: leave it out and count it
    keep = "keep"  #: use its text where the row reaches the column, and count it
    refuse = "refuse"  #: stop, naming the file and line


class Unit(Enum):
    """What one example is."""

    sentence = "sentence"
    paragraph = "paragraph"
    story = "story"  #: a whole row of a table, or a whole text file


class Level(Enum):
    """What one token is."""

    word = "word"
    character = "character"  #: a Unicode code point; the text is kept as it is, line breaks included


class Tokenizer(Enum):
    """How text becomes words."""

    words = "words"  #: words, numbers, web addresses, emoji and punctuation marks; CJK by the character
    whitespace = "whitespace"  #: what stands between blanks, for text that is tokenised already


class Splitter(Enum):
    """How a paragraph becomes sentences."""

    rules = "rules"  #: the sentencex library
    lines = "lines"  #: one sentence a line, for text that is split already


class Paragraphs(Enum):
    """What ends a paragraph."""

    auto = "auto"  #: `line` in tables, `blank_line` in plain text
    line = "line"  #: one or more line breaks
    blank_line = "blank_line"  #: an empty line; single line breaks only wrap the text


class Inner(Enum):
    """Which boundaries are marked inside an example that is a paragraph or a story."""

    auto = "auto"  #: `sentence` at word level, `none` at character level
    none = "none"
    paragraph = "paragraph"  #: the ends of paragraphs
    sentence = "sentence"  #: the ends of sentences and paragraphs


class Deduplicate(Enum):
    """Which repetitions are left out; the first one stays."""

    none = "none"
    story = "story"  #: stories whose cleaned text was seen before
    example = "example"  #: examples whose tokens were seen before


class SplitBy(Enum):
    """What is assigned as a whole to train, valid or test."""

    auto = "auto"  #: `story` where there are at least 20 stories, else `order`
    story = "story"  #: by a hash of seed and text: stays the same when data is added
    order = "order"  #: the first part is train, the last part test: the custom for a single book


class Choose(Enum):
    """Which examples `max_examples` keeps."""

    first = "first"  #: the first ones read, which also ends reading early
    random = "random"  #: drawn by the seed from all of them


class Clean(Enum):
    """A cleaning step. Steps run in the order of this list, whatever the order in the file."""

    deleted = "deleted"  #: leave out rows that say only [deleted] or [removed]
    html_entities = "html_entities"  #: `&gt;` becomes `>`
    html_tags = "html_tags"  #: `<br>` and the like become blanks
    markdown = "markdown"  #: Reddit's: links keep their text; emphasis, headings, rules and code marks go
    quotes_of_others = "quotes_of_others"  #: leave out lines that begin with `>`
    urls = "urls"  #: web addresses become the word URL
    control = "control"  #: control characters, byte-order marks and zero-width spaces go
    straight_quotes = "straight_quotes"  #: curly quotation marks and apostrophes become straight ones
    nfc = "nfc"  #: Unicode normal form C: a letter and its combining mark become one character where there is one


DEFAULT_CLEAN = (Clean.deleted, Clean.html_entities, Clean.control, Clean.nfc)


#: Formats whose rows have columns, of which `column` names one.
COLUMNAR = (Format.csv, Format.tsv, Format.jsonl, Format.parquet, Format.arrow)
#: Formats that are bytes, not text in some encoding.
BINARY = (Format.parquet, Format.arrow)
_DELIMITED = (Format.csv, Format.tsv)


#: Metadata of a setting that 0.1 did not have: at its default it is no part of what a data set is named after.
ADDED = {"added": True}


def _only(needs: str, holds: Callable[[Any], bool]) -> dict[str, Any]:
    """Metadata of a setting that has an effect only where `holds` says so; see terry.data_prep.idle."""
    return {"applies": (needs, holds)}


def _must(words: str, holds: Callable[[int], bool]) -> dict[str, Any]:
    """Metadata of a number's bounds. The sweep file's reader (terry.cluster.config.typed) knows them, too."""
    return {"must": (words, holds)}


_FROM_0 = _must("be at least 0", lambda v: v >= 0)
_FROM_1 = _must("be at least 1", lambda v: v >= 1)
_ENTRIES = _must("be 0 (no limit) or at least 5 (four are special)", lambda v: v == 0 or v >= 5)


def _read_as(*formats: Format) -> dict[str, Any]:
    """Metadata of a setting that has an effect only on files of these formats."""
    return {"formats": formats}


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig:
    """Shares of train, valid and test; they add up to 1."""

    #: share of the data that is trained on
    train: float = 0.9
    #: share that early stopping and annealing look at
    valid: float = 0.05
    #: share that is looked at last
    test: float = 0.05
    #: what is assigned as a whole
    by: SplitBy = field(
        default=SplitBy.auto, metadata=_only("shares of valid or test above 0", lambda c: c.valid > 0 or c.test > 0)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """What to read and what to make of it. Paths are relative to the sweep file; `~` is the home folder."""

    #: a path, a folder, a glob, or a list of them
    source: Any = field(default=None, metadata={"text": True})
    #: files that are the valid split as they are; `split` then divides the rest
    valid_source: Any = field(default=None, metadata={"text": True})
    #: files that are the test split as they are
    test_source: Any = field(default=None, metadata={"text": True})
    #: layout of the files
    format: Format = Format.auto
    #: the column (CSV, TSV) or key (JSON lines) with the text; a number counts columns from 0
    column: str | None = field(default=None, metadata=_read_as(*COLUMNAR))
    #: whether the first row of a CSV or TSV file names the columns
    header: bool = field(default=True, metadata=_read_as(*_DELIMITED))
    #: one character between fields; found out unless given
    delimiter: str | None = field(default=None, metadata=_read_as(*_DELIMITED))
    #: one quotation character, or "none"; found out unless given
    quote: str | None = field(default=None, metadata=_read_as(*_DELIMITED))
    #: one character that takes the next one literally, as in \" (doubled quotes are always understood)
    escape: str | None = field(default=None, metadata=_read_as(*_DELIMITED))
    #: any name that Python knows; found out unless given
    encoding: str | None = field(
        default=None, metadata=_read_as(*(each for each in Format if each not in (Format.auto, *BINARY)))
    )
    #: what to do with rows that do not fit the header
    ragged: Ragged = field(default=Ragged.skip, metadata=_read_as(*COLUMNAR))
    #: what one example is
    unit: Unit = Unit.sentence
    #: what one token is
    level: Level = Level.word
    #: how text becomes words
    tokenizer: Tokenizer = field(
        default=Tokenizer.words, metadata=_only("level: word", lambda c: c.level is Level.word)
    )
    #: how paragraphs become sentences
    splitter: Splitter = field(
        default=Splitter.rules,
        metadata=_only("unit: sentence, or inner_boundaries: sentence", lambda c: c.in_sentences),
    )
    #: whether an empty line counts as a sentence without words, as WikiText's published counts of tokens have it
    keep_empty_lines: bool = field(
        default=False,
        metadata=_only(
            "splitter: lines and unit: sentence", lambda c: c.splitter is Splitter.lines and c.unit is Unit.sentence
        )
        | ADDED,
    )
    #: language code for the sentence splitter (en, de, el, zh ...), which knows a related one where it has no rules
    language: str = field(
        default="en",
        metadata=_only(
            "splitter: rules, and unit: sentence or inner_boundaries: sentence",
            lambda c: c.in_sentences and c.splitter is Splitter.rules,
        ),
    )
    #: what ends a paragraph
    paragraphs: Paragraphs = field(
        default=Paragraphs.auto,
        metadata=_only(
            "unit: sentence or paragraph, or inner_boundaries other than none",
            lambda c: c.unit is not Unit.story or c.inner is not Inner.none,
        ),
    )
    #: boundaries marked inside paragraphs and stories
    inner_boundaries: Inner = field(
        default=Inner.auto,
        metadata=_only("unit: paragraph or story", lambda c: c.unit is not Unit.sentence),
    )
    #: lower case; left out: yes for words, no for characters. Sentences are split before.
    lowercase: bool | None = None
    #: cleaning steps
    clean: list[Clean] = field(default_factory=lambda: list(DEFAULT_CLEAN))
    #: which repetitions are left out
    deduplicate: Deduplicate = Deduplicate.none
    #: shorter examples are left out; tokens, the boundary token not counted
    min_tokens: int = field(default=1, metadata=_FROM_1)
    #: longer examples are left out; 0 = no limit
    max_tokens: int = field(default=0, metadata=_FROM_0)
    #: examples of `source` to keep, all splits together; 0 = all
    max_examples: int = field(default=0, metadata=_FROM_0)
    #: which examples `max_examples` keeps
    choose: Choose = field(default=Choose.first, metadata=_only("max_examples above 0", lambda c: c.max_examples > 0))
    #: entries of the vocabulary, the four special tokens included; 0 = all that reach min_count
    vocabulary_size: int = field(default=0, metadata=_ENTRIES)
    #: rarer words of the train split become the unknown word
    min_count: int = field(default=1, metadata=_FROM_1)
    #: name of another data set of the file, or name or folder of a prepared one, whose vocabulary is used
    vocabulary_from: str | None = None
    #: word2vec (.txt, .vec, .bin) or GloVe file with vectors for the vocabulary
    embeddings: str | None = None
    #: shares of train, valid and test
    split: SplitConfig = field(default_factory=SplitConfig)
    #: decides the split and the random choice
    seed: int = field(
        default=1,
        metadata=_only(
            "choose: random, or split.by other than order with shares of valid or test above 0",
            lambda c: (
                c.choose is Choose.random
                or (c.split.by is not SplitBy.order and (c.split.valid > 0 or c.split.test > 0))
            ),
        ),
    )
    #: a note that travels with the data
    licence: str | None = None

    @property
    def lower(self) -> bool:
        """Whether text is lower-cased, the default by level filled in."""
        return self.level is Level.word if self.lowercase is None else self.lowercase

    @property
    def inner(self) -> Inner:
        """The boundaries marked inside an example, the default by level filled in."""
        if self.inner_boundaries is not Inner.auto:
            return self.inner_boundaries
        return Inner.sentence if self.level is Level.word else Inner.none

    @property
    def in_paragraphs(self) -> bool:
        """Whether it matters where paragraphs end: not for whole stories, nor for sentences that are lines."""
        if self.unit is Unit.sentence:
            return self.splitter is Splitter.rules
        return self.unit is Unit.paragraph or self.inner is not Inner.none

    @property
    def fewest_tokens(self) -> int:
        """The length of the shortest example that is kept, in tokens, the boundary token not counted."""
        return 0 if self.keep_empty_lines else self.min_tokens

    @property
    def in_sentences(self) -> bool:
        """Whether the ends of sentences are looked for."""
        return self.unit is Unit.sentence or self.inner is Inner.sentence


def source_list(source: Any, key: str = "source") -> list[str]:
    """`source` as a list of patterns."""
    patterns = [source] if isinstance(source, str) else source
    if not isinstance(patterns, (list, tuple)) or not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise DataError(f"{key} must be a path or a list of paths, not {source!r}")
    return list(patterns)


def check_name(name: str) -> None:
    """A data set's name becomes a folder's name, so it must be harmless."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise DataError(
            f"{name!r} cannot name a data set: letters, digits, '.', '_' and '-' only, at most 64, "
            "beginning with a letter or digit"
        )


def validate(config: DatasetConfig) -> None:
    """Raise DataError with what is wrong and what would be right."""
    source_list(config.source)
    for key in ("valid_source", "test_source"):
        if getattr(config, key) is not None:
            source_list(getattr(config, key), key)
    _check_dialect(config)
    _check_numbers(config)
    _check_split(config)
    for idle in idle_settings(config):
        raise DataError(f"{idle.describe()}; leave it out", ".".join(idle.path))
    if config.vocabulary_from is not None and (config.vocabulary_size or config.min_count > 1):
        raise DataError("vocabulary_from takes another vocabulary as it is: leave out vocabulary_size and min_count")
    if config.embeddings is not None and config.level is Level.character:
        raise DataError("embeddings are vectors of words: they cannot be used with level: character")


def unread_settings(config: DatasetConfig, formats: Collection[Format]) -> list[tuple[str, str]]:
    """Settings that were changed and have no effect on files of these formats, each with what would read it."""
    return [
        (field.name, " or ".join(read.value for read in field.metadata["formats"]))
        for field in dataclasses.fields(config)
        if "formats" in field.metadata
        and getattr(config, field.name) != field.default
        and not set(formats) & set(field.metadata["formats"])
    ]


def _check_dialect(config: DatasetConfig) -> None:
    for key in ("delimiter", "escape", "quote"):
        value = getattr(config, key)
        if value is None or (key == "quote" and value == "none"):
            continue
        if len(value) != 1 or value in "\r\n":
            raise DataError(f"{key} must be one character{' or none' if key == 'quote' else ''}, not {value!r}")
    if not re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]+)*", config.language):
        raise DataError(f"language must be a code such as en, de or zh, not {config.language!r}")
    if config.encoding is not None:
        try:
            codecs.lookup(config.encoding)
        except LookupError:
            raise DataError(
                f"encoding {config.encoding!r} is not known; utf-8, utf-16 and cp1252 are, for example"
            ) from None


def _check_numbers(config: DatasetConfig) -> None:
    for bounded in dataclasses.fields(config):
        words, holds = bounded.metadata.get("must", ("", lambda _: True))
        if not holds(value := getattr(config, bounded.name)):
            raise DataError(f"{bounded.name} must {words}, not {value}", bounded.name)
    if config.keep_empty_lines and config.min_tokens > 1:
        raise DataError(f"keep_empty_lines keeps examples without tokens, min_tokens ({config.min_tokens}) drops them")
    if config.max_tokens and config.max_tokens < config.min_tokens:
        raise DataError(f"max_tokens ({config.max_tokens}) is less than min_tokens ({config.min_tokens})")


def _check_split(config: DatasetConfig) -> None:
    split = config.split
    shares = (split.train, split.valid, split.test)
    if any(not 0 <= share <= 1 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise DataError(
            f"split must be shares that add up to 1, not train {split.train}, valid {split.valid}, test {split.test}"
        )
    for key, share in (("valid", split.valid), ("test", split.test)):
        if getattr(config, f"{key}_source") is not None and share > 0:
            raise DataError(f"{key}_source is the {key} split: set split.{key} to 0")
    if split.train == 0:
        raise DataError("split.train is 0: there would be nothing to train on")
