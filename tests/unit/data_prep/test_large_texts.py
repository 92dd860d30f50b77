"""Reddit comments, film reviews and plays, in all three units, against counts made another way."""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from terry.data_prep.batches import StreamBatches
from terry.data_prep.config import Clean, DatasetConfig, Format, Level, SplitBy, SplitConfig, Splitter, Tokenizer, Unit
from terry.data_prep.dataset import Dataset
from terry.data_prep.segment import Segmenter
from tests.unit.data_prep.conftest import Make

UNITS = list(Unit)
ALL = SplitConfig(train=1, valid=0, test=0)
SPACED: dict[str, Any] = {"tokenizer": Tokenizer.whitespace, "splitter": Splitter.lines, "split": ALL, "clean": []}


def counts(dataset: Dataset) -> Counter[str]:
    """Occurrences of each token, from the arrays."""
    found = np.bincount(dataset.split("train").tokens, minlength=len(dataset.vocabulary))
    return Counter({token: int(n) for token, n in zip(dataset.vocabulary.tokens, found, strict=True) if n})


@pytest.mark.parametrize("unit", UNITS)
def test_film_reviews(make: Make, shared: Path, unit: Unit) -> None:
    """Read independently by polars; the text is tokenised by blanks and has a sentence on each line."""
    bodies = pl.read_csv(shared / "movie-reviews.csv")["body"].to_list()
    assert len(bodies) == 2000
    sentences = sum(1 for body in bodies for line in body.split("\n") if line.strip())
    expected = Counter(word for body in bodies for word in body.split())
    prepared, dataset = make(source=str(shared / "movie-reviews.csv"), unit=unit, **SPACED)
    found = counts(dataset)
    ends = {
        Unit.sentence: (sentences, 0, 0),
        Unit.paragraph: (0, sentences, 0),
        Unit.story: (0, sentences - 2000, 2000),
    }
    for mark, n in zip(("<sentence>", "<paragraph>", "<story>"), ends[unit], strict=True):
        assert found.pop(mark, 0) == n, mark
    assert found == expected
    assert dataset.split("train").examples == (2000 if unit is Unit.story else sentences)
    assert prepared.report.files[0].rows == 2000
    assert dataset.manifest.splits["train"].words == expected.total()


@pytest.mark.parametrize("unit", UNITS)
def test_reddit_comments(make: Make, shared: Path, unit: Unit) -> None:
    """The last comment of this file is cut short within its quotation marks: it is left out, and said."""
    whole = (shared / "reddit-comments-sample.csv").read_bytes().splitlines(keepends=True)[:873]
    rows = [html.unescape(row) for row in pl.read_csv(b"".join(whole))["body"]]
    assert len(rows) == 211
    paragraphs = [p for row in rows for p in re.split(r"\n+", row) if p.strip()]
    words = Counter(word for row in rows for word in row.lower().split())
    prepared, dataset = make(
        source=str(shared / "reddit-comments-sample.csv"), unit=unit, **(SPACED | {"clean": [Clean.html_entities]})
    )
    found = counts(dataset)
    assert (prepared.report.files[0].rows, prepared.report.files[0].ragged) == (212, 1)
    for mark in ("<sentence>", "<paragraph>", "<story>"):
        found.pop(mark, None)
    assert dataset.split("train").examples == (len(rows) if unit is Unit.story else len(paragraphs))
    assert found == words


@pytest.mark.parametrize("unit", UNITS)
def test_plays(make: Make, shared: Path, unit: Unit) -> None:
    text = (shared / "tinyshakespeare.txt").read_text()
    blocks = [b for b in text.split("\n\n") if b.strip()]
    dataset = make(source=str(shared / "tinyshakespeare.txt"), unit=unit, **SPACED)[1]
    found = counts(dataset)
    for mark in ("<sentence>", "<paragraph>", "<story>"):
        found.pop(mark, None)
    assert found.total() == len(text.split())
    lines = sum(1 for line in text.splitlines() if line.strip())
    number = {Unit.sentence: lines, Unit.paragraph: len(blocks), Unit.story: 1}
    assert dataset.split("train").examples == number[unit]
    assert found == Counter(text.lower().split())


def test_plays_by_the_character_are_the_standard(make: Make, shared: Path) -> None:
    """65 characters and four special tokens; the first nine tenths are train, and nothing is changed."""
    text = (shared / "tinyshakespeare.txt").read_text()
    split = SplitConfig(train=0.9, valid=0.1, test=0, by=SplitBy.order)
    dataset = make(source=str(shared / "tinyshakespeare.txt"), unit=Unit.story, level=Level.character, split=split)[1]
    assert len(dataset.vocabulary) == 65 + 4
    train, valid = dataset.split("train").tokens, dataset.split("valid").tokens
    assert len(train) == round(0.9 * (len(text) + 1))
    assert "".join(dataset.vocabulary.decode(np.concatenate([train, valid]))) == text + "<story>"
    assert StreamBatches(train, batch_size=32, bptt=64).tokens_per_epoch == 32 * (len(train) // 32 - 1)


def test_sentences_of_the_reviews_are_mostly_their_lines(shared: Path) -> None:
    """The rules find within a line what its author took for one sentence, nearly always."""
    lines = [line for body in pl.read_csv(shared / "movie-reviews.csv")["body"].head(200) for line in body.split("\n")]
    segmenter = Segmenter.of(DatasetConfig(source="x"), Format.csv)
    single = [segmenter.mark(line, last=True).examples == 1 for line in lines if line.strip()]
    assert sum(single) / len(single) > 0.95


def test_no_character_is_lost_on_the_way(make: Make, shared: Path) -> None:
    """Sentences by the rules and words by the pattern, on all three texts: blanks go, every other character stays."""
    bodies = pl.read_csv(shared / "movie-reviews.csv")["body"].to_list()
    plays = (shared / "tinyshakespeare.txt").read_text()
    for name, text in (("movie-reviews.csv", "".join(bodies)), ("tinyshakespeare.txt", plays)):
        dataset = make(source=str(shared / name), split=ALL, clean=[])[1]
        found: Counter[str] = Counter()
        for token, n in counts(dataset).items():
            if token != "<sentence>":
                found.update({character: n * token.count(character) for character in set(token)})
        assert found == Counter("".join(text.lower().split()))
